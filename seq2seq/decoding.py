"""A model's searches and its forced decoding, each compiled once for batches of any shape.

Shapes: B sentences, S source length, T target length, P prefix length, X constraints of L ids, K
hypotheses.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.attention import coverage_score
from seq2seq.decoder import DecoderLayout, shift_right
from seq2seq.limits import Limits
from seq2seq.lstm import forward_only
from seq2seq.models import TranslationModel
from seq2seq.search import (
    Hypotheses,
    Start,
    Step,
    averaged,
    beam_search,
    greedy_search,
    ranking_score,
    sample,
)
from seq2seq.tokenizer import Tokenizer


class SearchKind(NamedTuple):
    """What a search is compiled for; all else is given to it at each call.

    Attributes:
        sampled: Sampling instead of a search.
        beam_size: 1 is greedy search.
        n_best: Hypotheses wanted.
        top_k: Of sampling.
        length_formula: See `ranking_score`.
        covers: With a coverage penalty.
        forbidden_ids: Never said, beside those that are no text.
        no_repeat_ngram: See `Limits`, as for the rest.
        penalises_repetition: Whether there is a repetition penalty.
        has_least_length: Whether there is a least length.
        has_prefix: Whether prefixes are given.
        has_constraints: Whether constraints are given.
    """

    sampled: bool
    beam_size: int
    n_best: int
    top_k: int = 0
    length_formula: str = "gnmt"
    covers: bool = False
    forbidden_ids: tuple[int, ...] = ()
    no_repeat_ngram: int = 0
    penalises_repetition: bool = False
    has_least_length: bool = False
    has_prefix: bool = False
    has_constraints: bool = False


class SearchInputs(NamedTuple):
    """What a compiled search is given.

    Attributes:
        source: `[B, S]` int32.
        source_lengths: `[B]` int32.
        max_lengths: `[B]` int32, most ids of each translation.
        min_lengths: `[B]` int32, fewest.
        prefixes: `[B, P]` int32, what each translation begins with, filled up with `FREE`.
        constraints: `[B, X, L]` int32, what each translation contains; see `Limits`.
        numbers: `[B]` int64, the place of each sentence in the input: its share of random numbers.
        length_penalty: A number, as are the rest.
        coverage_penalty: Of beam search.
        repetition_penalty: See `Limits`.
        temperature: Of sampling.
        top_p: Of sampling.
        seed: Of sampling, int64.
    """

    source: Any
    source_lengths: Any
    max_lengths: Any
    min_lengths: Any
    prefixes: Any
    constraints: Any
    numbers: Any
    length_penalty: Any
    coverage_penalty: Any
    repetition_penalty: Any
    temperature: Any
    top_p: Any
    seed: Any


class Forced(NamedTuple):
    """What forced decoding tells of B given translations.

    Attributes:
        log_probs: Log-probability of each target id `[B, T]`, 0 past the end.
        attention: Where the decoder looked as it said each `[B, T, S]`; None without attention.
    """

    log_probs: Any
    attention: Any


class Layouts:
    """The weights of some models' decoders, laid out once for all steps of all searches.

    Attributes:
        models: The models.
        decoders: The layout of each model's decoder.
    """

    def __init__(self, models: Sequence[TranslationModel]) -> None:
        self.models = models
        self.lay_out()

    def lay_out(self) -> None:
        """Takes up the models' weights as they are now: needed whenever they have changed."""
        self.decoders = [model.decoder.layout() for model in self.models]


class CompiledSearch:
    """`SearchInputs` to `Hypotheses`: a search traced once for all shapes.

    The models' probabilities are averaged.

    Attributes:
        function: `SearchInputs` and `Layouts.decoders` to `Hypotheses`.
    """

    def __init__(self, layouts: Layouts, tokenizer: Tokenizer, kind: SearchKind) -> None:
        """
        Raises:
            UsageError: A coverage penalty, and a model without attention.
        """
        self._layouts = layouts
        self._models = layouts.models
        self._tokenizer = tokenizer
        self._kind = kind
        # None of these is text. A tokenizer without padding has the end id for it.
        no_text = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id} - {tokenizer.eos_id}
        self._forbidden = tuple(sorted(no_text | {*kind.forbidden_ids}))
        specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, layouts.decoders)
        # There is no Python control flow to rewrite: without autograph tracing is much faster.
        self.function = tf.function(
            forward_only()(self._search), input_signature=[_signature(), specs], autograph=False
        )
        self.function.get_concrete_function()  # traced now, while the caller holds the lock

    def __call__(self, inputs: SearchInputs) -> Hypotheses:
        """The hypotheses of a batch."""
        found: Hypotheses = self.function(inputs, self._layouts.decoders)
        return found

    def _search(self, inputs: SearchInputs, layouts: Sequence[DecoderLayout]) -> Hypotheses:
        kind, tokenizer = self._kind, self._tokenizer
        steps: list[Any] = [
            model.decoder.attending_stepper(layout)
            if kind.covers
            else model.decoder.stepper(layout)
            for model, layout in zip(self._models, layouts, strict=True)
        ]
        step: Step = steps[0] if len(steps) == 1 else averaged(steps)
        limits = Limits(
            end_id=tokenizer.eos_id,
            max_length=inputs.max_lengths,
            forbidden_ids=self._forbidden,
            min_length=inputs.min_lengths if kind.has_least_length else 0,
            prefix=inputs.prefixes if kind.has_prefix else (),
            no_repeat_ngram=kind.no_repeat_ngram,
            repetition_penalty=inputs.repetition_penalty if kind.penalises_repetition else 1.0,
            constraints=inputs.constraints if kind.has_constraints else (),
        )
        start = _start(self._models, inputs, bos_id=tokenizer.bos_id, covers=kind.covers)
        return _searched(step, start, limits, kind=kind, inputs=inputs, models=len(self._models))


class CompiledForced:
    """Forced decoding, traced once for all shapes.

    Probabilities and attention are the means over the models.
    """

    def __init__(self, models: Sequence[TranslationModel], bos_id: int) -> None:
        self._models = models
        self._bos_id = bos_id
        ids, lengths = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
        self.function = tf.function(
            forward_only()(self._forced),
            input_signature=[ids, lengths, ids, lengths],
            autograph=False,
        )
        self.function.get_concrete_function()

    def __call__(
        self, source: Any, source_lengths: Any, target: Any, target_lengths: Any
    ) -> Forced:
        """Of source `[B, S]` and target `[B, T]` ids, and their lengths `[B]`, all int32."""
        found: Forced = self.function(source, source_lengths, target, target_lengths)
        return found

    def _forced(self, source: Any, source_lengths: Any, target: Any, target_lengths: Any) -> Forced:
        read = shift_right(target, self._bos_id)
        found = [model.attend(source, source_lengths, read) for model in self._models]
        # As stable as log-softmax, and never a second tensor as large as the logits.
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
            for logits, _ in found
        ]
        log_probs = _log_mean([-loss for loss in losses])
        real = tf.sequence_mask(target_lengths, tf.shape(target)[1], dtype=log_probs.dtype)
        attention = [weights for _, weights in found if weights is not None]
        mean = tf.add_n(attention) / len(attention) if attention else None
        return Forced(log_probs * real, mean)


def _signature() -> SearchInputs:
    sentences, number = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.float32)
    ids = tf.TensorSpec([None, None], tf.int32)
    return SearchInputs(
        source=ids,
        source_lengths=sentences,
        max_lengths=sentences,
        min_lengths=sentences,
        prefixes=ids,
        constraints=tf.TensorSpec([None, None, None], tf.int32),
        numbers=tf.TensorSpec([None], tf.int64),
        length_penalty=number,
        coverage_penalty=number,
        repetition_penalty=number,
        temperature=number,
        top_p=number,
        seed=tf.TensorSpec([], tf.int64),
    )


def _start(
    models: Sequence[TranslationModel], inputs: SearchInputs, *, bos_id: int, covers: bool
) -> Start:
    """The source as each model read it: one state and memory, or tuples of them."""
    begun: list[tuple[Any, Any]] = [
        model.begin(inputs.source, inputs.source_lengths) for model in models
    ]
    if covers:
        nothing = tf.zeros(tf.shape(inputs.source))
        begun = [((state, nothing), memory) for state, memory in begun]
    states, memories = zip(*begun, strict=True)
    bos = tf.fill(tf.shape(inputs.numbers), bos_id)
    if len(models) == 1:
        return Start(bos, states[0], memories[0])
    return Start(bos, states, memories)


def _searched(
    step: Any, start: Start, limits: Limits, *, kind: SearchKind, inputs: SearchInputs, models: int
) -> Hypotheses:
    """Hypotheses whose scores have the length penalty in them, from a beam or not."""
    if kind.beam_size > 1:
        return beam_search(
            step,
            start,
            limits,
            beam_size=kind.beam_size,
            length_penalty=inputs.length_penalty,
            length_formula=kind.length_formula,
            n_best=kind.n_best,
            completion_score=_coverage(inputs.coverage_penalty, models) if kind.covers else None,
            repeat_memory=False,
        )
    if kind.sampled:
        found = sample(
            step,
            start,
            limits,
            seed=inputs.seed,
            temperature=inputs.temperature,
            top_k=kind.top_k,
            top_p=inputs.top_p,
            rows=inputs.numbers,
        )
    else:
        found = greedy_search(step, start, limits)
    scores = ranking_score(found.scores, found.lengths, inputs.length_penalty, kind.length_formula)
    return found._replace(scores=scores)


def _coverage(penalty: tf.Tensor, models: int) -> Callable[[Any, Any], tf.Tensor]:
    """The completion score of `attending_stepper`s: the mean over the models."""

    def score(state: Any, memory: Any) -> tf.Tensor:
        if models == 1:
            return coverage_score(state[1], memory.lengths, penalty)
        scores = [
            coverage_score(attended, each.lengths, penalty)
            for (_, attended), each in zip(state, memory, strict=True)
        ]
        return tf.add_n(scores) / models

    return score


def _log_mean(log_probs: Sequence[tf.Tensor]) -> tf.Tensor:
    """The logarithm of the mean probability."""
    if len(log_probs) == 1:
        return log_probs[0]
    return tf.reduce_logsumexp(tf.stack(log_probs), axis=0) - tf.math.log(float(len(log_probs)))
