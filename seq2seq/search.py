"""The ids a decoder finds most likely: greedy search, sampling and beam search over a step.

A search knows a callable, not a model: whatever turns last ids and a state into logits and the
next state can be searched. All searches are `tf.while_loop`s: they run eagerly and inside a
`tf.function`, with any batch size. What a sentence gets does not depend on the others in its batch,
beyond what the step itself rounds otherwise.

Shapes: B sentences, K hypotheses of each, N rows (B times the hypotheses a sentence has in the
beam: beam k of sentence b is row b * K + k), V vocabulary, T longest hypothesis.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from seq2seq.beams import Beams, advance_beams, find_candidates, first_beams
from seq2seq.continuations import Choices, Position, best_choices, drawn_choices
from seq2seq.errors import UsageError
from seq2seq.limits import Limits
from seq2seq.search_loop import Given, given_of, longest_of, repeat_rows, until_done
from seq2seq.selection import as_uint64, mix

__all__ = [
    "Hypotheses",
    "Limits",
    "Start",
    "Step",
    "averaged",
    "beam_search",
    "greedy_search",
    "ranking_score",
    "sample",
    "sample_onwards",
]

State = Any  # any structure of tensors that tf.nest knows; absent parts are ()
Memory = Any


class Step(Protocol):
    """One decoding step of any model.

    Every leaf of state and memory has N on axis 0; the state keeps its structure, dtypes and the
    shape of its rows. Memory is what never changes while decoding, as an encoder's outputs. N
    changes from step to step: a beam begins with one hypothesis a sentence, and sentences that are
    done leave.
    """

    def __call__(self, ids: tf.Tensor, state: State, memory: Memory) -> tuple[tf.Tensor, State]:
        """Logits `[N, V]` of what follows `ids` `[N]` int32, and the state after reading them."""
        ...


class Start(NamedTuple):
    """Where decoding begins.

    Attributes:
        ids: What the first step is fed `[B]` int32: the begin id, or the last id of a prompt.
        state: The state before `ids` are read; B on axis 0 of every leaf.
        memory: What every step is given beside the state; B on axis 0 of every leaf.
    """

    ids: tf.Tensor
    state: State
    memory: Memory = ()


class Hypotheses(NamedTuple):
    """Complete hypotheses, best first; K = 1 from greedy search and sampling.

    A hypothesis ends in the end id, or has `max_length` ids and was cut off there. Where fewer
    than K exist (a tiny vocabulary), the rest have length 0 and log-probability -inf. Where the
    logits were no distribution (NaN, +inf, nothing but -inf), all hypotheses of the sentence have
    length 0 and log-probability NaN.

    Attributes:
        ids: `[B, K, T]` int32, filled up with the end id.
        lengths: `[B, K]` int32, end id counted.
        log_probs: `[B, K]`, sum of the model's log-probabilities (softmax over all V) of the ids,
            end id included. Nothing else enters: no penalty, temperature or forbidden id.
        scores: `[B, K]`, what hypotheses are ranked by: `log_probs`, or what the penalties asked
            for make of them.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    log_probs: tf.Tensor
    scores: tf.Tensor


def greedy_search(step: Step, start: Start, limits: Limits) -> Hypotheses:
    """The hypothesis of each sentence that takes the most likely id at each step.

    Args:
        step: One decoding step.
        start: First ids `[B]` int32, state and memory of each sentence.
        limits: End id, lengths, what may and must be said.

    Raises:
        UsageError: A limit is out of range.
    """

    def pick(logits: tf.Tensor, at: Position) -> Choices:
        best = best_choices(logits, 1, at)
        # One that is NaN is the answer: no distribution, and not that all is forbidden.
        scores = tf.where(tf.math.is_nan(best.scores), math.inf, best.scores)
        first = tf.argmax(scores, axis=1, output_type=tf.int32)[:, None]
        return Choices(*(tf.gather(part, first, batch_dims=1) for part in best))

    return _follow(step, start, limits=limits, pick=pick)[0]


def sample(
    step: Step,
    start: Start,
    limits: Limits,
    *,
    seed: tf.Tensor | int,
    temperature: tf.Tensor | float = 1.0,
    top_k: int = 0,
    top_p: tf.Tensor | float = 1.0,
    rows: tf.Tensor | None = None,
) -> Hypotheses:
    """One hypothesis of each sentence, drawn at random from the step's distribution.

    The random numbers are a function of seed, row and position: equal seeds give equal samples,
    and with `rows` given a sentence's sample is the same in any batch.

    Args:
        step: One decoding step.
        start: First ids `[B]` int32, state and memory of each sentence.
        limits: End id, lengths, what may and must be said.
        seed: Any integer; the same in every batch of one run.
        temperature: Divides the logits: near 0 almost greedy, 1 the model's own distribution.
        top_k: Draw from the `top_k` most likely ids; 0 draws from all.
        top_p: Of those, draw from the fewest most likely ids that have this share of their
            probability together (nucleus sampling, Holtzman et al. 2020); 1 draws from all.
        rows: The number of each sentence `[B]` integer in the whole input; 0 to B - 1 if left out.

    Raises:
        UsageError: `temperature`, `top_k`, `top_p` or a limit is out of range.
    """
    rows = tf.range(tf.size(start.ids)) if rows is None else rows
    pick = _drawing(temperature=temperature, top_k=top_k, top_p=top_p)
    return _follow(step, start, limits=limits, pick=pick, keys=_keys(seed, rows))[0]


def sample_onwards(
    step: Step,
    start: Start,
    length: tf.Tensor | int,
    *,
    seed: tf.Tensor | int,
    position: tf.Tensor | int = 0,
    temperature: tf.Tensor | float = 1.0,
    top_k: int = 0,
    top_p: tf.Tensor | float = 1.0,
    forbidden_ids: tuple[int, ...] = (),
) -> tuple[tf.Tensor, Start]:
    """`length` ids of each text, drawn as by `sample`, and the start that goes on from there.

    Texts have no end. Whatever lengths a text is drawn in, it is the same:

        ids, start = sample_onwards(step, start, 60, seed=1)
        more, start = sample_onwards(step, start, 40, seed=1, position=60)

    Args:
        step: One decoding step.
        start: First ids `[B]` int32, state and memory of each text.
        length: How many ids, T.
        seed: As for `sample`, like the rest.
        position: How many ids were drawn before.
        temperature: See `sample`.
        top_k: See `sample`.
        top_p: See `sample`.
        forbidden_ids: Never drawn.

    Returns:
        `[B, T]` int32, -1 where the logits were no distribution; and what to go on from.

    Raises:
        UsageError: `temperature`, `top_k` or `top_p` is out of range.
    """
    limits = Limits(end_id=-1, max_length=length, forbidden_ids=forbidden_ids)
    pick = _drawing(temperature=temperature, top_k=top_k, top_p=top_p, position=position)
    keys = _keys(seed, tf.range(tf.size(start.ids)))
    found, state = _follow(step, start, limits=limits, pick=pick, keys=keys, with_state=True)
    ids = found.ids[:, 0]
    ids = tf.pad(ids, [[0, 0], [0, length - tf.shape(ids)[1]]], constant_values=limits.end_id)
    last = tf.concat([start.ids[:, None], ids], axis=1)[:, -1]
    return ids, Start(tf.maximum(last, 0), state, start.memory)


def beam_search(
    step: Step,
    start: Start,
    limits: Limits,
    *,
    beam_size: int,
    length_penalty: tf.Tensor | float,
    length_formula: str = "gnmt",
    n_best: int | None = None,
    completion_score: Callable[[State, Memory], tf.Tensor] | None = None,
    repeat_memory: bool = True,
) -> Hypotheses:
    """The best hypotheses of each sentence that a beam of `beam_size` finds, best first.

    They are ranked by `ranking_score`. At each step the `beam_size` best one-id continuations of
    the live hypotheses are looked at: those that are complete leave the beam for good, and the
    best that are not fill it up again. A sentence is done when no live hypothesis can still beat
    the worst one kept, or when all of these best continuations are complete; so a beam of one is
    greedy search. Of equal scores the earlier beam comes first, within one the lower id, and of
    complete hypotheses the one that ended earlier.
    With constraints the continuations take turns (see `seq2seq.constraints`).

    Args:
        step: One decoding step.
        start: First ids `[B]` int32, state and memory of each sentence.
        limits: End id, lengths, what may and must be said.
        beam_size: Live hypotheses of each sentence.
        length_penalty: 0 ranks by log-probability; above 0 favours longer hypotheses.
        length_formula: "gnmt" or "power", see `ranking_score`.
        n_best: How many to return, `beam_size` if left out. The first ones are the same for any
            `n_best`, and the fewer the sooner: only what can still be among them is followed.
        completion_score: What is added to the score of a hypothesis that has just become complete:
            `[N]`, at most 0, from the state after the step that said its last id, and the memory.
        repeat_memory: The step is given each sentence's memory once for every row. If false, once
            in all, `[B, ...]`: less to read, for a step that knows that its N rows are N / B for
            each of B sentences, in order.

    Returns:
        Hypotheses with K = `n_best`.

    Raises:
        UsageError: `beam_size`, `n_best`, `length_penalty` or a limit is out of range.
    """
    n_best = beam_size if n_best is None else n_best
    _require(beam_size, "beam_size", "1 or more", lambda x: x >= 1)
    _require(n_best, "n_best", f"1 to {beam_size} (beam_size)", lambda x: 1 <= x <= beam_size)
    _require(length_penalty, "length_penalty", "0 or more", lambda x: x >= 0)
    _require(length_formula, "length_formula", "gnmt or power", lambda x: x in ("gnmt", "power"))

    def rank(scores: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        return ranking_score(scores, lengths, length_penalty, length_formula)

    def advance(length: tf.Tensor, beams: Beams, given: Given) -> Beams:
        live = beams.live
        logits, state = step(tf.reshape(live.ids, [-1]), beams.state, given.memory)
        said = tf.reshape(live.sequences, [-1, tf.shape(live.sequences)[2]])
        at = Position(length, said, given, limits)
        bonus = None
        if completion_score is not None:
            bonus = tf.reshape(completion_score(state, given.memory), [-1, live.ids.shape[1]])
        return advance_beams(
            beams._replace(state=state),
            find_candidates(logits, live, at, beam_size=beam_size),
            at,
            beam_size=beam_size,
            rank=rank,
            bonus=bonus,
        )

    given = given_of(start.memory, limits, tf.size(start.ids))
    # The first step has one hypothesis of each sentence: `beam_size` of them would all be alike.
    beams = advance(
        tf.constant(0), first_beams(start.ids, start.state, given, n_best=n_best), given
    )
    if repeat_memory:
        given = given._replace(memory=repeat_rows(given.memory, beam_size))
    finished, failed = until_done(
        advance,
        beams,
        given,
        length=tf.constant(1),
        done=lambda beams: beams.done,
        outcome=lambda beams: (beams.finished, beams.failed),
    )
    return _hypotheses(
        finished.sequences,
        finished.lengths,
        log_probs=tf.where(failed[:, None], math.nan, finished.log_probs),
        scores=finished.scores,
        end_id=limits.end_id,
    )


def ranking_score(
    log_probs: tf.Tensor,
    lengths: tf.Tensor,
    length_penalty: tf.Tensor | float,
    length_formula: str = "gnmt",
) -> tf.Tensor:
    """`log_probs` divided by ((5 + length) / 6) ** length_penalty (Wu et al. 2016, sec. 7, eq. 14).

    Args:
        log_probs: Log-probabilities, any shape.
        lengths: Integers that broadcast against them, end id counted.
        length_penalty: The exponent, alpha there; 0 leaves `log_probs` as they are.
        length_formula: "gnmt" for the above; "power" divides by length ** length_penalty, so that
            1 ranks by the mean log-probability of an id.

    Raises:
        UsageError: There is no such formula.
    """
    _require(length_formula, "length_formula", "gnmt or power", lambda x: x in ("gnmt", "power"))
    lengths = tf.cast(lengths, tf.float32)
    base = (5.0 + lengths) / 6.0 if length_formula == "gnmt" else tf.maximum(lengths, 1.0)
    return log_probs / tf.minimum(base ** _float32(length_penalty), tf.float32.max)


def averaged(steps: Sequence[Step]) -> Step:
    """The step of an ensemble: its probabilities are the mean of those of all `steps`.

    Its state is a tuple of theirs, and so is its memory: `((), ())` for two steps without. Its
    logits are as large as theirs, on average: a repetition penalty, which goes by that, does to
    equal models what it does to one of them.
    """

    def step(ids: tf.Tensor, state: State, memory: Memory) -> tuple[tf.Tensor, State]:
        found = [each(ids, *parts) for each, *parts in zip(steps, state, memory, strict=True)]
        logits = tf.stack([tf.cast(each, tf.float32) for each, _ in found])  # [models, N, V]
        totals = tf.reduce_logsumexp(logits, axis=2, keepdims=True)
        mean = tf.reduce_logsumexp(logits - totals, axis=0) - math.log(len(steps))
        return mean + tf.reduce_mean(totals, axis=0), tuple(after for _, after in found)

    return step


def _keys(seed: tf.Tensor | int, rows: tf.Tensor) -> tf.Tensor:
    """Of the random numbers of each row `[B]` uint64."""
    return mix(mix(as_uint64(seed)) ^ as_uint64(rows))


_Pick = Callable[[tf.Tensor, Position], Choices]  # (logits [N, V], position) -> choices [N, 1]


def _drawing(
    *,
    temperature: tf.Tensor | float,
    top_k: int,
    top_p: tf.Tensor | float,
    position: tf.Tensor | int = 0,
) -> _Pick:
    """Draws an id for each row; `position` is that of the first step."""
    _require(temperature, "temperature", "a finite number above 0", lambda x: 0 < x < math.inf)
    _require(top_k, "top_k", "0 (all ids) or more", lambda x: x >= 0)
    _require(top_p, "top_p", "a number above 0 and at most 1", lambda x: 0 < x <= 1)
    temperature, top_p = _float32(temperature), _float32(top_p)

    def pick(logits: tf.Tensor, at: Position) -> Choices:
        return drawn_choices(
            logits,
            at,
            keys=mix(at.given.keys ^ as_uint64(at.length + position)),
            temperature=temperature,
            count=top_k,
            top_p=top_p,
        )

    return pick


class _Progress(NamedTuple):
    """How far greedy search or sampling has come; what is finished stays as it is.

    Attributes:
        ids: What the next step is fed `[B]` int32.
        state: The state before `ids` are read.
        scores: `[B]`.
        log_probs: `[B]`.
        lengths: `[B]` int32.
        said: `[B, T]` int32.
        finished: `[B]` bool.
    """

    ids: tf.Tensor
    state: State
    scores: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor
    said: tf.Tensor
    finished: tf.Tensor


def _follow(
    step: Step,
    start: Start,
    *,
    limits: Limits,
    pick: _Pick,
    keys: Any = (),
    with_state: bool = False,
) -> tuple[Hypotheses, State]:
    """The one hypothesis of each sentence that `pick` leads to.

    And, if asked for (else ()), the state before the last id of each is read.
    """
    if limits.has_constraints:
        raise UsageError("constraints: need beam_search; greedy search and sampling heed none")
    given = given_of(start.memory, limits, tf.size(start.ids), keys)
    ids = tf.cast(start.ids, tf.int32)
    first = _Progress(
        ids=ids,
        state=tf.nest.map_structure(tf.convert_to_tensor, start.state),
        scores=tf.zeros_like(ids, tf.float32),
        log_probs=tf.zeros_like(ids, tf.float32),
        lengths=tf.zeros_like(ids),
        said=tf.zeros([tf.size(ids), longest_of(given)], tf.int32),
        finished=given.max_length <= 0,
    )

    def advance(length: tf.Tensor, progress: _Progress, given: Given) -> _Progress:
        logits, state = step(progress.ids, progress.state, given.memory)
        choices = pick(tf.cast(logits, tf.float32), Position(length, progress.said, given, limits))
        return _followed(progress._replace(state=state), choices, length, given, limits.end_id)

    said, lengths, log_probs, scores, state = until_done(
        advance,
        first,
        given,
        length=tf.constant(0),
        done=lambda progress: progress.finished,
        outcome=lambda progress: (
            progress.said[:, None],  # [B, 1, T]
            progress.lengths[:, None],
            progress.log_probs[:, None],
            progress.scores[:, None],
            progress.state if with_state else (),
        ),
    )
    hypotheses = _hypotheses(
        said, lengths, log_probs=log_probs, scores=scores, end_id=limits.end_id
    )
    return hypotheses, state


def _followed(
    progress: _Progress, choices: Choices, length: tf.Tensor, given: Given, end_id: int
) -> _Progress:
    """`progress` after one more id; finished sentences say the end id from then on."""
    finished = progress.finished
    ids, scores, log_probs = (part[:, 0] for part in choices)
    scores, log_probs = progress.scores + scores, progress.log_probs + log_probs
    ended = (ids == end_id) | (length + 1 >= given.max_length)
    stuck = ~tf.math.is_finite(scores)  # logits that are no distribution, or all forbidden
    ids = tf.where(finished, end_id, ids)
    here = tf.range(tf.shape(progress.said)[1]) == length
    return _Progress(
        ids=tf.maximum(ids, 0),  # a step can read no end id of -1, which stands for no end
        state=progress.state,
        scores=tf.where(finished, progress.scores, scores),
        log_probs=tf.where(finished, progress.log_probs, tf.where(stuck, scores, log_probs)),
        lengths=progress.lengths + tf.cast(~finished, tf.int32),
        said=tf.where(here, tf.maximum(ids, 0)[:, None], progress.said),
        finished=finished | ended | stuck,
    )


def _hypotheses(
    ids: tf.Tensor, lengths: tf.Tensor, *, log_probs: tf.Tensor, scores: tf.Tensor, end_id: int
) -> Hypotheses:
    """The result, cut to its longest hypothesis; `ids` `[B, K, T]`, the others `[B, K]`."""
    exists = tf.math.is_finite(log_probs)
    lengths = tf.where(exists, lengths, 0)
    longest = tf.maximum(tf.reduce_max(lengths), 0)  # 0 if there are no sentences
    ids = tf.where(tf.range(longest) < lengths[:, :, None], ids[:, :, :longest], end_id)
    return Hypotheses(ids, lengths, log_probs, tf.where(exists, scores, log_probs))


def _float32(value: Any) -> tf.Tensor | float:
    """A number as the searches compute with it, whatever kind of number it is."""
    return tf.cast(value, tf.float32) if tf.is_tensor(value) else float(value)


def _require(value: Any, key: str, expected: str, accepts: Callable[[Any], bool]) -> None:
    """Raises if a value is out of range; tensors, whose value is not known yet, pass."""
    if not tf.is_tensor(value) and not accepts(value):
        raise UsageError(f"{key}: got {value!r}, expected {expected}")
