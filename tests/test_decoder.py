"""The decoder, alone: against the NumPy float64 oracle, and its two ways of running."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf

from seq2seq.decoder import Decoder, shift_right
from seq2seq.dropout import DropoutRates
from seq2seq.errors import UsageError
from seq2seq.lstm import LSTMState

B, T, S, V, E, H, D = 3, 4, 5, 7, 3, 5, 6
MEMORY_LENGTHS = (5, 1, 3)
TARGET_LENGTHS = (2, 4, 1)
WIDE: dict[str, Any] = {"attention": "luong", "attention_layer": "first", "residual": True}
KINDS = pytest.mark.parametrize(
    "kind",
    [
        {"attention": "none", "layers": 1},
        {"attention": "none", "layers": 2, "tied_output": True},
        {"attention": "luong", "layers": 2},
        {"attention": "luong", "layers": 1, "tied_output": True},
        {"layers": 3, **WIDE},
    ],
    ids=["plain", "plain-tied", "attention", "attention-tied", "first-layer-residual"],
)


def random_decoder(
    *,
    attention: Any = "luong",
    tied_output: bool = False,
    layers: int = 2,
    **options: Any,
) -> Decoder:
    """A decoder with random weights, biases too."""
    decoder = Decoder(
        V,
        units=H,
        layers=layers,
        embedding_size=E,
        attention=attention,
        memory_size=D,
        tied_output=tied_output,
        **options,
    )
    decoder.build()
    random = np.random.default_rng(3)
    for weight in decoder.trainable_weights:
        weight.assign(random.normal(scale=0.6, size=weight.shape))
    return decoder


def oracle_weights(decoder: Decoder) -> dict[str, np.ndarray]:
    weights = {"embedding": decoder.embedding, "output_bias": decoder.output_bias}
    if not decoder.tied_output:
        weights["output_kernel"] = decoder.output_kernel
    elif decoder.attention is None:
        weights["feature_kernel"] = decoder.feature_kernel
    for index, layer in enumerate(decoder.stack):
        for name in ("kernel", "recurrent_kernel", "bias"):
            weights[f"layer_{index}/{name}"] = getattr(layer, name)
    if decoder.attention is not None:
        for name in ("score_kernel", "combine_kernel", "combine_bias"):
            weights[f"attention/{name}"] = getattr(decoder.attention, name)
    assert len(weights) == len(decoder.trainable_weights)
    return {name: weight.numpy().astype(np.float64) for name, weight in weights.items()}


def random_ids() -> tf.Tensor:
    return tf.constant(np.random.default_rng(4).integers(0, V, size=(B, T)), tf.int32)


def random_state(layers: int) -> tuple[LSTMState, ...]:
    random = np.random.default_rng(5)
    return tuple(
        LSTMState(*(tf.constant(random.normal(size=(B, H)), tf.float32) for _ in range(2)))
        for _ in range(layers)
    )


def random_values() -> np.ndarray:
    return np.random.default_rng(6).normal(size=(B, S, D))


def memory_of(decoder: Decoder) -> Any:
    return decoder.memory(tf.constant(random_values(), tf.float32), tf.constant(MEMORY_LENGTHS))


def oracle_logits(decoder: Decoder) -> np.ndarray:
    states = [
        oracles.CellState(state.h.numpy().astype(np.float64), state.c.numpy().astype(np.float64))
        for state in random_state(len(decoder.stack))
    ]
    memory = oracles.EncoderOutput(random_values(), []) if decoder.attention else None
    architecture = oracles.Architecture(
        attends_first=decoder.attended_layer == 0, residual=decoder.residual
    )
    weights = oracle_weights(decoder)
    return oracles.decoder_logits(
        random_ids().numpy(), states, memory, MEMORY_LENGTHS, weights, architecture
    )


@KINDS
def test_logits_equal_the_oracle(kind: dict[str, Any]) -> None:
    decoder = random_decoder(**kind)
    logits, _ = decoder(random_ids(), random_state(len(decoder.stack)), memory_of(decoder))
    assert logits.shape == (B, T, V)
    np.testing.assert_allclose(logits, oracle_logits(decoder), rtol=1e-5, atol=3e-6)


@KINDS
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_steps_one_by_one_equal_the_whole_sequence(kind: dict[str, Any], dtype: str) -> None:
    decoder = random_decoder(**kind, dtype=dtype)
    ids, state, memory = random_ids(), random_state(len(decoder.stack)), memory_of(decoder)
    whole, final = decoder(ids, state, memory)
    tolerance = 1e-5 if dtype == "float32" else 3e-2
    for position in range(T):
        logits, state = decoder.step(ids[:, position], state, memory)
        assert logits.dtype == tf.float32
        np.testing.assert_allclose(logits, whole[:, position], rtol=tolerance, atol=tolerance)
    for one, other in zip(state, final, strict=True):
        for stepped, read in zip(one, other, strict=True):
            np.testing.assert_allclose(
                tf.cast(stepped, tf.float32),
                tf.cast(read, tf.float32),
                rtol=tolerance,
                atol=tolerance,
            )


@KINDS
def test_state_and_memory_can_be_reordered_by_row(kind: dict[str, Any]) -> None:
    """What beam search does: one gather on axis 0 of every leaf."""
    decoder = random_decoder(**kind)
    ids, state, memory = random_ids()[:, 0], random_state(len(decoder.stack)), memory_of(decoder)
    order = tf.constant([2, 0, 0, 1])
    logits, new_state = decoder.step(ids, state, memory)
    moved_ids, moved_state, moved_memory = tf.nest.map_structure(
        lambda leaf: tf.gather(leaf, order), (ids, state, memory)
    )
    moved_logits, moved_new_state = decoder.step(moved_ids, moved_state, moved_memory)
    np.testing.assert_allclose(moved_logits, tf.gather(logits, order), rtol=1e-5, atol=1e-6)
    for leaf, moved in zip(
        tf.nest.flatten(new_state), tf.nest.flatten(moved_new_state), strict=True
    ):
        np.testing.assert_allclose(moved, tf.gather(leaf, order), rtol=1e-5, atol=1e-6)


@KINDS
def test_step_keeps_the_structure_and_dtypes_of_its_state(kind: dict[str, Any]) -> None:
    """A compiled loop can carry it, from the zero state on, in either precision."""
    for dtype in ("float32", "mixed_bfloat16"):
        decoder = random_decoder(**kind, dtype=dtype)
        state = decoder.zero_state(B)
        _, after = decoder.step(random_ids()[:, 0], state, memory_of(decoder))
        tf.nest.assert_same_structure(state, after)
        for leaf, new in zip(tf.nest.flatten(state), tf.nest.flatten(after), strict=True):
            assert (leaf.shape, leaf.dtype) == (new.shape, new.dtype)


@KINDS
def test_logits_do_not_depend_on_later_ids(kind: dict[str, Any]) -> None:
    decoder = random_decoder(**kind)
    ids, state, memory = random_ids().numpy(), random_state(len(decoder.stack)), memory_of(decoder)
    changed = ids.copy()
    changed[:, 2:] = (ids[:, 2:] + 1) % V
    before, _ = decoder(tf.constant(ids), state, memory)
    after, _ = decoder(tf.constant(changed), state, memory)
    np.testing.assert_allclose(before[:, :2], after[:, :2], rtol=1e-6, atol=1e-6)
    assert np.abs(before[:, 2:] - after[:, 2:]).max() > 1e-2


@KINDS
def test_projected_token_features_are_the_logits_of_real_positions(kind: dict[str, Any]) -> None:
    decoder = random_decoder(**kind)
    ids, state, memory = random_ids(), random_state(len(decoder.stack)), memory_of(decoder)
    logits, _ = decoder(ids, state, memory)
    features, _ = decoder.token_features(ids, state, memory, tf.constant(TARGET_LENGTHS))
    expected = np.concatenate(
        [logits[row, :length] for row, length in enumerate(TARGET_LENGTHS)]
    )  # [2 + 4 + 1, V]
    np.testing.assert_allclose(decoder.project(features), expected, rtol=1e-5, atol=1e-6)


def test_memory_is_empty_without_attention() -> None:
    assert memory_of(random_decoder(attention="none")) == ()


def test_a_decoder_needs_no_encoder() -> None:
    """The language model: the zero state, no memory, and the default arguments."""
    decoder = random_decoder(attention="none", layers=1)
    logits, _ = decoder(random_ids(), decoder.zero_state(B))
    expected = oracles.decoder_logits(
        random_ids().numpy(), [oracles.zero_state(B, H)], None, (), oracle_weights(decoder)
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=3e-6)


def test_dropout_needs_a_seed_and_is_a_function_of_it() -> None:
    decoder = random_decoder(dropout=0.5)
    without = random_decoder()

    def features(each: Decoder, seed: list[int] | None) -> np.ndarray:
        found, _ = each.token_features(
            random_ids(),
            random_state(2),
            memory_of(each),
            tf.constant(TARGET_LENGTHS),
            None if seed is None else tf.constant(seed),
        )
        return found.numpy()

    np.testing.assert_array_equal(features(decoder, None), features(without, None))
    np.testing.assert_array_equal(features(without, [1, 2]), features(without, None))
    np.testing.assert_array_equal(features(decoder, [1, 2]), features(decoder, [1, 2]))
    assert np.abs(features(decoder, [1, 2]) - features(decoder, [1, 3])).max() > 1e-2
    assert np.abs(features(decoder, [1, 2]) - features(decoder, None)).max() > 1e-2


@KINDS
def test_dropout_thins_features_and_what_the_layers_read(kind: dict[str, Any]) -> None:
    decoder = random_decoder(**kind, dropout=0.5)
    rows = 60
    ids = tf.tile(random_ids()[:1], [rows, 1])
    state = tf.nest.map_structure(
        lambda leaf: tf.repeat(leaf[:1], rows, 0), random_state(len(decoder.stack))
    )
    memory = tf.nest.map_structure(lambda leaf: tf.repeat(leaf[:1], rows, 0), memory_of(decoder))
    lengths = tf.fill([rows], T)
    plain = decoder.token_features(ids, state, memory, lengths)[0].numpy()
    thinned, _ = decoder.token_features(ids, state, memory, lengths, tf.constant([1, 2]))
    thinned = thinned.numpy()
    # At rate 1/2 about half of the 60 * 4 * 3 or 5 features are zero and the others doubled ..
    kept = thinned != 0.0
    assert 0.4 < kept.mean() < 0.6
    # .. and not merely doubled: the layers below read thinned values, different in every row.
    assert np.abs(thinned - 2.0 * plain)[kept].mean() > 1e-2


@KINDS
def test_bfloat16_is_near_float32(kind: dict[str, Any]) -> None:
    decoder = random_decoder(**kind, dtype="mixed_bfloat16")
    logits, _ = decoder(random_ids(), random_state(len(decoder.stack)), memory_of(decoder))
    assert logits.dtype == tf.float32
    assert oracles.relative_error(logits, oracle_logits(decoder)) < 2e-2


def test_an_attention_there_is_none_of_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"^attention: got 'bahdanau', expected 'none' or 'luong'$"
    ):
        Decoder(V, units=H, attention="bahdanau")  # type: ignore[arg-type]


def test_attention_without_the_size_of_its_memory_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^memory_size: missing; attention needs the memory's"):
        Decoder(V, units=H, attention="luong")


def test_a_decoder_in_somebodys_model_builds_itself() -> None:
    decoder = Decoder(V, units=H, embedding_size=E)
    logits, _ = decoder(tf.constant([[1, 2]]), decoder.zero_state(1))
    assert logits.shape == (1, 2, V)


def test_whatever_needs_the_weights_of_a_decoder_first_makes_them() -> None:
    ids, lengths = tf.constant([[1, 2]]), tf.constant([2])

    def without_attention() -> Decoder:
        return Decoder(V, units=H, embedding_size=E)

    attending = Decoder(V, units=H, embedding_size=E, attention="luong", memory_size=D)
    memory = attending.memory(tf.ones([1, S, D]))
    attending(ids, attending.zero_state(1), memory)
    assert len(attending.trainable_weights) == 3 + 3 + 3  # own, LSTM's, attention's

    decoder = without_attention()
    features, _ = decoder.token_features(ids, decoder.zero_state(1), (), lengths)
    expected, _ = decoder(ids, decoder.zero_state(1))
    np.testing.assert_allclose(decoder.project(features), expected[0], rtol=1e-5, atol=1e-6)

    decoder = without_attention()
    logits, _ = decoder.step(ids[:, 0], decoder.zero_state(1))
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-5, atol=1e-6)  # of the same seed

    assert without_attention().project(tf.ones([1, H])).shape == (1, V)
    decoder = without_attention()
    logits, _, _ = decoder.attend(ids, decoder.zero_state(1))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_memory_without_lengths_is_all_real() -> None:
    decoder = random_decoder()
    values = tf.constant(random_values(), tf.float32)
    expected = decoder.memory(values, tf.fill([B], S))
    for ours, theirs in zip(decoder.memory(values), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_any_vectors_make_a_state_that_a_search_can_keep(dtype: str) -> None:
    decoder = random_decoder(attention="none", dtype=dtype)
    pairs = [(tf.ones([B, H]), tf.fill([B, H], 0.1)), (np.zeros([B, H]), tf.zeros([B, H]))]
    state = decoder.state(pairs)
    _, after = decoder.step(tf.ones([B], tf.int32), state)
    tf.nest.assert_same_structure(state, after)
    for before, later in zip(tf.nest.flatten(state), tf.nest.flatten(after), strict=True):
        assert (before.dtype, before.shape) == (later.dtype, later.shape)
    np.testing.assert_array_equal(state[0].c, np.float32(0.1) * np.ones([B, H]))
    with pytest.raises(UsageError, match=r"state: got .* of 1 layers, expected 2"):
        decoder.state(pairs[:1])


def test_what_is_read_is_what_is_said_one_place_later() -> None:
    read = shift_right(tf.constant([[4, 5, 3], [6, 3, 0]]), 2)
    assert read.numpy().tolist() == [[2, 4, 5], [2, 6, 3]]


def test_one_hot_vectors_are_an_embedding_by_the_identity() -> None:
    one_hot = Decoder(V, units=H, layers=2, embedding_size=0, seed=1)
    embedded = Decoder(V, units=H, layers=2, embedding_size=V, seed=1)
    embedded.build()
    embedded.embedding.assign(np.eye(V) / V**0.5)  # embeddings are scaled up by as much
    ids, state = random_ids(), random_state(2)
    logits, after = one_hot(ids, state)
    expected, _ = embedded(ids, state)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert len(one_hot.trainable_weights) == len(embedded.trainable_weights) - 1
    steps = one_hot.stepper()
    for position in range(T):
        step_logits, state = steps(ids[:, position], state)
        np.testing.assert_allclose(step_logits, logits[:, position], rtol=1e-5, atol=1e-6)
    for found, wanted in zip(tf.nest.flatten(state), tf.nest.flatten(after), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_output_tied_to_no_embedding_is_refused() -> None:
    with pytest.raises(UsageError, match="tied_output: needs an embedding"):
        Decoder(V, units=H, embedding_size=0, tied_output=True)


def test_a_number_is_the_rate_of_embeddings_and_layers() -> None:
    of_number = random_decoder(dropout=0.5)
    of_rates = random_decoder(dropout=DropoutRates(layers=0.5, embedding=0.5))
    assert of_number.dropout == of_rates.dropout


@pytest.mark.parametrize("rate", ["embedding", "words", "recurrent"])
def test_each_rate_thins_what_it_is_named_after(rate: str) -> None:
    ids, state, seed = random_ids(), random_state(1), tf.constant([1, 2])
    decoder = random_decoder(attention="none", layers=1, dropout=DropoutRates(**{rate: 0.5}))
    thinned, _ = decoder.token_features(ids, state, dropout_seed=seed)
    plain, _ = random_decoder(attention="none", layers=1).token_features(ids, state)
    np.testing.assert_array_equal(decoder.token_features(ids, state)[0], plain)
    assert (thinned.numpy() != 0).mean() > 0.8  # features themselves are not thinned ..
    assert np.abs(thinned - plain).max() > 1e-3  # .. but what they were made of


def test_token_features_of_whole_sequences_lead_on_to_the_next() -> None:
    decoder = random_decoder(attention="none")
    ids, state = random_ids(), random_state(2)
    whole, after = decoder.token_features(ids, state)
    first, between = decoder.token_features(ids[:, :1], state)
    second, last = decoder.token_features(ids[:, 1:], between)
    parts = np.concatenate(
        [np.reshape(first, [B, 1, -1]), np.reshape(second, [B, T - 1, -1])], axis=1
    )
    np.testing.assert_allclose(np.reshape(whole, [B, T, -1]), parts, rtol=1e-5, atol=1e-6)
    for found, expected in zip(tf.nest.flatten(last), tf.nest.flatten(after), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# In somebody's Keras model


class Speller(keras.Model):
    """Logits of what follows ids `[B, T]`."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.decoder = Decoder(V, units=H, embedding_size=E, **options)

    def call(self, ids: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        state = self.decoder.zero_state(tf.shape(ids)[0])
        logits, _ = self.decoder(ids, state, training=training)
        return logits


IDS = np.random.default_rng(1).integers(0, V, size=(B, T))


@pytest.mark.parametrize(
    "rates",
    [
        {"layers": 0.5},
        {"embedding": 0.5},
        {"words": 0.5},
        {"recurrent": 0.5},
        {"layers": 0.5, "variational": True},
    ],
    ids=lambda rates: "-".join(rates),
)
def test_call_drops_in_training_and_nowhere_else(rates: dict[str, Any]) -> None:
    model = Speller(dropout=DropoutRates(**rates), layers=2)
    as_it_is = model(IDS).numpy()
    np.testing.assert_array_equal(model(IDS, training=False), as_it_is)
    first, second = (model(IDS, training=True).numpy() for _ in range(2))
    assert np.abs(first - as_it_is).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3  # other masks each time
    again = Speller(dropout=DropoutRates(**rates), layers=2)
    np.testing.assert_array_equal(again(IDS, training=True), first)  # which the seed decides


def fitted(*, rate: float, epochs: int, jit_compile: bool) -> tuple[Speller, list[float]]:
    """A model trained by Keras, and its losses."""
    model = Speller(dropout=rate)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=jit_compile)
    history = model.fit(IDS, IDS, epochs=epochs, batch_size=B, verbose=0).history
    return model, history["loss"]


def test_fit_trains_with_dropout_and_without() -> None:
    plain, dropped = (fitted(rate=rate, epochs=3, jit_compile=False)[1] for rate in (0.0, 0.9))
    assert plain[0] > plain[-1]
    assert all(abs(a - b) > 1e-3 for a, b in zip(plain, dropped, strict=True))


def test_what_xla_compiles_trains_and_predicts_too() -> None:
    model, losses = fitted(rate=0.5, epochs=1, jit_compile=True)
    assert np.isfinite(losses).all()
    np.testing.assert_allclose(model.predict(IDS, verbose=0), model(IDS), atol=1e-6)


@KINDS
def test_gradients_are_the_same_however_they_are_computed(kind: dict[str, Any]) -> None:
    decoder = random_decoder(**kind)
    state, found = decoder.zero_state(B), []
    for training in (True, False):
        with tf.GradientTape() as tape:
            memory = memory_of(decoder)
            logits, after = decoder(tf.constant(IDS), state, memory, training=training)
            total = tf.reduce_sum(tf.sin(logits)) + tf.reduce_sum(after[-1].c)
        weights = [weight.value for weight in decoder.trainable_weights]
        found.append([logits, *map(tf.convert_to_tensor, tape.gradient(total, weights))])
    for fast, slow in zip(*found, strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-5)


def test_a_model_with_a_decoder_is_exported(tmp_path: Path) -> None:
    model = Speller(layers=2)
    expected = model(IDS).numpy()
    model.export(str(tmp_path / "model"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    served = loaded.serve(tf.constant(IDS, tf.float32))
    np.testing.assert_allclose(served, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_weights_of_another_type_are_refused(dtype: str) -> None:
    with pytest.raises(UsageError, match=f"^dtype: got '{dtype}', expected 'float32' or 'mixed_"):
        Decoder(V, units=H, dtype=dtype)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"attention_layer": "middle"},
            "attention_layer: got 'middle', expected 'last' or 'first'",
        ),
        ({"attention_heads": 0}, "attention_heads: got 0, expected 1 or more"),
        ({"layers": 0}, "layers: got 0, expected 1 or more"),
    ],
)
def test_what_no_decoder_can_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        Decoder(V, units=H, attention="luong", memory_size=D, **options)
