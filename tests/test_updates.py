"""Updates: what the optimizer is given, on a model whose gradients can be worked by hand."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq import loss, lstm
from seq2seq.batches import Batch
from seq2seq.config import ModelConfig, TextTrainingConfig, TrainingConfig
from seq2seq.decoder import Decoder
from seq2seq.dropout import dropout
from seq2seq.errors import ModelError
from seq2seq.language_model_experiment import WindowBatch
from seq2seq.loss import Loss
from seq2seq.models import TranslationModel, build_model
from seq2seq.objectives import LanguageModelObjective, TranslationObjective
from seq2seq.updates import Updater, UpdateSums

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
POISON = 99  # a source id that makes the loss of its batch NaN
INFINITE = 98  # .. infinite
NO_CLIPPING = 1e9
PLACES = 64


class Springs:
    """A model that is no translator: total loss = sum over target tokens y of (v[y] - s)^2 / 2.

    Its gradient is v[y] - s, summed over the tokens equal to y, for v[y]; minus that of all tokens
    for s. `nll` is twice the total. `correct` tells the dropout mask of the batch.
    """

    def __init__(self, values: Sequence[float], shift: float = 0.0) -> None:
        self.values = keras.Variable(np.array(values, np.float32), name="values")
        self.shift = keras.Variable(np.float32(shift), name="shift")

    def named_weights(self) -> dict[str, keras.Variable]:
        return {"values": self.values, "shift": self.shift}

    def loss(
        self,
        source: tf.Tensor,
        source_lengths: tf.Tensor,
        target: tf.Tensor,
        target_lengths: tf.Tensor,
        *,
        bos_id: int,
        label_smoothing: float,
        consistency: float,
        dropout_seed: tf.Tensor,
    ) -> Loss:
        del source_lengths, consistency
        self.received = {"bos_id": bos_id, "label_smoothing": label_smoothing}
        real = tf.sequence_mask(target_lengths, tf.shape(target)[1])
        factor = tf.where(tf.reduce_any(source == POISON), np.float32(np.nan), 1.0)
        factor = tf.where(tf.reduce_any(source == INFINITE), np.float32(np.inf), factor)
        stretch = tf.gather(self.values, target[real]) - self.shift
        total = factor * tf.reduce_sum(stretch**2) / 2.0
        mask = dropout(tf.ones([PLACES]), 0.5, dropout_seed)
        return Loss(total, 2.0 * total, tf.reduce_sum(mask * tf.range(PLACES, dtype=tf.float32)))


def batch_of(pairs: Pairs, *, extra: int = 0) -> Batch:
    """`pairs` padded with id 0, `extra` places further than needed."""

    def padded(sides: list[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.array([len(ids) for ids in sides], np.int32)
        ids = np.zeros([len(sides), lengths.max() + extra], np.int32)
        for row, side in enumerate(sides):
            ids[row, : len(side)] = side
        return ids, lengths

    source, target = ([list(pair[side]) for pair in pairs] for side in (0, 1))
    return Batch(*padded(source), *padded(target), np.arange(len(pairs)))


def updater_of(model: Any, *, seed: int = 1, shards: int = 1, **options: Any) -> Updater:
    defaults = {"optimizer": "sgd", "gradient_norm": NO_CLIPPING, "label_smoothing": 0.0}
    config = TrainingConfig.model_validate({**defaults, **options})
    objective = TranslationObjective(model, bos_id=2, label_smoothing=config.label_smoothing)
    return Updater(
        config,
        objective,
        seed=seed,
        shards=shards,
        batches_per_update=config.accumulate_batches,
    )


def weights_of(model: Any) -> dict[str, np.ndarray]:
    return {name: np.array(each.numpy()) for name, each in model.named_weights().items()}


def assert_unchanged(before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> None:
    assert before.keys() == now.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(now[name], array, err_msg=name)


def numbers(sums: UpdateSums) -> UpdateSums:
    return UpdateSums(*(float(each) for each in sums))


# Two batches: tokens 1 1 2 and 2; the paddings are 0, whose value would change if they counted.
FIRST: Pairs = [([5], [1]), ([5, 5], [1, 2])]
SECOND: Pairs = [([5], [2])]


def test_sgd_moves_against_the_mean_gradient_of_all_real_tokens() -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model)
    sums = updater.update([batch_of(FIRST)], number=0, learning_rate=0.5)
    # Three tokens: d v[1] = 2 * (3 - 1) / 3, d v[2] = (5 - 1) / 3, d s = -(2 + 2 + 4) / 3.
    np.testing.assert_allclose(model.values, [7.0, 3.0 - 0.5 * 4 / 3, 5.0 - 0.5 * 4 / 3], 1e-6)
    np.testing.assert_allclose(model.shift, 1.0 + 0.5 * 8 / 3, 1e-6)
    # Losses 2 + 2 + 8, twice; the norm is sqrt(4^2 + 4^2 + 8^2) / 3.
    found = numbers(sums)
    assert (found.nll, found.tokens) == (24.0, 3.0)
    assert found.gradient_norm == pytest.approx(np.sqrt(96) / 3, rel=1e-6)


def test_every_token_of_an_update_weighs_the_same_whatever_batch_it_came_in() -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model, accumulate_batches=2)
    sums = updater.update([batch_of(FIRST), batch_of(SECOND)], number=0, learning_rate=0.5)
    # Four tokens, 1 1 2 2, not the mean of two means: d v[1] = 2 * 2 / 4, d v[2] = 2 * 4 / 4,
    # d s = -(2 + 2 + 4 + 4) / 4.
    np.testing.assert_allclose(model.values, [7.0, 3.0 - 0.5 * 1, 5.0 - 0.5 * 2], 1e-6)
    np.testing.assert_allclose(model.shift, 1.0 + 0.5 * 3, 1e-6)
    assert (float(sums.nll), float(sums.tokens)) == (24.0 + 16.0, 3.0 + 1.0)
    assert float(sums.gradient_norm) == pytest.approx(np.sqrt(1 + 4 + 9), rel=1e-6)


def test_an_update_starts_without_what_earlier_ones_accumulated() -> None:
    twice, once = Springs([7.0, 3.0, 5.0]), Springs([7.0, 3.0, 5.0])
    updater = updater_of(twice, accumulate_batches=2)
    for number in (0, 2):
        updater.update([batch_of(FIRST), batch_of(SECOND)], number=number, learning_rate=0.5)
    single = updater_of(once)
    for number in (0, 1):
        single.update([batch_of([*FIRST, *SECOND])], number=number, learning_rate=0.5)
    np.testing.assert_allclose(twice.values, once.values, rtol=1e-6)
    np.testing.assert_allclose(twice.shift, once.shift, rtol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_over_the_norm_is_scaled_down_to_it(accumulate: int) -> None:
    start = np.array([7.0, 3.0, 5.0, 1.0])  # the values, and the shift
    model = Springs(start[:3], shift=start[3])
    updater = updater_of(model, gradient_norm=0.25, accumulate_batches=accumulate)
    batches = [batch_of(FIRST)] * accumulate
    last = updater.update(batches, number=0, learning_rate=1.0)
    delta = np.append(model.values.numpy(), model.shift.numpy()) - start
    assert np.linalg.norm(delta) == pytest.approx(0.25, rel=1e-6)
    # The direction is that of the mean gradient, whose norm is told as it was.
    mean = np.array([0.0, 4.0, 4.0, -8.0]) / 3
    np.testing.assert_allclose(delta, -0.25 * mean / np.linalg.norm(mean), rtol=1e-5)
    assert float(last.gradient_norm) == pytest.approx(np.linalg.norm(mean), rel=1e-6)


def test_a_gradient_within_the_norm_is_left_alone() -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    norm = np.sqrt(96) / 3
    updater_of(model, gradient_norm=norm * 1.001).update(
        [batch_of(FIRST)], number=0, learning_rate=0.5
    )
    np.testing.assert_allclose(model.shift, 1.0 + 0.5 * 8 / 3, 1e-6)


def test_adam_is_that_of_kingma_and_ba() -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model, optimizer="adam")
    weights = np.array([7.0, 3.0, 5.0, 1.0])
    m, v = np.zeros(4), np.zeros(4)
    for step, rate in enumerate([0.5, 0.5, 0.01, 0.2], start=1):
        updater.update([batch_of(FIRST)], number=step, learning_rate=rate)
        one, two = weights[1] - weights[3], weights[2] - weights[3]
        gradient = np.array([0.0, 2 * one, two, -(2 * one + two)]) / 3
        # Kingma & Ba 2015, algorithm 1
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
        weights = weights - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        np.testing.assert_allclose(model.values, weights[:3], rtol=1e-5)
        np.testing.assert_allclose(model.shift, weights[3], rtol=1e-5)


@pytest.mark.parametrize("bad", [POISON, INFINITE])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_told(
    bad: int, optimizer: str
) -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model, optimizer=optimizer)
    updater.update([batch_of(FIRST)], number=0, learning_rate=0.5)
    weights, state = weights_of(model), updater.optimizer_state()
    sums = updater.update([batch_of([([bad], [1])])], number=1, learning_rate=0.5)
    assert not np.isfinite(float(sums.gradient_norm))
    assert_unchanged(weights, weights_of(model))
    assert_unchanged(state, updater.optimizer_state())


def test_weights_that_are_not_finite_are_told() -> None:
    model = Springs([7.0, np.nan, 5.0])
    sums = updater_of(model).update([batch_of(FIRST)], number=0, learning_rate=0.5)
    assert not np.isfinite(float(sums.gradient_norm))
    assert float(model.shift.numpy()) == 0.0


@pytest.mark.parametrize("bad_place", [0, 1])
def test_a_bad_batch_spoils_its_own_update_only(bad_place: int) -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model, accumulate_batches=2)
    weights = weights_of(model)
    batches = [batch_of(FIRST), batch_of(SECOND)]
    spoilt = [*batches]
    spoilt[bad_place] = batch_of([([POISON], [1])])
    last = updater.update(spoilt, number=0, learning_rate=0.5)
    assert not np.isfinite(float(last.gradient_norm))
    assert_unchanged(weights, weights_of(model))
    updater.update(batches, number=2, learning_rate=0.5)
    np.testing.assert_allclose(model.shift, 1.0 + 0.5 * 3, 1e-6)  # as if it had not been


def test_dropout_masks_are_a_function_of_seed_and_batch_number() -> None:
    def masks(*, seed: int, starts: list[int], accumulate: int = 1) -> list[float]:
        updater = updater_of(Springs([1.0, 2.0, 3.0]), seed=seed, accumulate_batches=accumulate)
        batches = [batch_of(FIRST)] * accumulate
        return [
            float(updater.update(batches, number=start, learning_rate=0.1).correct)
            for start in starts
        ]

    four = masks(seed=1, starts=[0, 1, 2, 3])
    assert len(set(four)) == 4
    assert masks(seed=1, starts=[3, 2, 1, 0]) == four[::-1]  # whatever came before
    # And in whichever update: the mask's number is a sum of small integers, so sums are exact.
    assert masks(seed=1, starts=[0, 2], accumulate=2) == [four[0] + four[1], four[2] + four[3]]
    assert not set(masks(seed=2, starts=[0, 1, 2, 3])) & set(four)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_goes_on_bit_for_bit_with_weights_and_optimizer_state(optimizer: str) -> None:
    def updated(model: Springs, updater: Updater, first: int) -> None:
        for number in range(first, first + 3):
            updater.update([batch_of(FIRST)], number=number, learning_rate=0.1 / (1 + number))

    whole = Springs([7.0, 3.0, 5.0])
    updater = updater_of(whole, optimizer=optimizer)
    updated(whole, updater, 0)
    weights, state = weights_of(whole), updater.optimizer_state()
    updated(whole, updater, 3)

    resumed = Springs(weights["values"], shift=weights["shift"])
    second = updater_of(resumed, optimizer=optimizer)
    second.load_optimizer_state(state)
    assert_unchanged(state, second.optimizer_state())
    updated(resumed, second, 3)
    assert_unchanged(weights_of(whole), weights_of(resumed))
    assert_unchanged(updater.optimizer_state(), second.optimizer_state())


def test_optimizer_state_has_every_variable_as_an_array_of_its_own() -> None:
    model = Springs([7.0, 3.0, 5.0])
    updater = updater_of(model, optimizer="adam")
    updater.update([batch_of(FIRST)], number=0, learning_rate=0.5)
    state = updater.optimizer_state()
    assert all(isinstance(array, np.ndarray) for array in state.values())  # scalars too
    # Adam's m and v of each weight, the step, the learning rate.
    assert sorted(array.shape for array in state.values()) == [(), (), (), (), (3,), (3,)]
    kept = {name: array.copy() for name, array in state.items()}
    updater.update([batch_of(FIRST)], number=1, learning_rate=0.25)
    assert_unchanged(kept, state)


def test_moving_averages_worked_by_hand() -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model, ema_decay=0.25)
    average, shifts = 1.0, []
    for number in (1, 2, 3):
        updater.update([batch_of(FIRST)], number=number, learning_rate=0.5)
        shifts.append(float(model.shift.numpy()))
        decay = min(0.25, (1 + number) / (10 + number))  # 2/11, 3/12 and then 0.25
        average = decay * average + (1 - decay) * shifts[-1]
    assert len({average, *shifts}) == 4
    with updater.averaged():
        assert float(model.shift.numpy()) == pytest.approx(average, rel=1e-5)
    assert float(model.shift.numpy()) == shifts[-1]


def test_weights_are_themselves_again_where_an_error_leaves_their_averages() -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model, ema_decay=0.25)
    updater.update([batch_of(FIRST)], number=0, learning_rate=0.5)
    before = weights_of(model)
    with pytest.raises(KeyError), updater.averaged():
        raise KeyError
    assert_unchanged(before, weights_of(model))


def test_without_a_decay_the_averages_are_the_weights_themselves() -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model)
    updater.update([batch_of(FIRST)], number=0, learning_rate=0.5)
    before = weights_of(model)
    with updater.averaged():
        assert_unchanged(before, weights_of(model))
    assert not [name for name in updater.optimizer_state() if name.startswith("trained/")]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_with_averages_goes_on_bit_for_bit(optimizer: str) -> None:
    def updated(updater: Updater, first: int) -> None:
        for number in range(first, first + 3):
            updater.update([batch_of(FIRST)], number=number, learning_rate=0.1 / (1 + number))

    def averages(model: Springs, updater: Updater) -> dict[str, np.ndarray]:
        with updater.averaged():
            return weights_of(model)

    whole = Springs([7.0, 3.0, 5.0])
    updater = updater_of(whole, optimizer=optimizer, ema_decay=0.9)
    updated(updater, 0)
    saved, state = averages(whole, updater), updater.optimizer_state()
    assert_unchanged(saved, updater.weights())
    updated(updater, 3)

    resumed = Springs([1.0, 1.0, 1.0])
    second = updater_of(resumed, optimizer=optimizer, ema_decay=0.9)
    second.load(saved)
    assert_unchanged(saved, averages(resumed, second))
    second.load_optimizer_state(state)
    assert_unchanged(saved, averages(resumed, second))
    updated(second, 3)
    assert_unchanged(weights_of(whole), weights_of(resumed))
    assert_unchanged(averages(whole, updater), averages(resumed, second))


def test_an_update_that_is_not_made_leaves_the_averages_alone() -> None:
    model = Springs([7.0, 3.0, 5.0], shift=1.0)
    updater = updater_of(model, ema_decay=0.9)
    updater.update([batch_of(FIRST)], number=0, learning_rate=0.5)
    with updater.averaged():
        before = weights_of(model)
    updater.update([batch_of([([POISON], [1])])], number=1, learning_rate=0.5)
    with updater.averaged():
        assert_unchanged(before, weights_of(model))


def test_optimizer_state_that_does_not_fit_is_refused() -> None:
    updater = updater_of(Springs([7.0, 3.0, 5.0]), optimizer="adam")
    other = updater_of(Springs([7.0, 3.0]), optimizer="adam").optimizer_state()
    with pytest.raises(
        ModelError, match=r"optimizer state .*values.*: missing or of another shape"
    ):
        updater.load_optimizer_state(other)
    with pytest.raises(ModelError, match=r"optimizer state .*: missing"):
        updater.load_optimizer_state({})


MODEL: dict[str, Any] = {
    "embedding_size": 3,
    "encoder_layers": 1,
    "encoder_units": 2,
    "bidirectional": False,
    "decoder_layers": 1,
    "decoder_units": 2,
    "attention": "none",
}
LEFT: Pairs = [([4, 5, 6, 3], [4, 3]), ([5, 3], [6, 5, 4, 3])]
RIGHT: Pairs = [([3], [5, 5, 3]), ([6, 6, 3], [3]), ([4, 4, 4, 4, 4, 3], [6, 3])]


def real_model(**changes: Any) -> TranslationModel:
    config = ModelConfig(**{**MODEL, "dropout": 0.0, **changes})
    return build_model(config, source_vocabulary=7, target_vocabulary=7, seed=3)


def test_batches_accumulated_are_one_batch_merged() -> None:
    accumulated, merged = real_model(), real_model()
    before = weights_of(merged)
    options = {"gradient_norm": 0.05, "label_smoothing": 0.1}
    sums = updater_of(accumulated, accumulate_batches=2, **options).update(
        [batch_of(LEFT), batch_of(RIGHT, extra=1)], number=0, learning_rate=1.0
    )
    both = updater_of(merged, **options).update(
        [batch_of([*LEFT, *RIGHT])], number=0, learning_rate=1.0
    )
    after, expected = weights_of(accumulated), weights_of(merged)
    moved = np.sqrt(sum(np.sum((after[name] - before[name]) ** 2.0) for name in before))
    assert moved == pytest.approx(0.05, rel=1e-4)  # it was clipped, as a whole
    for name, array in expected.items():
        np.testing.assert_allclose(after[name], array, rtol=0, atol=1e-6, err_msg=name)
    assert float(both.gradient_norm) > 0.05
    assert numbers(sums) == pytest.approx(numbers(both), rel=1e-5)


@pytest.mark.parametrize("pairs", [[*LEFT, *RIGHT], RIGHT, LEFT[:1]])
def test_an_update_in_shards_is_that_of_the_whole_batch(pairs: Pairs) -> None:
    whole, parted = real_model(), real_model()
    options = {"label_smoothing": 0.1, "gradient_norm": 0.05}
    sums, expected = (
        numbers(
            updater_of(model, shards=shards, **options).update(
                [batch_of(pairs)], number=0, learning_rate=1.0
            )
        )
        for model, shards in ((parted, 2), (whole, 1))
    )
    assert sums == pytest.approx(expected, rel=1e-5)
    after = weights_of(parted)
    for name, array in weights_of(whole).items():
        np.testing.assert_allclose(after[name], array, rtol=0, atol=1e-6, err_msg=name)


def test_every_shard_has_masks_of_its_own() -> None:
    def masks(number: int, *, shards: int) -> float:
        updater = updater_of(Springs([1.0, 2.0, 3.0]), shards=shards)
        return float(updater.update([batch_of(FIRST)], number=number, learning_rate=0.1).correct)

    # The first shard has the mask of a whole batch, so what is more is the second's.
    second = masks(0, shards=2) - masks(0, shards=1)
    assert second > 0
    assert second != masks(0, shards=1)
    assert second != masks(1, shards=2) - masks(1, shards=1)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_language_models_texts_go_on_in_the_shards_they_are_in(rows: int) -> None:
    ids = np.random.default_rng(1).integers(0, 9, [rows, 10]).astype(np.int32)
    losses, states = [], []
    for shards in (1, 2):
        decoder = Decoder(9, units=6, layers=2, embedding_size=4, seed=3)
        objective = LanguageModelObjective(decoder, rows=rows)
        updater = Updater(TextTrainingConfig(), objective, seed=1, shards=shards)
        for number, first in enumerate((0, 3, 6)):
            windows = ids[:, first : first + 3], ids[:, first + 1 : first + 4]
            sums = updater.update(
                [WindowBatch(*windows, begins=first == 0)], number=number, learning_rate=0.01
            )
        losses.append(float(sums.nll))
        states.append([part.numpy() for part in objective.carried().values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(*states, strict=True):
        assert one.any()
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_many_shapes_are_one_trace_and_masks_follow_the_number_of_the_batch() -> None:
    model = real_model(dropout=0.5)
    updater = updater_of(model, label_smoothing=0.1)
    weights = weights_of(model)

    def nll(pairs: Pairs, number: int, extra: int = 0) -> float:
        batch = batch_of(pairs, extra=extra)
        sums = updater.update([batch], number=number, learning_rate=0.0)
        return float(sums.nll)

    first, other = nll(LEFT, 7), nll(LEFT, 8)
    for pairs, extra in [(RIGHT, 0), (RIGHT, 3), (LEFT[:1], 0), ([*LEFT, *RIGHT], 2)]:
        nll(pairs, 1, extra)
    assert nll(LEFT, 7) == first != other
    assert_unchanged(weights, weights_of(model))  # the learning rate was 0
    assert updater._update_step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (lstm, "_training_cell"),
        (lstm, "_cell_gradient"),
        (loss, "_softmax_gradient"),
        (loss, "_add"),
    ],
)
def test_new_lengths_bring_no_new_shape_to_what_is_compiled(
    module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA compiles once for each set of shapes it is given when running; so these are noted."""
    seen: set[tuple[tuple[int, ...], ...]] = set()
    compiled = getattr(module, name)

    def noting(*arguments: Any) -> Any:
        def note(*shapes: np.ndarray) -> np.ndarray:
            seen.add(tuple(tuple(shape.tolist()) for shape in shapes))
            return np.zeros([], np.int32)

        noted = tf.numpy_function(note, [tf.shape(each) for each in arguments], tf.int32)
        with tf.control_dependencies([noted]):
            return compiled(*arguments)

    monkeypatch.setattr(module, name, noting)
    updater = updater_of(real_model())
    for number, pairs in enumerate([LEFT, RIGHT]):
        updater.update([batch_of(pairs)], number=number, learning_rate=0.1)
    warm = set(seen)
    assert warm
    for extra in range(1, 6):
        updater.update([batch_of(LEFT, extra=extra)], number=extra, learning_rate=0.1)
        updater.update([batch_of(RIGHT, extra=extra)], number=extra, learning_rate=0.1)
    assert seen == warm


def test_bos_and_label_smoothing_are_passed_on_to_the_loss() -> None:
    model = Springs([7.0, 3.0, 5.0])
    updater_of(model, label_smoothing=0.3).update([batch_of(FIRST)], number=0, learning_rate=0.1)
    assert model.received == {"bos_id": 2, "label_smoothing": 0.3}
