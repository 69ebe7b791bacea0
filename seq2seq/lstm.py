"""The LSTM layer: Keras's weights and equations, its own computation of whole sequences.

With x the input and h the last hidden state (Hochreiter & Schmidhuber 1997; forget gate: Gers
et al. 2000):

    i, f, o = sigmoid(W x + U h + b)      C~ = tanh(W_C x + U_C h + b_C)
    C_t = f * C + i * C~                  h_t = o * tanh(C_t)

A sequence is computed feature-major: the state is `[H, B]`. What does not depend on the state is
multiplied first, for all positions: `W [4H, I] @ x [T, I, B]`; a step is then one product
`U [4H, H] @ h [H, B]`, half the weights, which stay closer to the processor. The right operand of a
product is repacked at every call, and here that is the small state and not the large weights; the
four gates are contiguous rows. Products run in the layer's compute dtype (float32 or bfloat16),
everything else in float32. On a GPU cuDNN computes all of a sequence, in the compute dtype.

Shapes: B sequences, T time steps, I input features, H units, N rows.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq.dropout import dropout
from seq2seq.layers import ExplicitLayer, sub_seed
from seq2seq.runtime import has_gpu

_forward_only: ContextVar[bool] = ContextVar("_forward_only", default=False)


@contextmanager
def forward_only() -> Iterator[None]:
    """LSTMs that are traced within it keep nothing for a gradient and do not need XLA.

    So they are ready for batches of any shape, where XLA compiles for a second at each new one, and
    for TensorFlow Serving, which has XLA for processors switched off.
    """
    token = _forward_only.set(True)
    try:
        yield
    finally:
        _forward_only.reset(token)


class LSTMState(NamedTuple):
    """The hidden state `h` (compute dtype) and the cell state `c` (float32), both `[N, H]`."""

    h: tf.Tensor
    c: tf.Tensor


class StepWeights(NamedTuple):
    """The weights of a product `kernel @ inputs + bias`, laid out for the steps of a search.

    They are the left operand, as in a sequence. As the right one, without oneDNN, the product of a
    few rows takes ten times as long.

    Attributes:
        kernel: `[outputs, inputs]` in the compute dtype.
        bias: `[outputs, 1]`, float32; of attention in the compute dtype.
    """

    kernel: tf.Tensor
    bias: tf.Tensor


class LSTM(ExplicitLayer):
    """An LSTM over right-padded sequences, in either direction of time.

    Weights are those of `keras.layers.LSTM`: kernel `[I, 4H]`, recurrent kernel `[H, 4H]`, bias
    `[4H]`, gates in the order i, f, C~, o; the forget gate's bias starts at 1 (Jozefowicz et al.
    2015, sec. 2).
    """

    def __init__(
        self,
        units: int,
        *,
        reverse: bool = False,
        recurrent_dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            units: H, the size of the state.
            reverse: Read each sequence from its last position to its first.
            recurrent_dropout: Share of the recurrent kernel's elements dropped in training, the
                same at every position (Merity et al. 2018, sec. 2).
            seed: Of the initial weights.
            **kwargs: `name` and `dtype` (`"float32"` or `"mixed_bfloat16"`) of the Keras layer.
        """
        super().__init__(**kwargs)
        self.units = units
        self.reverse = reverse
        self.recurrent_dropout = recurrent_dropout
        self.seed = seed

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the weights for inputs whose last dimension is that of `input_shape`."""
        units, initializers = self.units, keras.initializers
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], 4 * units),
            initializer=initializers.GlorotUniform(sub_seed(self.seed, "kernel")),
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(units, 4 * units),
            initializer=initializers.Orthogonal(seed=sub_seed(self.seed, "recurrent_kernel")),
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(4 * units,),
            initializer=_forget_bias_of_one(units),
        )
        if has_gpu():  # now, as the replicas of an update may make no variables
            _keras_lstm(input_shape[-1], units, self.compute_dtype, cudnn=True)

    def zero_state(self, rows: tf.Tensor | int) -> LSTMState:
        """The all-zero state of `rows` sequences."""
        shape = (rows, self.units)
        return LSTMState(tf.zeros(shape, self.compute_dtype), tf.zeros(shape))

    def call(
        self,
        inputs: tf.Tensor,
        state: LSTMState | None = None,
        lengths: tf.Tensor | None = None,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, LSTMState]:
        """The states over whole sequences.

        Past a sequence's length its state is held: the final state is that of its last real
        position (its first, if the layer reads in reverse).

        Args:
            inputs: `[B, T, I]`.
            state: The state before the first position read; zero if left out.
            lengths: `[B]` int32, real positions of each sequence; T if left out.
            dropout_seed: `[2]` int32 in training, else None.

        Returns:
            h at every position `[B, T, H]` (compute dtype), and the final state.
        """
        inputs = tf.transpose(inputs, [1, 2, 0])
        sequence, state = self.sequence(inputs, state, lengths, dropout_seed)
        return tf.transpose(sequence, [2, 0, 1]), state

    def sequence(
        self,
        inputs: tf.Tensor,
        state: LSTMState | None = None,
        lengths: tf.Tensor | None = None,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, LSTMState]:
        """`call` in the computation's own layout: `[T, I, B]` to `[T, H, B]`; states `[B, H]`."""
        time, rows = tf.shape(inputs)[0], tf.shape(inputs)[2]
        state = self.zero_state(rows) if state is None else state
        lengths = tf.fill([rows], time) if lengths is None else lengths
        recurrent_kernel = tf.convert_to_tensor(self.recurrent_kernel)
        recurrent_kernel = dropout(recurrent_kernel, self.recurrent_dropout, dropout_seed)
        if has_gpu():
            return self._sequence_by_keras(inputs, recurrent_kernel, state, lengths, cudnn=True)
        compute = _forward_sequence if _forward_only.get() else _sequence
        hidden, h, c = compute(
            tf.cast(inputs, self.compute_dtype),
            tf.convert_to_tensor(self.kernel),
            recurrent_kernel,
            tf.convert_to_tensor(self.bias),
            tf.cast(tf.transpose(state.h), self.compute_dtype),
            tf.transpose(state.c),
            lengths,
            self.reverse,
        )
        return hidden, LSTMState(tf.transpose(h), tf.transpose(c))

    def _sequence_by_keras(
        self,
        inputs: tf.Tensor,
        recurrent_kernel: tf.Tensor,
        state: LSTMState,
        lengths: tf.Tensor,
        *,
        cudnn: bool,
    ) -> tuple[tf.Tensor, LSTMState]:
        """`sequence` by Keras's LSTM with these weights: on a GPU it is one cuDNN kernel.

        Without `cudnn` any processor computes it, which tests do.
        """
        dtype = self.compute_dtype
        layer = _keras_lstm(inputs.shape[1], self.units, dtype, cudnn=cudnn)
        inputs = tf.transpose(tf.cast(inputs, dtype), [2, 0, 1])  # [B, T, I]
        if self.reverse:  # each sequence within its own length, so that padding stays on the right
            inputs = tf.reverse_sequence(inputs, lengths, seq_axis=1)
        weights = (self.kernel, recurrent_kernel, self.bias)
        (sequence, h, c), _ = layer.stateless_call(
            [tf.convert_to_tensor(weight) for weight in weights],
            layer.non_trainable_variables,
            inputs,
            initial_state=[tf.cast(state.h, dtype), tf.cast(state.c, dtype)],
            mask=tf.sequence_mask(lengths, tf.shape(inputs)[1]),
        )
        if self.reverse:
            sequence = tf.reverse_sequence(sequence, lengths, seq_axis=1)
        return tf.transpose(sequence, [1, 2, 0]), LSTMState(h, tf.cast(c, tf.float32))

    def layout(self) -> StepWeights:
        """The weights as single steps multiply by them, to be made once for many steps."""
        weights = tf.concat([self.kernel, self.recurrent_kernel], 0)
        weights = tf.transpose(tf.cast(weights, self.compute_dtype))  # [4H, I+H]
        return StepWeights(weights, tf.convert_to_tensor(self.bias)[:, None])

    def stepper(
        self, layout: StepWeights | None = None
    ) -> Callable[[tf.Tensor, LSTMState], LSTMState]:
        """One step as a function of (`[N, I]`, state), with the weights of a `layout` or of now."""
        weights, bias = layout or self.layout()

        def step(inputs: tf.Tensor, state: LSTMState) -> LSTMState:
            inputs_and_h = tf.concat([inputs, tf.cast(state.h, inputs.dtype)], 1)
            inputs_and_h = tf.cast(inputs_and_h, self.compute_dtype)
            product = tf.matmul(weights, inputs_and_h, transpose_b=True)  # [4H, N]
            h, c = _cell(tf.cast(product, tf.float32) + bias, tf.transpose(state.c), product.dtype)
            return LSTMState(tf.transpose(h), tf.transpose(c))

        return step

    def step(self, inputs: tf.Tensor, state: LSTMState) -> LSTMState:
        """The state after reading one position, `inputs` `[N, I]`."""
        return self.stepper()(inputs, state)


def _forget_bias_of_one(units: int) -> Callable[..., tf.Tensor]:
    def initializer(shape: tuple[int, ...], dtype: str) -> tf.Tensor:
        del shape
        zeros = tf.zeros([units], dtype)
        return tf.concat([zeros, tf.ones([units], dtype), zeros, zeros], 0)

    return initializer


@functools.cache
def _keras_lstm(
    input_size: int | None, units: int, dtype: str, *, cudnn: bool
) -> keras.layers.LSTM:
    """Keras's LSTM for `stateless_call`; its own weights are never read."""
    layer = keras.layers.LSTM(
        units,
        return_sequences=True,
        return_state=True,
        use_cudnn=cudnn,
        dtype=dtype,
        kernel_initializer="zeros",
        recurrent_initializer="zeros",  # the usual one cannot be computed in bfloat16
    )
    with tf.init_scope():  # a function that is being traced may not make variables
        layer.build((None, None, input_size))
    return layer


def _cell(pre: tf.Tensor, c: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """h (in `dtype`) and C `[H, N]` at one position, of W x + U h + b `[4H, N]` and the last C."""
    i, f, candidate, o = tf.split(pre, 4)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(candidate)
    return tf.cast(tf.sigmoid(o) * tf.tanh(c), dtype), c


def _forward_sequence(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    h: tf.Tensor,
    c: tf.Tensor,
    lengths: tf.Tensor,
    reverse: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`_sequence`, all arguments the same, without what its gradient needs."""
    order = _Order(tf.shape(inputs)[0], reverse)
    products_of_inputs = _unstacked(tf.matmul(_left_operand(kernel, inputs.dtype), inputs))
    recurrent_weights = _left_operand(recurrent_kernel, inputs.dtype)

    def forward(t, h, c, hidden):  # type: ignore[no-untyped-def]
        at = order.position(t)
        pre = _pre_activation(products_of_inputs.read(at), tf.matmul(recurrent_weights, h), bias)
        new_h, new_c = _cell(pre, c, h.dtype)
        h, c = tf.where(at < lengths, new_h, h), tf.where(at < lengths, new_c, c)
        return t + 1, h, c, hidden.write(at, h)

    loop = (tf.constant(0), h, c, tf.TensorArray(inputs.dtype, order.time, element_shape=h.shape))
    _, h, c, hidden = tf.while_loop(lambda t, *_: t < order.time, forward, loop)
    return hidden.stack(), h, c


def _sequence(
    inputs: tf.Tensor,  # [T, I, B] compute dtype
    kernel: tf.Tensor,  # [I, 4H] float32
    recurrent_kernel: tf.Tensor,  # [H, 4H] float32
    bias: tf.Tensor,  # [4H] float32
    h: tf.Tensor,  # [H, B] compute dtype
    c: tf.Tensor,  # [H, B] float32
    lengths: tf.Tensor,  # [B] int32
    reverse: bool,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """h at every position `[T, H, B]`, final h and C `[H, B]`; differentiable in all floats."""
    dtype = inputs.dtype
    order = _Order(tf.shape(inputs)[0], reverse)

    @tf.custom_gradient
    def run(inputs, kernel, recurrent_kernel, bias, h, c):  # type: ignore[no-untyped-def]
        kernel, recurrent_kernel = tf.cast(kernel, dtype), tf.cast(recurrent_kernel, dtype)
        products_of_inputs = _unstacked(tf.matmul(tf.transpose(kernel), inputs))  # of [4H, B]
        recurrent_weights = tf.transpose(recurrent_kernel)
        steps = _forward_steps(order, products_of_inputs, recurrent_weights, bias, h, c, lengths)

        def gradient(d_hiddens, d_h, d_c):  # type: ignore[no-untyped-def]
            d_products, d_h, d_c = _backward_steps(
                order,
                products_of_inputs,
                recurrent_kernel,
                bias,
                steps,
                d_hiddens,
                d_h,
                d_c,
                lengths,
            )
            d_by_time = _features_by_time(d_products)
            # One product over all T * B positions each: [I, 4H] and [H, 4H].
            d_kernel, d_recurrent_kernel = (
                tf.cast(tf.matmul(_features_by_time(read), d_by_time, transpose_b=True), tf.float32)
                for read in (inputs, order.read(steps.slots))
            )
            d_bias = tf.reduce_sum(tf.cast(d_by_time, tf.float32), 1)
            return tf.matmul(kernel, d_products), d_kernel, d_recurrent_kernel, d_bias, d_h, d_c

        return (order.hidden(steps.slots), steps.h, steps.c), gradient

    return run(inputs, kernel, recurrent_kernel, bias, h, c)


class _Order(NamedTuple):
    """At which position of a sequence of `time` each step t of the computation is.

    The h before and after every step lie in T + 1 slots in the order of positions, so that the h of
    all positions, and all that was read, are slices of one tensor: `slots[1:]` and `slots[:-1]`, or
    the other way round in reverse.
    """

    time: tf.Tensor
    reverse: bool

    def position(self, t: tf.Tensor) -> tf.Tensor:
        """Where step t is."""
        return self.time - 1 - t if self.reverse else t

    def slot(self, t: tf.Tensor) -> tf.Tensor:
        """Where the h lies that step t reads."""
        return self.time - t if self.reverse else t

    def read(self, slots: tf.Tensor) -> tf.Tensor:
        """Of the `slots` `[T+1, H, B]` the h that was read at each position, `[T, H, B]`."""
        return slots[1:] if self.reverse else slots[:-1]

    def hidden(self, slots: tf.Tensor) -> tf.Tensor:
        """The h that each position has, `[T, H, B]`."""
        return slots[:-1] if self.reverse else slots[1:]


class _Steps(NamedTuple):
    """What the steps of a sequence leave, for its result and its gradient.

    Attributes:
        slots: See `_Order`, `[T+1, H, B]`.
        products: U h of each step, an array of `[4H, B]`.
        cells: C before each step, an array of `[H, B]`.
        h: The last one, `[H, B]`.
        c: The last one, `[H, B]`.
    """

    slots: tf.Tensor
    products: tf.TensorArray
    cells: tf.TensorArray
    h: tf.Tensor
    c: tf.Tensor


def _array(dtype: tf.DType, size: tf.Tensor) -> tf.TensorArray:
    return tf.TensorArray(dtype, size, clear_after_read=False)


def _unstacked(sequence: tf.Tensor) -> tf.TensorArray:
    """What a `sequence` has at each position, which is read without a copy."""
    return _array(sequence.dtype, tf.shape(sequence)[0]).unstack(sequence)


def _forward_steps(
    order: _Order,
    products_of_inputs: tf.TensorArray,
    recurrent_weights: tf.Tensor,  # [4H, H]
    bias: tf.Tensor,
    h: tf.Tensor,
    c: tf.Tensor,
    lengths: tf.Tensor,
) -> _Steps:
    def forward(t, h, c, slots, products, cells):  # type: ignore[no-untyped-def]
        at = order.position(t)
        product = tf.matmul(recurrent_weights, h)  # [4H, B]
        slots, products = slots.write(order.slot(t), h), products.write(t, product)
        cells = cells.write(t, c)  # C before this step: the gradient needs both sides of it
        h, c = _training_cell(products_of_inputs.read(at), product, bias, h, c, at < lengths)
        return t + 1, h, c, slots, products, cells

    time, dtype = order.time, h.dtype
    arrays = _array(dtype, time + 1), _array(dtype, time), _array(tf.float32, time)
    _, h, c, slots, products, cells = tf.while_loop(
        lambda t, *_: t < time, forward, (tf.constant(0), h, c, *arrays)
    )
    return _Steps(slots.write(order.slot(time), h).stack(), products, cells, h, c)


def _backward_steps(
    order: _Order,
    products_of_inputs: tf.TensorArray,
    recurrent_kernel: tf.Tensor,  # [H, 4H]
    bias: tf.Tensor,
    steps: _Steps,
    d_hiddens: tf.Tensor,  # [T, H, B]
    d_h: tf.Tensor,
    d_c: tf.Tensor,
    lengths: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients of W x + U h + b `[T, 4H, B]`, and of the first h and C `[H, B]`."""

    d_hidden_of, dtype = _unstacked(d_hiddens), d_hiddens.dtype

    def backward(t, d_h, d_h_held, d_c, c, d_products):  # type: ignore[no-untyped-def]
        at = order.position(t)
        c_before = steps.cells.read(t)
        d_product, d_h_held, d_c = _cell_gradient(
            d_hidden_of.read(at), d_h, d_h_held, d_c,
            products_of_inputs.read(at), steps.products.read(t), bias, c_before, c, at < lengths,
        )  # fmt: skip
        d_h = tf.matmul(recurrent_kernel, d_product)  # [H, B]
        return t - 1, d_h, d_h_held, d_c, c_before, d_products.write(at, d_product)

    loop = (
        order.time - 1, d_h, tf.zeros_like(steps.c), d_c, steps.c, _array(dtype, order.time),
    )  # fmt: skip
    _, d_h, d_h_held, d_c, _, d_products = tf.while_loop(lambda t, *_: t >= 0, backward, loop)
    d_h = tf.cast(tf.cast(d_h, tf.float32) + d_h_held, dtype)
    return d_products.stack(), d_h, d_c


def _left_operand(kernel: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`[X, 4H]` as products take it, `[4H, X]`."""
    return tf.transpose(tf.cast(kernel, dtype))


def _pre_activation(product_of_input: tf.Tensor, product: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """W x + U h + b `[4H, B]`, float32, of W x and U h."""
    return tf.cast(product_of_input, tf.float32) + tf.cast(product, tf.float32) + bias[:, None]


def _features_by_time(sequence: tf.Tensor) -> tf.Tensor:
    """`[T, X, B]` to `[X, T * B]`."""
    features = sequence.shape[1] or tf.shape(sequence)[1]
    return tf.reshape(tf.transpose(sequence, [1, 0, 2]), [features, -1])


@tf.function(jit_compile=True, autograph=False)
def _training_cell(product_of_input, product, bias, h, c, real):  # type: ignore[no-untyped-def]
    """`_cell`: h and C; columns not `real` keep their state."""
    i, f, candidate, o = _gates(product_of_input, product, bias)
    new_c = f * c + i * candidate
    new_h = tf.where(real, o * tf.tanh(new_c), tf.cast(h, tf.float32))
    return tf.cast(new_h, h.dtype), tf.where(real, new_c, c)


def _gates(product_of_input: tf.Tensor, product: tf.Tensor, bias: tf.Tensor) -> Sequence[tf.Tensor]:
    """i, f, C~ and o `[H, B]`, float32."""
    # sigmoid(x) = (1 + tanh(x / 2)) / 2: one pass of tanh makes all four gates.
    scale = tf.constant([0.5, 0.5, 1.0, 0.5])[:, None, None]
    pre = _pre_activation(product_of_input, product, bias)
    pre = tf.reshape(pre, [4, product.shape[0] // 4, -1])
    gates: list[tf.Tensor] = tf.unstack(tf.tanh(pre * scale) * scale + (1.0 - scale))
    return gates


@tf.function(jit_compile=True, autograph=False)
def _cell_gradient(  # type: ignore[no-untyped-def]
    d_hidden, d_h, d_h_held, d_c, product_of_input, product, bias, c_before, c, real
):
    """The cell's gradient: of W x + U h + b, and of the h and C before it.

    The gates are computed again: kept as bfloat16, one near 1 would be 1, and have no gradient.
    """
    i, f, candidate, o = _gates(product_of_input, product, bias)
    d_h = tf.cast(d_hidden, tf.float32) + tf.cast(d_h, tf.float32) + d_h_held
    tanh_c = tf.tanh(c)
    d_new_c = d_c + d_h * o * (1.0 - tanh_c * tanh_c)
    d_product = tf.concat(
        [
            d_new_c * candidate * i * (1.0 - i),
            d_new_c * c_before * f * (1.0 - f),
            d_new_c * i * (1.0 - candidate * candidate),
            d_h * tanh_c * o * (1.0 - o),
        ],
        0,
    )
    d_product = tf.cast(tf.where(real, d_product, 0.0), product.dtype)
    return d_product, tf.where(real, 0.0, d_h), tf.where(real, d_new_c * f, d_c)
