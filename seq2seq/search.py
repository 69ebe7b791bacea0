"""The ids a decoder finds most likely: greedy search, sampling and beam search over a step.

A search knows a callable, not a model: whatever turns last ids and a state into logits and the
next state can be searched. All searches are `tf.while_loop`s: they run eagerly and inside a
`tf.function`, with any batch size. Sentences that are done leave the batch, and the search ends
when there are none left. What a sentence gets does not depend on the others in its batch, beyond
what the step itself rounds otherwise.

Shapes: B sentences, K hypotheses of each, N rows (B times the hypotheses a sentence has in the
beam: beam k of sentence b is row b * K + k), V vocabulary, T longest hypothesis, C candidates.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from seq2seq.errors import UsageError
from seq2seq.limits import (
    FREE,
    Limits,
    forced_ids,
    may_not_follow,
    penalised,
    per_sentence,
    without_repeated_ngrams,
)
from seq2seq.selection import as_uint64, at_most, draw_nucleus, mix, size_of, top_k, without

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

_ROWS_KEPT = 8  # a batch shrinks to multiples of this, so that a step meets few different sizes
_FEW = 16  # forbidden ids that may still stand among the best of each row, and are left out there


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

    def pick(logits: tf.Tensor, at: _Position) -> _Choices:
        best = _best(logits, 1, at)
        first = tf.argmax(best.scores, axis=1, output_type=tf.int32)[:, None]
        return _Choices(*(tf.gather(part, first, batch_dims=1) for part in best))

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
    return ids, Start(last, state, start.memory)


def _keys(seed: tf.Tensor | int, rows: tf.Tensor) -> tf.Tensor:
    """Of the random numbers of each row `[B]` uint64."""
    return mix(mix(as_uint64(seed)) ^ as_uint64(rows))


def _drawing(
    *,
    temperature: tf.Tensor | float,
    top_k: int,
    top_p: tf.Tensor | float,
    position: tf.Tensor | int = 0,
) -> "_Pick":
    """Draws an id for each row; `position` is that of the first step."""
    _require(temperature, "temperature", "a finite number above 0", lambda x: 0 < x < math.inf)
    _require(top_k, "top_k", "0 (all ids) or more", lambda x: x >= 0)
    _require(top_p, "top_p", "a number above 0 and at most 1", lambda x: 0 < x <= 1)

    def pick(logits: tf.Tensor, at: _Position) -> _Choices:
        return _drawn(
            logits,
            at,
            keys=mix(at.given.keys ^ as_uint64(at.length + position)),
            temperature=temperature,
            count=top_k,
            top_p=top_p,
        )

    return pick


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
    greedy search. Equal scores: the lower id, the earlier beam, the earlier end comes first.

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

    def advance(length: tf.Tensor, beams: _Beams, given: _Given) -> _Beams:
        live = beams.live
        logits, state = step(tf.reshape(live.ids, [-1]), beams.state, given.memory)
        said = tf.reshape(live.sequences, [-1, tf.shape(live.sequences)[2]])
        at = _Position(length, said, given, limits)
        bonus: Any = ()
        if completion_score is not None:
            bonus = tf.reshape(completion_score(state, given.memory), [-1, live.ids.shape[1]])
        return _advance_beams(
            beams._replace(state=state),
            _candidates(logits, live, at, beam_size=beam_size),
            at,
            beam_size=beam_size,
            rank=rank,
            bonus=bonus,
        )

    given = _given(start, limits)
    # The first step has one hypothesis of each sentence: `beam_size` of them would all be alike.
    beams = advance(tf.constant(0), _first_beams(start, given, n_best=n_best), given)
    if repeat_memory:
        given = given._replace(memory=_repeat_rows(given.memory, beam_size))
    finished, failed = _until_done(
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
    """
    lengths = tf.cast(lengths, tf.float32)
    base = (5.0 + lengths) / 6.0 if length_formula == "gnmt" else tf.maximum(lengths, 1.0)
    return log_probs / base**length_penalty


def averaged(steps: Sequence[Step]) -> Step:
    """The step of an ensemble: its probabilities are the mean of those of all `steps`.

    Its state and memory are tuples of theirs; its logits are log-probabilities.
    """

    def step(ids: tf.Tensor, state: State, memory: Memory) -> tuple[tf.Tensor, State]:
        found = [each(ids, *parts) for each, *parts in zip(steps, state, memory, strict=True)]
        log_probs = [tf.nn.log_softmax(tf.cast(logits, tf.float32)) for logits, _ in found]
        mean = tf.reduce_logsumexp(tf.stack(log_probs), axis=0) - math.log(len(steps))
        return mean, tuple(after for _, after in found)

    return step


class _Given(NamedTuple):
    """What decoding does not change, of the sentences that are still in the batch.

    Attributes:
        memory: What every step is given.
        max_length: `[B]` int32.
        min_length: `[B]` int32, or ().
        prefix: `[B, P]` int32, or ().
        keys: Of random draws `[B]` uint64, or ().
    """

    memory: Memory
    max_length: tf.Tensor
    min_length: Any
    prefix: Any
    keys: Any


class _Position:
    """Where the hypotheses of a batch stand: how long they are and what they have said."""

    def __init__(self, length: tf.Tensor, said: tf.Tensor, given: _Given, limits: Limits) -> None:
        """
        Args:
            length: Ids of every live hypothesis `[]` int32.
            said: These ids `[N, T]` int32.
            given: What decoding does not change.
            limits: Of the whole batch; those of a sentence are in `given`.
        """
        self.length = length
        self.said = said
        self.given = given
        self.limits = limits._replace(
            max_length=given.max_length, min_length=given.min_length, prefix=given.prefix
        )


class _Choices(NamedTuple):
    """Ids that rows may go on with `[N, C]` int32.

    Attributes:
        ids: The ids.
        scores: What the search goes by: `log_probs` after the repetition penalty, -inf for what
            may not be said.
        log_probs: The model's own log-probabilities.
    """

    ids: tf.Tensor
    scores: tf.Tensor
    log_probs: tf.Tensor


_Pick = Callable[[tf.Tensor, _Position], _Choices]  # (logits [N, V], position) -> choices [N, 1]


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
    given = _given(start, limits, keys)
    ids = tf.cast(start.ids, tf.int32)
    first = _Progress(
        ids=ids,
        state=tf.nest.map_structure(tf.convert_to_tensor, start.state),
        scores=tf.zeros_like(ids, tf.float32),
        log_probs=tf.zeros_like(ids, tf.float32),
        lengths=tf.zeros_like(ids),
        said=tf.zeros([tf.size(ids), _longest(given)], tf.int32),
        finished=given.max_length <= 0,
    )

    def advance(length: tf.Tensor, progress: _Progress, given: _Given) -> _Progress:
        logits, state = step(progress.ids, progress.state, given.memory)
        choices = pick(tf.cast(logits, tf.float32), _Position(length, progress.said, given, limits))
        return _followed(progress._replace(state=state), choices, length, given, limits.end_id)

    said, lengths, log_probs, scores, state = _until_done(
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
    progress: _Progress, choices: _Choices, length: tf.Tensor, given: _Given, end_id: int
) -> _Progress:
    """`progress` after one more id; `ids` of finished sentences are the end id from then on."""
    finished = progress.finished
    ids, scores, log_probs = (part[:, 0] for part in choices)
    scores, log_probs = progress.scores + scores, progress.log_probs + log_probs
    ended = (ids == end_id) | (length + 1 >= given.max_length)
    stuck = ~tf.math.is_finite(scores)  # logits that are no distribution, or all forbidden
    ids = tf.where(finished, end_id, ids)
    here = tf.range(tf.shape(progress.said)[1]) == length
    return _Progress(
        ids=ids,
        state=progress.state,
        scores=tf.where(finished, progress.scores, scores),
        log_probs=tf.where(finished, progress.log_probs, tf.where(stuck, scores, log_probs)),
        lengths=progress.lengths + tf.cast(~finished, tf.int32),
        said=tf.where(here, ids[:, None], progress.said),
        finished=finished | ended | stuck,
    )


class _Live(NamedTuple):
    """Hypotheses still growing, best first; an empty slot has score -inf.

    Attributes:
        ids: The last id of each `[B, K]` int32, what the next step is fed.
        scores: What they are compared by `[B, K]`.
        log_probs: `[B, K]`.
        sequences: All ids of each `[B, K, T]` int32.
    """

    ids: tf.Tensor
    scores: tf.Tensor
    log_probs: tf.Tensor
    sequences: tf.Tensor


class _Finished(NamedTuple):
    """Complete hypotheses, best first; an empty slot has score and log-probability -inf.

    Attributes:
        scores: `ranking_score` of each, completion score added `[B, K]`.
        log_probs: `[B, K]`.
        lengths: `[B, K]` int32.
        sequences: `[B, K, T]` int32.
    """

    scores: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor
    sequences: tf.Tensor


class _Beams(NamedTuple):
    """How far beam search has come.

    Attributes:
        live: Hypotheses still growing.
        state: The state before `live.ids` are read, N on axis 0 of every leaf.
        finished: Complete hypotheses; those of a done sentence never change.
        done: Sentences that need no further step `[B]` bool.
        failed: Sentences with logits that were no distribution `[B]` bool.
    """

    live: _Live
    state: State
    finished: _Finished
    done: tf.Tensor
    failed: tf.Tensor


class _Candidates(NamedTuple):
    """Continuations of the live hypotheses by one id, best first.

    Attributes:
        scores: Of the whole hypothesis `[B, C]`, as is `log_probs`.
        log_probs: See `_Live`.
        ids: The new id `[B, C]` int32.
        parents: The beam that each continues `[B, C]` int32.
        failed: Sentences with logits that were no distribution `[B]` bool.
    """

    scores: tf.Tensor
    log_probs: tf.Tensor
    ids: tf.Tensor
    parents: tf.Tensor
    failed: tf.Tensor


_Rank = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # (scores, lengths) -> ranking scores


def _first_beams(start: Start, given: _Given, *, n_best: int) -> _Beams:
    """One live hypothesis of each sentence, the empty one."""
    ids = tf.cast(start.ids, tf.int32)
    batch, longest = tf.size(ids), _longest(given)
    done = given.max_length <= 0
    zeros = tf.zeros([batch, 1])
    complete = tf.where(
        done[:, None] & (tf.range(n_best) == 0), 0.0, tf.fill([batch, n_best], -math.inf)
    )
    return _Beams(
        live=_Live(
            ids=ids[:, None],
            scores=zeros,
            log_probs=zeros,
            sequences=tf.zeros([batch, 1, longest], tf.int32),
        ),
        state=tf.nest.map_structure(tf.convert_to_tensor, start.state),
        finished=_Finished(
            scores=complete,
            log_probs=complete,
            lengths=tf.zeros([batch, n_best], tf.int32),
            sequences=tf.zeros([batch, n_best, longest], tf.int32),
        ),
        done=done,
        failed=tf.zeros_like(done),
    )


def _candidates(logits: tf.Tensor, live: _Live, at: _Position, *, beam_size: int) -> _Candidates:
    """The 2K best continuations, as up to K of them end: one of each live hypothesis."""
    slots = live.ids.shape[1]
    # K + 1 of each row, so that K are left when one of them ends.
    best = _best(logits, beam_size + 1, at)
    width = size_of(best.ids, 1)
    scores = live.scores[:, :, None] + tf.reshape(best.scores, [-1, slots, width])
    log_probs = live.log_probs[:, :, None] + tf.reshape(best.log_probs, [-1, slots, width])
    empty = tf.math.is_inf(live.scores)[:, :, None]  # slots whose logits mean nothing
    undefined = tf.math.is_nan(scores) & ~empty
    every = slots * width
    # One hypothesis of a tiny vocabulary may have fewer continuations than there are beams.
    spare = [[0, 0], [0, beam_size if slots == 1 else 0]]
    scores = tf.reshape(tf.where(empty | undefined, -math.inf, scores), [-1, every])
    scores, order = tf.math.top_k(
        tf.pad(scores, spare, constant_values=-math.inf),
        at_most(2 * beam_size, every + spare[1][1]),
    )  # [B, C]
    order = tf.minimum(order, every - 1)
    return _Candidates(
        scores=scores,
        log_probs=tf.gather(tf.reshape(log_probs, [-1, every]), order, batch_dims=1),
        ids=tf.gather(tf.reshape(best.ids, [-1, every]), order, batch_dims=1),
        parents=order // width,
        failed=tf.reduce_any(undefined, axis=[1, 2]),
    )


def _advance_beams(
    beams: _Beams,
    candidates: _Candidates,
    at: _Position,
    *,
    beam_size: int,
    rank: _Rank,
    bonus: Any,
) -> _Beams:
    """`beams` with complete candidates among the finished, and the best others in the beam.

    `bonus` is the completion score of each live hypothesis `[B, K]`, or ().
    """
    length, slots = at.length + 1, beams.live.ids.shape[1]
    cut = tf.greater_equal(length, at.limits.max_length)[:, None]
    complete = (candidates.ids == at.limits.end_id) | cut  # [B, C]
    sequences = tf.gather(beams.live.sequences, candidates.parents, batch_dims=1)  # [B, C, T]
    here = tf.range(tf.shape(sequences)[2]) == at.length
    sequences = tf.where(here, candidates.ids[:, :, None], sequences)

    leaving = complete[:, :beam_size] & ~beams.done[:, None]
    scores = rank(tf.where(leaving, candidates.scores[:, :beam_size], -math.inf), length)
    if not isinstance(bonus, tuple):
        scores += tf.gather(bonus, candidates.parents[:, :beam_size], batch_dims=1)
    finished = _keep_best(
        beams.finished,
        _Finished(
            scores=scores,
            log_probs=tf.where(leaving, candidates.log_probs[:, :beam_size], -math.inf),
            lengths=tf.fill(tf.shape(scores), length),
            sequences=sequences[:, :beam_size],
        ),
    )
    scores, staying = tf.math.top_k(
        tf.where(complete, -math.inf, candidates.scores), beam_size
    )  # [B, K]
    parents = tf.gather(candidates.parents, staying, batch_dims=1)
    rows = tf.reshape(tf.range(tf.shape(parents)[0])[:, None] * slots + parents, [-1])  # [N]
    # The most that a live hypothesis can still reach, as log-probabilities only fall.
    bound = rank(scores[:, 0], at.limits.max_length)
    failed = candidates.failed & ~beams.done
    return _Beams(
        live=_Live(
            ids=tf.gather(candidates.ids, staying, batch_dims=1),
            scores=scores,
            log_probs=tf.gather(candidates.log_probs, staying, batch_dims=1),
            sequences=tf.gather(sequences, staying, batch_dims=1),
        ),
        state=tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), beams.state),
        finished=finished,
        done=beams.done
        | failed
        | (bound <= finished.scores[:, -1])
        | tf.reduce_all(leaving, axis=1),
        failed=beams.failed | failed,
    )


def _keep_best(finished: _Finished, added: _Finished) -> _Finished:
    """The best of both, as many as `finished` has."""
    both = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=1), finished, added)
    _, kept = tf.math.top_k(both.scores, finished.scores.shape[1])
    return tf.nest.map_structure(lambda part: tf.gather(part, kept, batch_dims=1), both)


def _best(logits: tf.Tensor, count: int, at: _Position) -> _Choices:
    """At least the `count` best ids of each row; a forced one alone, where there is one.

    What may not be said can be among them and then has score -inf; rows that are no distribution
    have NaN.
    """
    logits = tf.cast(logits, tf.float32)
    lower = penalised(logits, at.limits, at.said, at.length)
    allowed = without_repeated_ngrams(lower, at.limits, at.said, at.length)
    forbidden = at.limits.forbidden_ids
    if len(forbidden) > _FEW:
        allowed, spare = without(allowed, forbidden), 0
    else:
        spare = len(forbidden)
    scores, ids = top_k(allowed, count + spare + at.limits.has_least_length)
    if allowed is logits:
        # The best id's probability is at least 1 / V, so its logarithm is safe, and softmax is one
        # pass where log-sum-exp takes three. A NaN makes it NaN or 0.
        best = tf.gather(tf.nn.softmax(logits), ids[:, :1], batch_dims=1)  # [N, 1]
        log_probs = scores - scores[:, :1] + tf.math.log(tf.where(best > 0.0, best, math.nan))
        scores = log_probs
    else:
        log_probs = tf.gather(logits, ids, batch_dims=1) - _log_sums(logits)
        scores = scores - _log_sums(lower) if at.limits.penalises else scores - _log_sums(logits)
    scores = tf.where(may_not_follow(ids, at.limits, at.length), -math.inf, scores)
    return _forced(_Choices(ids, scores, log_probs), logits, at)


def _drawn(
    logits: tf.Tensor,
    at: _Position,
    *,
    keys: tf.Tensor,
    temperature: tf.Tensor | float,
    count: int,
    top_p: tf.Tensor | float,
) -> _Choices:
    """One id of each row, drawn at random from the `count` best (0: all) and `top_p` of those."""
    lower = penalised(logits, at.limits, at.said, at.length)
    allowed = without_repeated_ngrams(lower, at.limits, at.said, at.length)
    allowed = without(allowed, at.limits.forbidden_ids)
    if at.limits.has_least_length:
        every = tf.range(size_of(logits, 1))[None]
        may_not = may_not_follow(
            tf.tile(every, [tf.shape(logits)[0], 1]),
            at.limits._replace(forbidden_ids=()),
            at.length,
        )
        allowed = tf.where(may_not, -math.inf, allowed)
    scores, ids = top_k(allowed, count) if count else (allowed, None)
    highest = tf.reduce_max(scores, axis=1, keepdims=True)
    columns = draw_nucleus(tf.exp((scores - highest) / temperature), keys=keys, top_p=top_p)
    ids = columns if ids is None else tf.gather(ids, columns, batch_dims=1)
    ids, log_sums = ids[:, None], _log_sums(logits)
    may_say = tf.gather(allowed, ids, batch_dims=1) > -math.inf
    log_probs = tf.where(may_say, tf.gather(logits, ids, batch_dims=1) - log_sums, -math.inf)
    log_probs = tf.where(tf.math.is_finite(log_sums), log_probs, math.nan)
    return _forced(_Choices(ids, log_probs, log_probs), logits, at)


def _forced(choices: _Choices, logits: tf.Tensor, at: _Position) -> _Choices:
    """`choices`, or for rows whose next id is given that one alone."""
    if isinstance(at.limits.prefix, tuple):
        return choices
    forced = forced_ids(at.limits, at.length, logits)[:, None]  # [N, 1]
    free = forced == FREE
    log_sums = _log_sums(logits)
    log_probs = tf.gather(logits, tf.maximum(forced, 0), batch_dims=1) - log_sums
    log_probs = tf.where(tf.math.is_finite(log_sums), log_probs, math.nan)
    first = tf.range(size_of(choices.ids, 1)) == 0
    alone = tf.where(first, log_probs, -math.inf)  # [N, C]
    return _Choices(
        ids=tf.where(free, choices.ids, forced),
        scores=tf.where(free, choices.scores, alone),
        log_probs=tf.where(free, choices.log_probs, alone),
    )


def _log_sums(logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(logits, axis=1, keepdims=True)  # [N, 1]


def _given(start: Start, limits: Limits, keys: Any = ()) -> _Given:
    limits = per_sentence(limits, tf.size(start.ids))
    return _Given(
        memory=tf.nest.map_structure(tf.convert_to_tensor, start.memory),
        max_length=limits.max_length,
        min_length=limits.min_length,
        prefix=limits.prefix,
        keys=keys,
    )


def _until_done(
    advance: Callable[[tf.Tensor, Any, _Given], Any],
    progress: Any,
    given: _Given,
    *,
    length: tf.Tensor,
    done: Callable[[Any], tf.Tensor],
    outcome: Callable[[Any], Any],
) -> Any:
    """The outcome of every sentence, after as many steps as it needs.

    Sentences that are done leave the batch, some at a time, so that no step is made for them.

    Args:
        advance: (length, progress, given) to the progress one step later.
        progress: The first; every leaf has as many rows for each sentence on axis 0.
        given: Likewise.
        length: Ids said before the first step.
        done: Of a progress, which sentences need no further step `[B]`.
        outcome: Of a progress, the results that are wanted, B on axis 0.
    """
    sentences = tf.range(tf.size(done(progress)))
    results = tf.nest.map_structure(tf.zeros_like, outcome(progress))

    def run(length, sentences, progress, given, results):  # type: ignore[no-untyped-def]
        enough = tf.size(sentences) * 3 // 4 // _ROWS_KEPT * _ROWS_KEPT
        length, progress = tf.while_loop(
            lambda _, progress: tf.math.count_nonzero(~done(progress), dtype=tf.int32) > enough,
            lambda length, progress: (
                length + 1,
                _with_shapes_of(progress, advance(length, progress, given)),
            ),
            (length, progress),
        )
        results = tf.nest.map_structure(
            lambda every, some: tf.tensor_scatter_nd_update(every, sentences[:, None], some),
            results,
            outcome(progress),
        )
        kept = _undone_first(done(progress))
        take = functools.partial(_rows_of, sentences=kept, of=tf.size(sentences))
        progress, given = tf.nest.map_structure(take, (progress, given))
        return length, tf.gather(sentences, kept), progress, given, results

    loop = (length, sentences, progress, given, results)
    *_, results = tf.while_loop(
        lambda _, sentences, *rest: tf.size(sentences) > 0,
        run,
        loop,
        shape_invariants=tf.nest.map_structure(_any_rows, loop),
    )
    return results


def _undone_first(done: tf.Tensor) -> tf.Tensor:
    """The undone sentences, filled up with done ones to a multiple of `_ROWS_KEPT` if any is left.

    [T, F, T, F] gives [1, 3, 0, 2] where a multiple of 4 is wanted.
    """
    left = tf.math.count_nonzero(~done, dtype=tf.int32)
    rounded = -(-left // _ROWS_KEPT) * _ROWS_KEPT
    return tf.argsort(tf.cast(done, tf.int32), stable=True)[:rounded]


def _rows_of(leaf: tf.Tensor, *, sentences: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
    """The rows of some `sentences`, where axis 0 has as many for each of `of` sentences."""
    rows_each = tf.shape(leaf)[0] // of
    return tf.gather(leaf, tf.reshape(sentences[:, None] * rows_each + tf.range(rows_each), [-1]))


def _any_rows(leaf: tf.Tensor) -> tf.TensorShape:
    return tf.TensorShape([None, *leaf.shape[1:]] if leaf.shape.rank else [])


def _hypotheses(
    ids: tf.Tensor, lengths: tf.Tensor, *, log_probs: tf.Tensor, scores: tf.Tensor, end_id: int
) -> Hypotheses:
    """The result, cut to its longest hypothesis; `ids` `[B, K, T]`, the others `[B, K]`."""
    exists = tf.math.is_finite(log_probs)
    lengths = tf.where(exists, lengths, 0)
    longest = tf.maximum(tf.reduce_max(lengths), 0)  # 0 if there are no sentences
    ids = tf.where(tf.range(longest) < lengths[:, :, None], ids[:, :, :longest], end_id)
    return Hypotheses(ids, lengths, log_probs, tf.where(exists, scores, log_probs))


def _longest(given: _Given) -> tf.Tensor:
    """Room for the ids of a hypothesis; there is some even where none may be said."""
    return tf.maximum(tf.reduce_max(given.max_length), 1)


def _repeat_rows(structure: Any, count: int) -> Any:
    """`[B, ...]` leaves as `[B * count, ...]`: row b * count + k is row b for each k."""
    return tf.nest.map_structure(lambda leaf: tf.repeat(leaf, count, axis=0), structure)


def _with_shapes_of(before: Any, after: Any) -> Any:
    """`after` with all that is known of the shapes before, which a loop must not lose."""
    return tf.nest.map_structure(lambda old, new: tf.ensure_shape(new, old.shape), before, after)


def _require(value: Any, key: str, expected: str, accepts: Callable[[Any], bool]) -> None:
    """Raises if a value is out of range; tensors, whose value is not known yet, pass."""
    if not tf.is_tensor(value) and not accepts(value):
        raise UsageError(f"{key}: got {value!r}, expected {expected}")
