"""The model's mathematics in NumPy float64, plain and slow: what the fast code must equal.

Written from the equations alone, a loop a time step. B sentences, S source length, T target length,
V vocabulary, I input width, H units, D width of the encoder's outputs, N rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Weights = Mapping[str, np.ndarray]


class CellState(NamedTuple):
    """Hidden state and cell state of one layer, `[B, H]` each."""

    h: np.ndarray
    c: np.ndarray


class LSTMWeights(NamedTuple):
    """`[I, 4H]`, `[H, 4H]`, `[4H]`; the gates in the order i, f, c, o."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray


class EncoderOutput(NamedTuple):
    """Outputs of the top layer `[B, S, D]` and the final states, lowest layer first."""

    outputs: np.ndarray
    states: list[CellState]


class Architecture(NamedTuple):
    """What the shapes and names of weights do not tell."""

    attends_first: bool = False
    heads: int = 1
    residual: bool = False
    reverse_source: bool = False


PLAIN = Architecture()


class Loss(NamedTuple):
    """Sums over all rows."""

    total: float
    nll: float
    correct: int


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Log-probabilities along the last axis."""
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def zero_state(batch: int, units: int) -> CellState:
    """The state of nothing read."""
    return CellState(np.zeros((batch, units)), np.zeros((batch, units)))


def lstm_step(x: np.ndarray, state: CellState, weights: LSTMWeights) -> CellState:
    """One step: f, i, o = sigmoid(..), C~ = tanh(..), C = f C + i C~, h = o tanh(C)."""
    gates = x @ weights.kernel + state.h @ weights.recurrent_kernel + weights.bias  # [B, 4H]
    input_gate, forget_gate, candidate, output_gate = np.split(gates, 4, axis=-1)
    c = sigmoid(forget_gate) * state.c + sigmoid(input_gate) * np.tanh(candidate)
    return CellState(sigmoid(output_gate) * np.tanh(c), c)


def lstm_sequence(
    inputs: np.ndarray,
    weights: LSTMWeights,
    *,
    state: CellState | None = None,
    lengths: Sequence[int] | np.ndarray | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, CellState]:
    """Outputs `[B, T, H]` and the final state, one position at a time.

    A position at or past a sentence's length leaves its state as it is.
    """
    batch, time, _ = inputs.shape
    state = zero_state(batch, len(weights.recurrent_kernel)) if state is None else state
    lengths = np.full(batch, time) if lengths is None else np.asarray(lengths)
    outputs = np.zeros((batch, time, len(weights.recurrent_kernel)))
    for position in reversed(range(time)) if reverse else range(time):
        real = (position < lengths)[:, None]  # [B, 1]
        after = lstm_step(inputs[:, position], state, weights)
        state = CellState(np.where(real, after.h, state.h), np.where(real, after.c, state.c))
        outputs[:, position] = state.h
    return outputs, state


def encoder_stack(
    inputs: np.ndarray,
    lengths: Sequence[int] | np.ndarray,
    layers: Sequence[Sequence[LSTMWeights]],
    *,
    residual: bool = False,
) -> EncoderOutput:
    """A stack of layers; a layer is one direction (forward) or two (forward, backward).

    Two directions are put side by side: outputs at every position, and final states. `residual`
    adds what a layer but the first reads to its outputs.
    """
    states = []
    for depth, directions in enumerate(layers):
        runs = [
            lstm_sequence(inputs, weights, lengths=lengths, reverse=index == 1)
            for index, weights in enumerate(directions)
        ]
        outputs = np.concatenate([outputs for outputs, _ in runs], axis=-1)
        inputs = outputs + inputs if residual and depth > 0 else outputs
        h = np.concatenate([final.h for _, final in runs], axis=-1)
        c = np.concatenate([final.c for _, final in runs], axis=-1)
        states.append(CellState(h, c))
    return EncoderOutput(inputs, states)


def attention_weights(
    query: np.ndarray, values: np.ndarray, length: int, score_kernel: np.ndarray
) -> np.ndarray:
    """Weights `[S]` of one query `[H]` over one sentence's `[S, D]`; zero past its length.

    The general score h W_a h_s of Luong et al. 2015, sec. 3.1.
    """
    scores = values[:length] @ score_kernel @ query
    weights = np.zeros(len(values))
    weights[:length] = np.exp(log_softmax(scores))
    return weights


def attention(
    queries: np.ndarray,
    values: np.ndarray,
    lengths: Sequence[int] | np.ndarray,
    weights: Weights,
) -> np.ndarray:
    """Attentional vectors `[B, T, F]` of queries `[B, T, H]`, by one head.

    Args:
        weights: `score_kernel` `[D, H]`, `combine_kernel` `[H + D, F]`, `combine_bias` `[F]`.
    """
    found = contexts(queries, values, lengths, weights["score_kernel"])
    return attentional_vectors(queries, found, weights)


def contexts(
    queries: np.ndarray,
    values: np.ndarray,
    lengths: Sequence[int] | np.ndarray,
    score_kernel: np.ndarray,
    heads: int = 1,
) -> np.ndarray:
    """What attention finds for queries `[B, T, H]` in values `[B, S, D]`: `[B, T, D]`.

    Of `heads`, each has an equal part of the columns of queries, values and score kernel; scores
    of more than one are divided by the square root of its part of H.
    """
    found = np.zeros((*queries.shape[:2], values.shape[-1]))
    width, value_width = queries.shape[-1] // heads, values.shape[-1] // heads
    scale = 1.0 if heads == 1 else 1.0 / np.sqrt(width)
    for row, position in np.ndindex(*queries.shape[:2]):
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            value_part = slice(head * value_width, (head + 1) * value_width)
            alignment = attention_weights(
                scale * queries[row, position, part],
                values[row],
                lengths[row],
                score_kernel[:, part],
            )
            found[row, position, value_part] = alignment @ values[row, :, value_part]
    return found


def attentional_vectors(queries: np.ndarray, found: np.ndarray, weights: Weights) -> np.ndarray:
    """tanh([h; context] W + b)."""
    joined = np.concatenate([queries, found], axis=-1)
    return np.tanh(joined @ weights["combine_kernel"] + weights["combine_bias"])


def bridged_states(
    states: Sequence[CellState], decoder_layers: int, weights: Weights
) -> list[CellState]:
    """The decoder's first states: top layer from top layer, surplus lower ones from the lowest.

    Args:
        weights: For each dense decoder layer L: `layer_L/h_kernel`, `layer_L/h_bias`,
            `layer_L/c_kernel`, `layer_L/c_bias`. Layers without are copied.
    """
    bridged = []
    for layer in range(decoder_layers):
        below_top = decoder_layers - 1 - layer
        state = states[max(len(states) - 1 - below_top, 0)]
        if f"layer_{layer}/h_kernel" in weights:
            h = state.h @ weights[f"layer_{layer}/h_kernel"] + weights[f"layer_{layer}/h_bias"]
            c = state.c @ weights[f"layer_{layer}/c_kernel"] + weights[f"layer_{layer}/c_bias"]
            state = CellState(h, c)
        bridged.append(state)
    return bridged


def decoder_logits(
    ids: np.ndarray,
    states: Sequence[CellState],
    memory: EncoderOutput | None,
    lengths: Sequence[int] | np.ndarray,
    weights: Weights,
    architecture: Architecture = PLAIN,
) -> np.ndarray:
    """Teacher-forced logits `[B, T, V]`.

    Args:
        memory: What attention looks at; None for the decoder without attention.
        weights: `embedding`, `layer_0/kernel` .., `output_kernel` (absent: the embedding),
            `output_bias`; `attention/..` or, where widths differ, `feature_kernel`.
    """
    values = embedded(ids, weights["embedding"])  # [B, T, E]
    found = None
    for layer, state in enumerate(states):
        read = values if found is None else np.concatenate([values, found], axis=-1)
        hidden, _ = lstm_sequence(read, lstm_weights(weights, f"layer_{layer}"), state=state)
        values = hidden + values if architecture.residual and layer > 0 else hidden
        attends = layer == 0 if architecture.attends_first else layer == len(states) - 1
        if memory is not None and attends:
            kernel = weights["attention/score_kernel"]
            found = contexts(values, memory.outputs, lengths, kernel, architecture.heads)
    if found is not None:
        values = attentional_vectors(values, found, under(weights, "attention"))
    elif "feature_kernel" in weights:
        values = values @ weights["feature_kernel"]
    output_kernel = weights.get("output_kernel", weights["embedding"])
    return values @ output_kernel.T + weights["output_bias"]


def embedded(ids: np.ndarray, embedding: np.ndarray) -> np.ndarray:
    """Rows of the embedding `[V, E]`, times sqrt(E) as in Vaswani et al. 2017, sec. 3.4."""
    return embedding[ids] * np.sqrt(embedding.shape[1])


def translation_logits(
    weights: Weights,
    source: np.ndarray,
    source_lengths: Sequence[int] | np.ndarray,
    target_input: np.ndarray,
    architecture: Architecture = PLAIN,
) -> np.ndarray:
    """Logits `[B, T, V]` of a whole encoder-decoder, whose shape is read off its weights' names.

    Args:
        weights: `encoder/embedding`, `encoder/layer_0/forward/kernel` .., `bridge/..` as in
            `bridged_states`, `decoder/..` as in `decoder_logits`.
        source: `[B, S]` int32.
        source_lengths: Real positions of each source.
        target_input: `[B, T]` int32, what the decoder reads.
    """
    encoder, decoder = under(weights, "encoder"), under(weights, "decoder")
    layers = [
        [
            lstm_weights(encoder, f"layer_{layer}/{direction}")
            for direction in ("forward", "backward")
            if f"layer_{layer}/{direction}/kernel" in encoder
        ]
        for layer in range(_layer_count(encoder))
    ]
    if architecture.reverse_source:
        source = source.copy()
        for row, length in enumerate(source_lengths):
            source[row, :length] = source[row, :length][::-1]
    encoded = encoder_stack(
        embedded(source, encoder["embedding"]),
        source_lengths,
        layers,
        residual=architecture.residual,
    )
    states = bridged_states(encoded.states, _layer_count(decoder), under(weights, "bridge"))
    memory = encoded if any(name.startswith("attention/") for name in decoder) else None
    return decoder_logits(target_input, states, memory, source_lengths, decoder, architecture)


def cross_entropy(logits: np.ndarray, labels: np.ndarray, label_smoothing: float) -> Loss:
    """Cross-entropy against (1 - e) on the label + e / V on every word, in nats, summed."""
    log_probs = log_softmax(logits)  # [N, V]
    vocabulary = logits.shape[-1]
    rows = np.arange(len(labels))
    target = np.full(logits.shape, label_smoothing / vocabulary)
    target[rows, labels] += 1.0 - label_smoothing
    return Loss(
        total=float(-(target * log_probs).sum()),
        nll=float(-log_probs[rows, labels].sum()),
        correct=int((logits.argmax(axis=-1) == labels).sum()),
    )


def numerical_gradient(
    function: Callable[[Weights], float],
    arrays: Weights,
    name: str,
    entries: Iterable[int] | None = None,
    step: float = 1e-5,
) -> np.ndarray:
    """Derivatives of `function` by central differences for flat `entries` (all by default)."""
    whole = arrays[name].astype(np.float64)
    entries = range(whole.size) if entries is None else entries
    slopes = []
    for entry in entries:
        values = []
        for sign in (1.0, -1.0):
            moved = whole.copy()
            moved.flat[entry] += sign * step
            values.append(function({**arrays, name: moved}))
        slopes.append((values[0] - values[1]) / (2.0 * step))
    return np.array(slopes)


def relative_error(values: np.ndarray, expected: np.ndarray) -> float:
    """|values - expected| / |expected|, Euclidean norms."""
    difference = np.asarray(values, np.float64) - np.asarray(expected, np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))


def under(weights: Weights, prefix: str) -> dict[str, np.ndarray]:
    """The weights whose names start with `prefix/`, that start left off."""
    start = prefix + "/"
    return {name[len(start) :]: value for name, value in weights.items() if name.startswith(start)}


def lstm_weights(weights: Weights, prefix: str) -> LSTMWeights:
    """The three weights of one LSTM."""
    return LSTMWeights(*(weights[f"{prefix}/{field}"] for field in LSTMWeights._fields))


def _layer_count(weights: Weights) -> int:
    return len({name.split("/")[0] for name in weights if name.startswith("layer_")})
