"""The fast LSTM against the NumPy float64 oracle, finite differences and stock Keras."""

from collections.abc import Mapping

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf

from seq2seq.dropout import dropout
from seq2seq.lstm import LSTM, LSTMState, forward_only

B, T, I, H = 3, 4, 2, 5  # noqa: E741 (input width)
UNEVEN = (4, 1, 2)
ARRAYS = ("inputs", "kernel", "recurrent_kernel", "bias", "h", "c")


def random_arrays(*, batch: int = B, time: int = T, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs, weights, initial state, and what each output counts for in `weighted_sum`."""
    random = np.random.default_rng(seed)
    shapes = {
        "inputs": (batch, time, I),
        "kernel": (I, 4 * H),
        "recurrent_kernel": (H, 4 * H),
        "bias": (4 * H,),
        "h": (batch, H),
        "c": (batch, H),
        "outputs_factor": (batch, time, H),
        "h_factor": (batch, H),
        "c_factor": (batch, H),
    }
    return {
        name: random.normal(size=shape).astype(np.float32).astype(np.float64)
        for name, shape in shapes.items()
    }


def loaded_layer(arrays: Mapping[str, np.ndarray], **options: object) -> LSTM:
    layer = LSTM(H, **options)
    layer.build((None, None, I))
    for name in ("kernel", "recurrent_kernel", "bias"):
        getattr(layer, name).assign(arrays[name])
    return layer


def tensor(array: np.ndarray) -> tf.Tensor:
    return tf.constant(array, tf.float32)


def initial_state(arrays: Mapping[str, np.ndarray]) -> LSTMState:
    return LSTMState(tensor(arrays["h"]), tensor(arrays["c"]))


def tensor_lengths(lengths: tuple[int, ...] | None) -> tf.Tensor | None:
    return None if lengths is None else tf.constant(lengths, tf.int32)


def oracle(
    arrays: Mapping[str, np.ndarray], *, lengths: tuple[int, ...] | None, reverse: bool
) -> tuple[np.ndarray, oracles.CellState]:
    return oracles.lstm_sequence(
        arrays["inputs"],
        oracles.LSTMWeights(arrays["kernel"], arrays["recurrent_kernel"], arrays["bias"]),
        state=oracles.CellState(arrays["h"], arrays["c"]),
        lengths=lengths,
        reverse=reverse,
    )


def weighted_sum(
    arrays: Mapping[str, np.ndarray], *, lengths: tuple[int, ...] | None, reverse: bool
) -> float:
    """A number that depends on every output and both final states."""
    outputs, state = oracle(arrays, lengths=lengths, reverse=reverse)
    return float(
        (outputs * arrays["outputs_factor"]).sum()
        + (state.h * arrays["h_factor"]).sum()
        + (state.c * arrays["c_factor"]).sum()
    )


def layer_gradients(
    arrays: Mapping[str, np.ndarray], *, lengths: tuple[int, ...] | None, reverse: bool
) -> dict[str, np.ndarray]:
    """The gradients of the same number through our layer."""
    layer = loaded_layer(arrays, reverse=reverse)
    inputs, state = tensor(arrays["inputs"]), initial_state(arrays)
    with tf.GradientTape() as tape:
        tape.watch([inputs, *state])
        outputs, final = layer(inputs, state, tensor_lengths(lengths))
        total = (
            tf.reduce_sum(outputs * tensor(arrays["outputs_factor"]))
            + tf.reduce_sum(final.h * tensor(arrays["h_factor"]))
            + tf.reduce_sum(final.c * tensor(arrays["c_factor"]))
        )
    weights = [weight.value for weight in (layer.kernel, layer.recurrent_kernel, layer.bias)]
    gradients = tape.gradient(total, [inputs, *weights, *state])
    return {name: gradient.numpy() for name, gradient in zip(ARRAYS, gradients, strict=True)}


CASES = pytest.mark.parametrize(
    ("lengths", "reverse"),
    [(None, False), (None, True), (UNEVEN, False), (UNEVEN, True)],
    ids=["forward", "reverse", "forward-uneven", "reverse-uneven"],
)


@CASES
def test_outputs_and_final_state_equal_the_oracle(
    lengths: tuple[int, ...] | None, reverse: bool
) -> None:
    arrays = random_arrays()
    outputs, state = loaded_layer(arrays, reverse=reverse)(
        tensor(arrays["inputs"]), initial_state(arrays), tensor_lengths(lengths)
    )
    expected, expected_state = oracle(arrays, lengths=lengths, reverse=reverse)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.h, expected_state.h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.c, expected_state.c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 7), (9, 1), (2, 33)])
@pytest.mark.parametrize("reverse", [False, True])
def test_batches_of_every_shape_equal_the_oracle(batch: int, time: int, reverse: bool) -> None:
    arrays = random_arrays(batch=batch, time=time, seed=1)
    lengths = tuple(1 + (5 * row) % time for row in range(batch))
    outputs, state = loaded_layer(arrays, reverse=reverse)(
        tensor(arrays["inputs"]), initial_state(arrays), tensor_lengths(lengths)
    )
    expected, expected_state = oracle(arrays, lengths=lengths, reverse=reverse)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.c, expected_state.c, rtol=1e-5, atol=1e-6)


@CASES
def test_gradients_equal_finite_differences(lengths: tuple[int, ...] | None, reverse: bool) -> None:
    arrays = random_arrays()
    gradients = layer_gradients(arrays, lengths=lengths, reverse=reverse)
    for name in ARRAYS:
        numerical = oracles.numerical_gradient(
            lambda moved: weighted_sum(moved, lengths=lengths, reverse=reverse), arrays, name
        )
        scale = np.abs(numerical).max()
        np.testing.assert_allclose(
            gradients[name].ravel(), numerical, rtol=1e-4, atol=1e-5 * scale, err_msg=name
        )


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_has_no_influence_and_no_gradient(reverse: bool) -> None:
    arrays = random_arrays()
    padding = np.arange(T) >= np.array(UNEVEN)[:, None]  # [B, T]
    garbage = {**arrays, "inputs": np.where(padding[..., None], 1e3, arrays["inputs"])}
    layer = loaded_layer(arrays, reverse=reverse)
    results = [
        layer(tensor(each["inputs"]), initial_state(arrays), tensor_lengths(UNEVEN))
        for each in (arrays, garbage)
    ]
    (outputs, state), (garbage_outputs, garbage_state) = results
    np.testing.assert_array_equal(outputs, garbage_outputs)
    np.testing.assert_array_equal(state.h, garbage_state.h)
    np.testing.assert_array_equal(state.c, garbage_state.c)
    clean = layer_gradients(arrays, lengths=UNEVEN, reverse=reverse)
    dirty = layer_gradients(garbage, lengths=UNEVEN, reverse=reverse)
    assert not clean["inputs"][padding].any()
    assert not dirty["inputs"][padding].any()
    for name in ARRAYS:
        np.testing.assert_allclose(dirty[name], clean[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_sentence_in_a_batch_equals_the_sentence_alone(reverse: bool) -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays, reverse=reverse)
    outputs, state = layer(tensor(arrays["inputs"]), initial_state(arrays), tensor_lengths(UNEVEN))
    for row, length in enumerate(UNEVEN):
        alone = slice(row, row + 1)
        alone_outputs, alone_state = layer(
            tensor(arrays["inputs"][alone, :length]),
            LSTMState(tensor(arrays["h"][alone]), tensor(arrays["c"][alone])),
        )
        np.testing.assert_allclose(outputs[alone, :length], alone_outputs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.h[alone], alone_state.h, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.c[alone], alone_state.c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_outputs_states_and_gradients_equal_stock_keras(masked: bool, reverse: bool) -> None:
    """Outputs at real positions only: Keras puts zeros where a reverse run meets padding first."""
    arrays = random_arrays()
    lengths = UNEVEN if masked else None
    real = np.arange(T) < np.array(lengths or (T, T, T))[:, None]  # [B, T]
    arrays["outputs_factor"] *= real[..., None]
    stock = keras.layers.LSTM(
        H, return_sequences=True, return_state=True, go_backwards=reverse, dtype="float32"
    )
    stock.build((None, T, I))
    stock.set_weights([arrays[name] for name in ("kernel", "recurrent_kernel", "bias")])
    inputs, state = tensor(arrays["inputs"]), initial_state(arrays)
    with tf.GradientTape() as tape:
        tape.watch([inputs, *state])
        outputs, h, c = stock(
            inputs, initial_state=list(state), mask=tf.constant(real) if masked else None
        )
        outputs = tf.reverse(outputs, [1]) if reverse else outputs
        total = (
            tf.reduce_sum(outputs * tensor(arrays["outputs_factor"]))
            + tf.reduce_sum(h * tensor(arrays["h_factor"]))
            + tf.reduce_sum(c * tensor(arrays["c_factor"]))
        )
    weights = [weight.value for weight in stock.weights]
    expected = tape.gradient(total, [inputs, *weights, *state])
    ours, final = loaded_layer(arrays, reverse=reverse)(inputs, state, tensor_lengths(lengths))
    np.testing.assert_allclose(ours.numpy()[real], outputs.numpy()[real], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(final.h, h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(final.c, c, rtol=1e-5, atol=1e-6)
    gradients = layer_gradients(arrays, lengths=lengths, reverse=reverse)
    for name, gradient in zip(ARRAYS, expected, strict=True):
        scale = np.abs(gradient.numpy()).max()
        np.testing.assert_allclose(
            gradients[name], gradient, rtol=1e-5, atol=1e-5 * scale, err_msg=name
        )


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_the_way_by_keras_equals_ours(reverse: bool) -> None:
    """On a GPU Keras's LSTM computes the sequence; here without cuDNN, with the same weights."""
    _check_way_by_keras(UNEVEN, reverse, cudnn=False)


def test_the_way_by_keras_in_bfloat16_is_close_to_float32() -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays, dtype="mixed_bfloat16")
    sequence, final = layer._sequence_by_keras(
        tf.transpose(tensor(arrays["inputs"]), [1, 2, 0]),
        tf.convert_to_tensor(layer.recurrent_kernel),
        initial_state(arrays),
        tf.constant(UNEVEN),
        cudnn=False,
    )
    assert (sequence.dtype, final.h.dtype, final.c.dtype) == (tf.bfloat16, tf.bfloat16, tf.float32)
    _, expected = loaded_layer(arrays)(
        tensor(arrays["inputs"]), initial_state(arrays), tensor_lengths(UNEVEN)
    )
    np.testing.assert_allclose(tf.cast(final.h, tf.float32), expected.h, atol=0.05)
    np.testing.assert_allclose(final.c, expected.c, atol=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", [None, UNEVEN], ids=["whole", "uneven"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_the_way_by_cudnn_equals_ours(lengths: tuple[int, ...] | None, reverse: bool) -> None:
    _check_way_by_keras(lengths, reverse, cudnn=True)


def _check_way_by_keras(lengths: tuple[int, ...] | None, reverse: bool, *, cudnn: bool) -> None:
    arrays = random_arrays()
    arrays["outputs_factor"] *= (np.arange(T) < np.array(lengths or (T, T, T))[:, None])[..., None]
    layer = loaded_layer(arrays, reverse=reverse)
    inputs, state = tensor(arrays["inputs"]), initial_state(arrays)

    @tf.function  # as training runs it
    def gradients(inputs: tf.Tensor, state: LSTMState) -> list[tf.Tensor]:
        weights = [weight.value for weight in (layer.kernel, layer.recurrent_kernel, layer.bias)]
        with tf.GradientTape() as tape:
            tape.watch([inputs, *weights, *state])
            sequence, final = layer._sequence_by_keras(
                tf.transpose(inputs, [1, 2, 0]),
                weights[1],
                state,
                tf.constant(lengths or (T, T, T)),
                cudnn=cudnn,
            )
            total = (
                tf.reduce_sum(tf.transpose(sequence, [2, 0, 1]) * tensor(arrays["outputs_factor"]))
                + tf.reduce_sum(final.h * tensor(arrays["h_factor"]))
                + tf.reduce_sum(final.c * tensor(arrays["c_factor"]))
            )
        return [total, *tape.gradient(total, [inputs, *weights, *state])]

    total, *found = gradients(inputs, state)
    assert float(total) == pytest.approx(
        weighted_sum(arrays, lengths=lengths, reverse=reverse), rel=1e-4
    )
    expected = layer_gradients(arrays, lengths=lengths, reverse=reverse)
    for name, gradient in zip(ARRAYS, found, strict=True):
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(
            gradient, expected[name], rtol=1e-4, atol=1e-5 * scale, err_msg=name
        )


def test_a_stock_keras_layer_takes_our_initial_weights() -> None:
    ours, stock = LSTM(H), keras.layers.LSTM(H)
    ours.build((None, None, I))
    stock.build((None, None, I))
    assert [tuple(weight.shape) for weight in ours.weights] == [
        tuple(weight.shape) for weight in stock.weights
    ]
    # Forget bias 1, the other gates 0 (order i, f, c, o): the Keras layer starts the same way.
    np.testing.assert_array_equal(ours.bias, [0.0] * H + [1.0] * H + [0.0] * 2 * H)
    np.testing.assert_array_equal(stock.weights[2], ours.bias)


def test_steps_one_by_one_equal_the_whole_sequence() -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays)
    state = initial_state(arrays)
    outputs, final = layer(tensor(arrays["inputs"]), state)
    for position in range(T):
        state = layer.step(tensor(arrays["inputs"][:, position]), state)
        np.testing.assert_allclose(state.h, outputs[:, position], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.h, final.h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.c, final.c, rtol=1e-5, atol=1e-6)


def test_no_state_is_the_zero_state() -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays)
    zero = LSTMState(tf.zeros([B, H]), tf.zeros([B, H]))
    default_outputs, default_state = layer(tensor(arrays["inputs"]))
    outputs, state = layer(tensor(arrays["inputs"]), zero)
    np.testing.assert_array_equal(default_outputs, outputs)
    np.testing.assert_array_equal(default_state.c, state.c)


@pytest.mark.parametrize("reverse", [False, True])
def test_one_graph_serves_batches_of_any_size_and_length(reverse: bool) -> None:
    arrays = random_arrays()
    layer = loaded_layer(arrays, reverse=reverse)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, I], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def run(inputs: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, LSTMState, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs, state = layer(inputs, None, lengths)
        return outputs, state, tape.gradient(outputs, inputs)

    for batch, time in [(3, 4), (1, 2)]:
        inputs = tensor(arrays["inputs"][:batch, :time])
        lengths = tf.constant([time, 1, 2][:batch], tf.int32)
        outputs, state, gradient = run(inputs, lengths)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            eager_outputs, eager_state = layer(inputs, None, lengths)
        np.testing.assert_allclose(outputs, eager_outputs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.c, eager_state.c, rtol=1e-5, atol=1e-6)
        eager_gradient = tape.gradient(eager_outputs, inputs)
        np.testing.assert_allclose(gradient, eager_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_bfloat16_is_near_float32(reverse: bool) -> None:
    arrays = random_arrays()
    outputs, state = loaded_layer(arrays, reverse=reverse, dtype="mixed_bfloat16")(
        tensor(arrays["inputs"]), initial_state(arrays), tensor_lengths(UNEVEN)
    )
    expected, expected_state = oracle(arrays, lengths=UNEVEN, reverse=reverse)
    assert oracles.relative_error(outputs, expected) < 2e-2
    assert oracles.relative_error(state.h, expected_state.h) < 2e-2
    assert oracles.relative_error(state.c, expected_state.c) < 2e-2
    assert state.c.dtype == tf.float32


@pytest.mark.parametrize("reverse", [False, True])
def test_bfloat16_gradients_are_near_float32(reverse: bool) -> None:
    arrays = random_arrays()
    expected = layer_gradients(arrays, lengths=UNEVEN, reverse=reverse)
    layer = loaded_layer(arrays, reverse=reverse, dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        outputs, state = layer(
            tensor(arrays["inputs"]), initial_state(arrays), tensor_lengths(UNEVEN)
        )
        total = (
            tf.reduce_sum(tf.cast(outputs, tf.float32) * tensor(arrays["outputs_factor"]))
            + tf.reduce_sum(tf.cast(state.h, tf.float32) * tensor(arrays["h_factor"]))
            + tf.reduce_sum(tf.cast(state.c, tf.float32) * tensor(arrays["c_factor"]))
        )
    names = ("kernel", "recurrent_kernel", "bias")
    gradients = tape.gradient(total, [getattr(layer, name).value for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.dtype == tf.float32
        assert oracles.relative_error(gradient, expected[name]) < 2e-2, name


def test_in_bfloat16_a_cell_that_forgets_little_forgets_in_its_gradient_too() -> None:
    time, f = 100, 1 / (1 + np.exp(-6.3))  # 0.9982, whose nearest bfloat16 is 1
    layer = LSTM(1, dtype="mixed_bfloat16")
    layer.build((None, None, 1))
    layer.kernel.assign([[0.0] * 4])
    layer.recurrent_kernel.assign([[0.0] * 4])
    layer.bias.assign([-30.0, 6.3, 0.0, 0.0])  # nothing enters: C is f ** time of what it was
    c = tf.ones([1, 1])
    with tf.GradientTape() as tape:
        tape.watch(c)
        _, state = layer(tf.zeros([1, time, 1]), LSTMState(tf.zeros([1, 1], tf.bfloat16), c))
    d_c, d_bias = tape.gradient(state.c, [c, layer.bias.value])
    assert float(state.c[0, 0]) == pytest.approx(f**time, rel=1e-4)
    assert float(d_c[0, 0]) == pytest.approx(f**time, rel=1e-4)
    assert float(d_bias[1]) == pytest.approx(time * f**time * (1 - f), rel=1e-3)


def test_a_layer_in_somebodys_model_builds_itself() -> None:
    outputs, state = LSTM(5)(tf.zeros([2, 3, 4]))
    assert outputs.shape == (2, 3, 5)
    assert state.h.shape == state.c.shape == (2, 5)


@CASES
def test_without_gradient_and_compiler_the_results_are_the_same(
    lengths: tuple[int, ...] | None, reverse: bool
) -> None:
    arrays = random_arrays()
    expected, state = oracle(arrays, lengths=lengths, reverse=reverse)
    layer = loaded_layer(arrays, reverse=reverse)
    with forward_only():
        outputs, final = layer(
            tensor(arrays["inputs"]), initial_state(arrays), tensor_lengths(lengths)
        )
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_allclose(final.h, state.h, atol=1e-6)
    np.testing.assert_allclose(final.c, state.c, atol=1e-6)


def test_recurrent_dropout_thins_the_recurrent_kernel_alike_at_every_position() -> None:
    arrays = random_arrays()
    layer, plain = LSTM(H, recurrent_dropout=0.5), LSTM(H)
    for each in (layer, plain):
        each.build((None, None, I))
        for name in ("kernel", "recurrent_kernel", "bias"):
            getattr(each, name).assign(arrays[name])
    inputs, seed = tensor(arrays["inputs"]), tf.constant([1, 2])
    whole, final = layer(inputs, dropout_seed=seed)
    thinned = dropout(tensor(arrays["recurrent_kernel"]), 0.5, seed)
    assert 0.2 < (thinned.numpy() == 0).mean() < 0.8
    plain.recurrent_kernel.assign(thinned)
    expected, expected_final = plain(inputs)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(final.c, expected_final.c)
    plain.recurrent_kernel.assign(arrays["recurrent_kernel"])
    np.testing.assert_array_equal(layer(inputs)[0], plain(inputs)[0])


def test_no_gradient_reaches_a_recurrent_weight_that_is_dropped() -> None:
    arrays = random_arrays()
    layer = LSTM(H, recurrent_dropout=0.5)
    layer.build((None, None, I))
    seed = tf.constant([1, 2])
    with tf.GradientTape() as tape:
        outputs, _ = layer(tensor(arrays["inputs"]), dropout_seed=seed)
        total = tf.reduce_sum(outputs)
    gradient = tape.gradient(total, layer.recurrent_kernel.value).numpy()
    dropped = dropout(tf.ones([H, 4 * H]), 0.5, seed).numpy() == 0
    assert not gradient[dropped].any()
    assert gradient[~dropped].all()
