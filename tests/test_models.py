"""The whole encoder-decoder against the NumPy float64 oracle, and relations it must keep."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import oracles
import pytest
import tensorflow as tf

from seq2seq.config import ModelConfig
from seq2seq.errors import ModelError
from seq2seq.models import TranslationModel, build_model

B, S, T = 3, 4, 4
SOURCE_VOCABULARY, TARGET_VOCABULARY = 7, 6
BOS, SMOOTHING = 2, 0.1
SOURCE_LENGTHS, TARGET_LENGTHS = (4, 1, 3), (2, 4, 1)
BASE: dict[str, Any] = {
    "embedding_size": 3,
    "encoder_layers": 1,
    "encoder_units": 2,
    "bidirectional": True,
    "decoder_layers": 1,
    "decoder_units": 5,
    "attention": "luong",
    "dropout": 0.0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "dense-bridge": {},
    "copy": {"decoder_units": 4, "bridge": "copy"},
    "dense-though-shapes-agree": {"decoder_units": 4, "bridge": "dense"},
    "no-attention": {"attention": "none"},
    "no-attention-tied": {"attention": "none", "tied_embeddings": "target"},
    "tied-target": {"tied_embeddings": "target"},
    "tied-all": {"tied_embeddings": "all", "encoder_layers": 2, "decoder_layers": 2},
    "deeper-encoder": {"encoder_layers": 3, "decoder_layers": 2, "decoder_units": 4},
    "deeper-decoder": {"encoder_layers": 2, "decoder_layers": 4},
    "deeper-decoder-copy": {"decoder_layers": 3, "decoder_units": 4, "bridge": "copy"},
    "one-direction": {"bidirectional": False, "encoder_units": 5, "encoder_layers": 2},
    "first-layer-attends": {"attention_layer": "first", "decoder_layers": 3},
    "two-heads": {"attention_heads": 2, "decoder_units": 4, "decoder_layers": 2},
    "residual": {"residual": True, "encoder_layers": 3, "decoder_layers": 3},
    "all-of-it": {
        **{"residual": True, "encoder_layers": 2, "decoder_layers": 3, "decoder_units": 4},
        **{"attention_layer": "first", "attention_heads": 2, "tied_embeddings": "all"},
    },
    "reversed-source": {"attention": "none", "reverse_source": True, "bidirectional": False},
}
EVERY_CONFIG = pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
# Between them: every kind of weight, copied and dense bridges, both attentions, every tying.
PARTS = (
    *("copy", "no-attention-tied", "tied-all", "deeper-decoder"),
    *("all-of-it", "reversed-source"),
)
EVERY_PART = pytest.mark.parametrize("changes", [CONFIGS[name] for name in PARTS], ids=PARTS)
BOTH_ATTENTIONS = pytest.mark.parametrize("attention", ["none", "luong"])


def initial_model(*, precision: Any = "float32", seed: int = 0, **changes: Any) -> TranslationModel:
    config = ModelConfig(**{**BASE, **changes})
    joint = config.tied_embeddings == "all"
    return build_model(
        config,
        source_vocabulary=TARGET_VOCABULARY if joint else SOURCE_VOCABULARY,
        target_vocabulary=TARGET_VOCABULARY,
        precision=precision,
        seed=seed,
    )


def random_weights(model: TranslationModel, *, scale: float = 0.7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    return {
        name: random.normal(scale=scale, size=weight.shape).astype(np.float32)
        for name, weight in sorted(model.named_weights().items())
    }


def random_model(**changes: Any) -> TranslationModel:
    """A model with random weights, biases too."""
    model = initial_model(**changes)
    model.load(random_weights(model))
    return model


def random_ids(*shape: int, seed: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, TARGET_VOCABULARY, size=shape).astype(np.int32)


def model_logits(
    model: TranslationModel, source: np.ndarray, lengths: tuple[int, ...], target: np.ndarray
) -> np.ndarray:
    logits, _ = model.attend(tf.constant(source), tf.constant(lengths), tf.constant(target))
    return logits.numpy()


def oracle_weights(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's weights under the oracle's names, in float64."""
    named = {}
    for name, value in weights.items():
        name = {"source_embedding": "encoder/embedding"}.get(name, name)
        named[re.sub(r"(layer_\d+)_", r"\1/", name)] = value.astype(np.float64)
    named.setdefault("encoder/embedding", named["decoder/embedding"])  # one for both sides
    return named


def architecture_of(changes: Mapping[str, Any]) -> oracles.Architecture:
    config = ModelConfig(**{**BASE, **changes})
    return oracles.Architecture(
        attends_first=config.attention_layer == "first",
        heads=config.attention_heads,
        residual=config.residual,
        reverse_source=config.reverse_source,
    )


def oracle_logits(
    weights: Mapping[str, np.ndarray], target_input: np.ndarray, changes: Mapping[str, Any]
) -> np.ndarray:
    return oracles.translation_logits(
        oracle_weights(weights),
        random_ids(B, S),
        SOURCE_LENGTHS,
        target_input,
        architecture_of(changes),
    )


def oracle_loss(weights: Mapping[str, np.ndarray], changes: Mapping[str, Any]) -> oracles.Loss:
    """The loss of real tokens, the target shifted right by hand."""
    target = random_ids(B, T, seed=9)
    target_input = np.concatenate([np.full((B, 1), BOS, np.int32), target[:, :-1]], axis=1)
    real = np.arange(T) < np.array(TARGET_LENGTHS)[:, None]
    return oracles.cross_entropy(
        oracle_logits(weights, target_input, changes)[real], target[real], SMOOTHING
    )


def model_loss(model: TranslationModel, seed: list[int] | None = None, **options: Any) -> Any:
    return model.loss(
        tf.constant(random_ids(B, S)),
        tf.constant(SOURCE_LENGTHS),
        tf.constant(random_ids(B, T, seed=9)),
        tf.constant(TARGET_LENGTHS),
        bos_id=BOS,
        label_smoothing=SMOOTHING,
        dropout_seed=None if seed is None else tf.constant(seed),
        **options,
    )


def greedy_ids(model: TranslationModel, state: Any, memory: Any, *, steps: int = 8) -> np.ndarray:
    """The most probable id step after step, `[B, steps]`."""
    ids, found = tf.fill([B], BOS), []
    for _ in range(steps):
        logits, state = model.decoder.step(ids, state, memory)
        ids = tf.argmax(logits, axis=-1, output_type=tf.int32)
        found.append(ids.numpy())
    return np.stack(found, axis=1)


@EVERY_CONFIG
def test_logits_equal_the_oracle(changes: dict[str, Any]) -> None:
    model = random_model(**changes)
    logits = model_logits(model, random_ids(B, S), SOURCE_LENGTHS, random_ids(B, T))
    expected = oracle_logits(random_weights(model), random_ids(B, T), changes)
    assert logits.shape == (B, T, TARGET_VOCABULARY)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=5e-6)


@EVERY_PART
def test_loss_and_the_gradients_of_every_weight_equal_the_oracle(changes: dict[str, Any]) -> None:
    model = random_model(**changes)
    named, weights = model.named_weights(), random_weights(model)
    with tf.GradientTape() as tape:
        loss = model_loss(model)
    expected = oracle_loss(weights, changes)
    np.testing.assert_allclose(loss.total, expected.total, rtol=1e-5)
    np.testing.assert_allclose(loss.nll, expected.nll, rtol=1e-5)
    assert int(loss.correct) == expected.correct
    gradients = tape.gradient(loss.total, [weight.value for weight in named.values()])
    random = np.random.default_rng(10)
    for name, gradient in zip(named, gradients, strict=True):
        assert gradient is not None, name
        gradient = tf.convert_to_tensor(gradient).numpy()
        entries = random.permutation(gradient.size)[:4]
        numerical = oracles.numerical_gradient(
            lambda moved: oracle_loss(moved, changes).total, weights, name, entries
        )
        np.testing.assert_allclose(
            gradient.flat[entries],
            numerical,
            rtol=1e-3,
            atol=1e-5 * np.abs(gradient).max(),
            err_msg=name,
        )


def test_number_of_weights_equals_the_hand_count() -> None:
    # E = 3, one bidirectional encoder layer of 2, one decoder layer of 5, attention, untied:
    # source embedding 7*3 = 21; each direction 4 * (3*2 + 2*2 + 2) = 48, both 96;
    # bridge, h and C each 4*5 + 5 = 25, both 50; target embedding 6*3 = 18;
    # decoder LSTM 4 * (3*5 + 5*5 + 5) = 180; score kernel 4*5 = 20;
    # combination (5+4)*5 + 5 = 50; output 6*5 + 6 = 36. Together 471.
    named = initial_model().named_weights()
    assert sum(int(np.prod(weight.shape)) for weight in named.values()) == 471
    # Tied to the target embedding: features of 3, so 9*3 + 3 = 30 instead of 50, output 6 not 36.
    tied = initial_model(tied_embeddings="target").named_weights()
    assert sum(int(np.prod(weight.shape)) for weight in tied.values()) == 471 - 20 - 30
    # One embedding for all, 6*3 = 18: the 21 of the source are gone as well.
    shared = initial_model(tied_embeddings="all").named_weights()
    assert sum(int(np.prod(weight.shape)) for weight in shared.values()) == 471 - 20 - 30 - 21


@EVERY_PART
def test_every_weight_has_a_name_and_the_names_are_stable(changes: dict[str, Any]) -> None:
    model = initial_model(**changes)
    assert len(model.named_weights()) == len(model.trainable_weights)
    assert list(model.named_weights()) == list(initial_model(**changes).named_weights())


@BOTH_ATTENTIONS
def test_a_sentence_in_a_batch_gets_the_logits_it_gets_alone(attention: str) -> None:
    model = random_model(attention=attention, encoder_layers=2)
    source, target = random_ids(B, S), random_ids(B, T)
    together = model_logits(model, source, SOURCE_LENGTHS, target)
    for row, (source_length, target_length) in enumerate(
        zip(SOURCE_LENGTHS, TARGET_LENGTHS, strict=True)
    ):
        alone = model_logits(
            model,
            source[row : row + 1, :source_length],
            (source_length,),
            target[row : row + 1, :target_length],
        )
        np.testing.assert_allclose(together[row, :target_length], alone[0], rtol=1e-5, atol=1e-5)


@BOTH_ATTENTIONS
def test_ids_in_the_padding_of_the_source_change_nothing(attention: str) -> None:
    model = random_model(attention=attention, encoder_layers=2)
    source, target = random_ids(B, S), random_ids(B, T)
    padding = np.arange(S) >= np.array(SOURCE_LENGTHS)[:, None]
    garbage = np.where(padding, (source + 3) % TARGET_VOCABULARY, source)
    assert (garbage != source).any()
    np.testing.assert_array_equal(
        model_logits(model, garbage, SOURCE_LENGTHS, target),
        model_logits(model, source, SOURCE_LENGTHS, target),
    )


@BOTH_ATTENTIONS
def test_longer_padding_changes_nothing(attention: str) -> None:
    model = random_model(attention=attention, encoder_layers=2)
    source, target = random_ids(B, S), random_ids(B, T)
    longer = np.concatenate([source, random_ids(B, 5, seed=11)], axis=1)
    np.testing.assert_allclose(
        model_logits(model, longer, SOURCE_LENGTHS, target),
        model_logits(model, source, SOURCE_LENGTHS, target),
        rtol=1e-5,
        atol=1e-5,
    )


def test_ids_in_the_padding_of_the_target_do_not_change_the_loss() -> None:
    model = random_model()
    source, lengths = tf.constant(random_ids(B, S)), tf.constant(SOURCE_LENGTHS)
    target = random_ids(B, T, seed=9)
    padding = np.arange(T) >= np.array(TARGET_LENGTHS)[:, None]
    garbage = np.where(padding, (target + 1) % TARGET_VOCABULARY, target)
    clean, dirty = (
        model.loss(source, lengths, tf.constant(ids), tf.constant(TARGET_LENGTHS), bos_id=BOS)
        for ids in (target, garbage)
    )
    np.testing.assert_array_equal(clean.total, dirty.total)
    np.testing.assert_array_equal(clean.nll, dirty.nll)


@EVERY_PART
def test_steps_one_by_one_equal_the_whole_sequence(changes: dict[str, Any]) -> None:
    model = random_model(**changes)
    source, target = random_ids(B, S), random_ids(B, T)
    whole = model_logits(model, source, SOURCE_LENGTHS, target)
    state, memory = model.begin(tf.constant(source), tf.constant(SOURCE_LENGTHS))
    for position in range(T):
        logits, state = model.decoder.step(tf.constant(target[:, position]), state, memory)
        np.testing.assert_allclose(logits, whole[:, position], rtol=1e-5, atol=1e-5)


def test_every_leaf_of_state_and_memory_has_a_row_for_each_sentence() -> None:
    for attention in ("none", "luong"):
        model = initial_model(attention=attention, decoder_layers=2)
        state, memory = model.begin(tf.constant(random_ids(B, S)), tf.constant(SOURCE_LENGTHS))
        assert {leaf.shape[0] for leaf in tf.nest.flatten((state, memory))} == {B}


@pytest.mark.parametrize("bridge", ["copy", "dense"])
def test_swapped_final_states_swap_the_translations(bridge: str) -> None:
    """Without attention all the decoder knows of the source is the encoder's final (h, C)."""
    model = random_model(attention="none", decoder_units=4, bridge=bridge, decoder_layers=2)
    weights = random_weights(model, scale=2.0)  # strong enough for translations that differ
    model.load({**weights, "decoder/output_bias": 0.0 * weights["decoder/output_bias"]})
    state, memory = model.begin(tf.constant(random_ids(B, S)), tf.constant(SOURCE_LENGTHS))
    assert memory == ()
    order = [1, 0, 2]
    swapped = tf.nest.map_structure(lambda leaf: tf.gather(leaf, order), state)
    logits, _ = model.decoder.step(tf.fill([B], BOS), state, ())
    swapped_logits, _ = model.decoder.step(tf.fill([B], BOS), swapped, ())
    np.testing.assert_allclose(swapped_logits, tf.gather(logits, order), rtol=1e-5, atol=1e-6)
    assert np.abs(logits[0] - logits[1]).max() > 1e-2
    translations = greedy_ids(model, state, ())
    assert (translations[0] != translations[1]).any()
    np.testing.assert_array_equal(greedy_ids(model, swapped, ()), translations[order])


@pytest.mark.parametrize("part", ["h", "c"])
@BOTH_ATTENTIONS
def test_both_h_and_c_of_every_layer_reach_the_decoder(part: str, attention: str) -> None:
    model = random_model(attention=attention, encoder_layers=2, decoder_layers=2)
    source = tf.constant(random_ids(B, S))
    state, memory = model.begin(source, tf.constant(SOURCE_LENGTHS))
    logits, _ = model.decoder.step(tf.fill([B], BOS), state, memory)
    for layer in range(2):
        other = state[layer]._replace(**{part: tf.zeros_like(getattr(state[layer], part))})
        changed = (*state[:layer], other, *state[layer + 1 :])
        changed_logits, _ = model.decoder.step(tf.fill([B], BOS), changed, memory)
        assert np.abs(logits - changed_logits).max() > 1e-3


@BOTH_ATTENTIONS
def test_the_source_decides_the_logits(attention: str) -> None:
    model = random_model(attention=attention)
    source, target = random_ids(B, S), random_ids(B, T)
    before = model_logits(model, source, SOURCE_LENGTHS, target)
    for position in range(3):
        changed = source.copy()
        changed[0, position] = (source[0, position] + 1) % TARGET_VOCABULARY
        after = model_logits(model, changed, SOURCE_LENGTHS, target)
        assert np.abs(after[0] - before[0]).max() > 1e-4
        np.testing.assert_allclose(after[1:], before[1:], rtol=1e-6, atol=1e-6)


def test_sentences_of_one_token_work() -> None:
    model = random_model(encoder_layers=2)
    logits = model_logits(model, random_ids(1, 1), (1,), random_ids(1, 1))
    expected = oracles.translation_logits(
        oracle_weights(random_weights(model)), random_ids(1, 1), (1,), random_ids(1, 1)
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=5e-6)


@EVERY_PART
def test_bfloat16_is_near_float32(changes: dict[str, Any]) -> None:
    model = random_model(**changes, precision="bfloat16")
    logits = model_logits(model, random_ids(B, S), SOURCE_LENGTHS, random_ids(B, T))
    expected = oracle_logits(random_weights(model), random_ids(B, T), changes)
    assert logits.dtype == np.float32
    assert oracles.relative_error(logits, expected) < 2e-2
    np.testing.assert_allclose(
        model_loss(model).total, oracle_loss(random_weights(model), changes).total, rtol=2e-2
    )


def test_bfloat16_weights_and_gradients_are_float32() -> None:
    """Master weights and gradients stay float32; the products alone are rounded."""
    model, exact = random_model(precision="bfloat16"), random_model()
    named = model.named_weights()
    assert {weight.dtype for weight in named.values()} == {"float32"}
    gradients = {}
    for each in (model, exact):
        with tf.GradientTape() as tape:
            total = model_loss(each).total
        values = [weight.value for weight in each.named_weights().values()]
        gradients[each is exact] = [
            tf.convert_to_tensor(gradient) for gradient in tape.gradient(total, values)
        ]
    for name, rounded, expected in zip(named, gradients[False], gradients[True], strict=True):
        assert rounded.dtype == tf.float32, name
        assert oracles.relative_error(rounded, expected) < 5e-2, name


def test_dropout_is_a_function_of_its_seed_and_off_without_one() -> None:
    model = random_model(dropout=0.5, encoder_layers=2, decoder_layers=2)
    without = random_model(encoder_layers=2, decoder_layers=2)
    first = model_loss(model, [1, 2]).total
    np.testing.assert_array_equal(first, model_loss(model, [1, 2]).total)
    assert abs(first - model_loss(model, [1, 3]).total) > 1e-3
    assert abs(first - model_loss(model, [2, 2]).total) > 1e-3
    np.testing.assert_array_equal(model_loss(model).total, model_loss(without).total)
    np.testing.assert_array_equal(model_loss(without, [1, 2]).total, model_loss(without).total)


def test_dropout_reaches_the_source_embedding() -> None:
    """One encoder layer reads nothing but embeddings, so its state feels their dropout."""
    model = random_model(dropout=0.5)
    source, lengths = tf.constant(random_ids(B, S)), tf.constant(SOURCE_LENGTHS)
    plain, _ = model.begin(source, lengths)
    thinned, _ = model.begin(source, lengths, tf.constant([1, 2]))
    assert np.abs(plain[0].c - thinned[0].c).max() > 1e-2


def test_initial_weights_are_a_function_of_the_seed_alone() -> None:
    first, random_state = initial_model(seed=3), np.random.default_rng(0)
    tf.random.set_seed(int(random_state.integers(1000)))
    again, other = initial_model(seed=3), initial_model(seed=4)
    for name, weight in first.named_weights().items():
        np.testing.assert_array_equal(weight, again.named_weights()[name])
        if not name.endswith("bias"):
            assert (weight.numpy() != other.named_weights()[name].numpy()).any(), name


def test_initial_weights_are_the_same_in_every_precision() -> None:
    exact, rounded = initial_model(), initial_model(precision="bfloat16")
    for name, weight in exact.named_weights().items():
        np.testing.assert_array_equal(weight, rounded.named_weights()[name])


@pytest.mark.parametrize("seed", [0, 1, 20251121, 2**31 - 1])
def test_any_seed_gives_weights(seed: int) -> None:
    for name, weight in initial_model(seed=seed).named_weights().items():
        assert np.isfinite(weight.numpy()).all(), name


@pytest.mark.parametrize("seed", [0, 1])
def test_no_two_initial_weights_repeat_each_other(seed: int) -> None:
    """Equal random streams would start two weights as scaled copies of each other."""
    named = initial_model(
        seed=seed,
        encoder_layers=3,
        decoder_layers=3,
        embedding_size=8,
        encoder_units=4,
        decoder_units=8,
        bridge="dense",
    ).named_weights()
    names = [name for name in named if not name.endswith("bias")]
    repeated = []
    for index, name in enumerate(names):
        for other in names[:index]:
            first, second = named[name].numpy().ravel(), named[other].numpy().ravel()
            size = min(first.size, second.size)
            if abs(np.corrcoef(first[:size], second[:size])[0, 1]) > 0.9:
                repeated.append((other, name))
    assert not repeated


def test_loading_sets_every_weight() -> None:
    model = initial_model()
    weights = random_weights(model)
    model.load(weights)
    for name, weight in model.named_weights().items():
        np.testing.assert_array_equal(weight, weights[name])


def test_loading_names_missing_unexpected_and_wrongly_shaped_weights() -> None:
    model = initial_model()
    before = {name: weight.numpy() for name, weight in model.named_weights().items()}
    weights = random_weights(model)
    missing, wrong, kernel = [name for name in sorted(weights) if "decoder" in name][:3]
    del weights[missing]
    weights[wrong] = np.zeros([2, 9], np.float32)
    weights[kernel] = weights[kernel].reshape(1, *weights[kernel].shape)
    weights["decoder/nonsense"] = np.zeros([1], np.float32)
    with pytest.raises(ModelError) as caught:
        model.load(weights)
    message = str(caught.value)
    assert re.search(rf"missing {missing}\b", message)
    assert re.search(r"unexpected decoder/nonsense\b", message)
    assert re.search(rf"{wrong} is \[2, 9\], expected \[{before[wrong].shape[0]}", message)
    assert re.search(rf"{kernel} is \[1, ", message)
    assert "\n" not in message
    for name, weight in model.named_weights().items():
        np.testing.assert_array_equal(weight, before[name], err_msg="nothing may be half loaded")


def test_consistency_reads_each_pair_twice_with_masks_of_its_own() -> None:
    seed, without = [1, 2], random_model()
    twice, once = model_loss(without, seed, consistency=4.0), model_loss(without, seed)
    for found, expected in zip(twice, once, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)  # nothing is dropped: passes agree
    dropping = random_model(dropout=0.5)
    totals = {
        weight: float(model_loss(dropping, seed, consistency=weight).total)
        for weight in (1e-9, 1.0, 2.0)
    }
    added = totals[1.0] - totals[1e-9]
    assert added > 0.1
    assert totals[2.0] - totals[1e-9] == pytest.approx(2 * added, rel=1e-4)
