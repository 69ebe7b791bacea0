"""The ids a decoder finds most likely: greedy search, sampling and beam search over a step.

A search knows a callable, not a model: whatever turns last ids and a state into logits and the
next state can be searched. All searches are `tf.while_loop`s: they run eagerly and inside a
`tf.function`, with any batch size, and end as soon as every sentence is done. What a sentence gets
does not depend on the others in its batch, beyond what the step itself rounds otherwise.

Shapes: B sentences, K hypotheses of each, N rows (B, or in beam search B * K: beam k of sentence b
is row b * K + k), V vocabulary, T longest hypothesis, C candidates.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from seq2seq.errors import UsageError

State = Any  # any structure of tensors that tf.nest knows; absent parts are ()
Memory = Any

_BLOCK = 32  # columns of a block in `_top_k` and `_draw`; from 16 to 64 all are about as fast


class Step(Protocol):
    """One decoding step of any model.

    Every leaf of state and memory has N on axis 0; the state keeps its structure, dtypes and
    shapes. Memory is what never changes while decoding, as an encoder's outputs.
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


class Limits(NamedTuple):
    """Where decoding ends and what it may not say.

    Attributes:
        end_id: The id that completes a hypothesis.
        max_length: Most ids of each sentence's hypotheses, end id counted: `[B]` int32, or one
            number for all. A hypothesis of this length is complete without an end id.
        forbidden_ids: Ids that are never chosen. With the end id among them every hypothesis has
            `max_length` ids.
    """

    end_id: int
    max_length: tf.Tensor | int
    forbidden_ids: tuple[int, ...] = ()


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
            end id included. Nothing else enters: no length penalty, temperature or forbidden id.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    log_probs: tf.Tensor


class _Choice(NamedTuple):
    """The id that each row goes on with `[N]` int32, and its log-probability `[N]`."""

    ids: tf.Tensor
    log_probs: tf.Tensor


_Pick = Callable[[tf.Tensor, tf.Tensor], _Choice]  # (logits [N, V], position []) -> choice


def greedy_search(step: Step, start: Start, limits: Limits) -> Hypotheses:
    """The hypothesis of each sentence that takes the most likely id at each step.

    Args:
        step: One decoding step.
        start: First ids `[B]` int32, state and memory of each sentence.
        limits: End id, most ids of a hypothesis, forbidden ids.
    """

    def pick(logits: tf.Tensor, _: tf.Tensor) -> _Choice:
        best = _best_log_probs(logits, 1, forbidden_ids=limits.forbidden_ids)
        first = tf.argmax(best.scores, axis=1, output_type=tf.int32)
        return _Choice(
            ids=tf.gather(best.ids, first, batch_dims=1),
            log_probs=tf.gather(best.scores, first, batch_dims=1),
        )

    return _follow(step, start, limits=limits, pick=pick)


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
        limits: End id, most ids of a hypothesis, forbidden ids.
        seed: Any integer; the same in every batch of one run.
        temperature: Divides the logits: near 0 almost greedy, 1 the model's own distribution.
        top_k: Draw from the `top_k` most likely ids; 0 draws from all.
        top_p: Of those, draw from the fewest most likely ids that have this share of their
            probability together (nucleus sampling, Holtzman et al. 2020); 1 draws from all.
        rows: The number of each sentence `[B]` integer in the whole input; 0 to B - 1 if left out.

    Raises:
        UsageError: `temperature`, `top_k` or `top_p` is out of range.
    """
    _require(temperature, "temperature", "a finite number above 0", lambda x: 0 < x < math.inf)
    _require(top_k, "top_k", "0 (all ids) or more", lambda x: x >= 0)
    _require(top_p, "top_p", "a number above 0 and at most 1", lambda x: 0 < x <= 1)
    rows = tf.range(tf.size(start.ids)) if rows is None else rows
    row_keys = _mix(_mix(_as_uint64(seed)) ^ _as_uint64(rows))  # [B]

    def pick(logits: tf.Tensor, position: tf.Tensor) -> _Choice:
        allowed = _without(logits, limits.forbidden_ids)
        best = _top_k(allowed, top_k) if top_k else _Best(allowed, ids=None)
        top = tf.reduce_max(best.scores, axis=1, keepdims=True)
        columns = _draw_nucleus(
            tf.exp((best.scores - top) / temperature),
            keys=_mix(row_keys ^ _as_uint64(position)),
            top_p=top_p,
        )
        ids = columns if best.ids is None else tf.gather(best.ids, columns, batch_dims=1)
        log_sums = tf.reduce_logsumexp(logits, axis=1)
        log_probs = tf.gather(allowed, ids, batch_dims=1) - log_sums
        return _Choice(ids, tf.where(tf.math.is_finite(log_sums), log_probs, math.nan))

    return _follow(step, start, limits=limits, pick=pick)


def beam_search(
    step: Step,
    start: Start,
    limits: Limits,
    *,
    beam_size: int,
    length_penalty: tf.Tensor | float,
    n_best: int | None = None,
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
        limits: End id, most ids of a hypothesis, forbidden ids.
        beam_size: Live hypotheses of each sentence.
        length_penalty: 0 ranks by log-probability; above 0 favours longer hypotheses.
        n_best: How many to return, `beam_size` if left out. The first ones are the same for any
            `n_best`, and the fewer the sooner: only what can still be among them is followed.

    Returns:
        Hypotheses with K = `n_best`.

    Raises:
        UsageError: `beam_size`, `n_best` or `length_penalty` is out of range.
    """
    n_best = beam_size if n_best is None else n_best
    _require(beam_size, "beam_size", "1 or more", lambda x: x >= 1)
    _require(n_best, "n_best", f"1 to {beam_size} (beam_size)", lambda x: 1 <= x <= beam_size)
    _require(length_penalty, "length_penalty", "0 or more", lambda x: x >= 0)
    limits = _per_sentence(limits, start)
    memory = _repeat_rows(start.memory, beam_size)

    def advance(beams: _Beams) -> tuple[_Beams]:
        logits, state = step(tf.reshape(beams.live.ids, [-1]), beams.state, memory)
        after = _advance_beams(
            beams._replace(state=state),
            _candidates(logits, beams.live, limits=limits),
            limits=limits,
            length_penalty=length_penalty,
        )
        return (_with_shapes_of(beams, after),)

    first = _first_beams(start, limits, beam_size=beam_size, n_best=n_best)
    (beams,) = tf.while_loop(lambda beams: tf.reduce_any(~beams.done), advance, (first,))
    finished = beams.finished
    log_probs = tf.where(beams.failed[:, None], math.nan, finished.log_probs)
    return _hypotheses(
        finished.sequences, finished.lengths, log_probs=log_probs, end_id=limits.end_id
    )


def ranking_score(
    log_probs: tf.Tensor, lengths: tf.Tensor, length_penalty: tf.Tensor | float
) -> tf.Tensor:
    """`log_probs` divided by ((5 + length) / 6) ** length_penalty (Wu et al. 2016, sec. 7, eq. 14).

    Args:
        log_probs: Log-probabilities, any shape.
        lengths: Integers that broadcast against them, end id counted.
        length_penalty: The exponent, alpha there; 0 leaves `log_probs` as they are.
    """
    return log_probs / ((5.0 + tf.cast(lengths, tf.float32)) / 6.0) ** length_penalty


class _Progress(NamedTuple):
    """How far greedy search or sampling has come; what is finished stays as it is.

    Attributes:
        position: Steps taken `[]` int32.
        ids: What the next step is fed `[B]` int32.
        state: The state before `ids` are read.
        log_probs: `[B]`.
        lengths: `[B]` int32.
        finished: `[B]` bool.
    """

    position: tf.Tensor
    ids: tf.Tensor
    state: State
    log_probs: tf.Tensor
    lengths: tf.Tensor
    finished: tf.Tensor


def _first_progress(start: Start, limits: Limits) -> _Progress:
    ids = tf.cast(start.ids, tf.int32)
    return _Progress(
        position=tf.constant(0),
        ids=ids,
        state=tf.nest.map_structure(tf.convert_to_tensor, start.state),
        log_probs=tf.zeros_like(ids, tf.float32),
        lengths=tf.zeros_like(ids),
        finished=limits.max_length <= 0,
    )


def _advance(
    step: Step, memory: Memory, *, progress: _Progress, limits: Limits, pick: _Pick
) -> _Progress:
    """`progress` after one more step; `ids` of finished sentences are the end id from then on."""
    logits, state = step(progress.ids, progress.state, memory)
    choice = pick(tf.cast(logits, tf.float32), progress.position)
    log_probs = progress.log_probs + choice.log_probs
    ended = (choice.ids == limits.end_id) | (progress.position + 1 >= limits.max_length)
    stuck = ~tf.math.is_finite(log_probs)  # logits that are no distribution, or all forbidden
    finished = progress.finished
    after = _Progress(
        position=progress.position + 1,
        ids=tf.where(finished, limits.end_id, choice.ids),
        state=state,
        log_probs=tf.where(finished, progress.log_probs, log_probs),
        lengths=progress.lengths + tf.cast(~finished, tf.int32),
        finished=finished | ended | stuck,
    )
    return _with_shapes_of(progress, after)


def _follow(step: Step, start: Start, *, limits: Limits, pick: _Pick) -> Hypotheses:
    """The one hypothesis of each sentence that `pick` leads to."""
    limits = _per_sentence(limits, start)
    first = _first_progress(start, limits)

    def advance(progress: _Progress, ids: tf.Tensor) -> tuple[_Progress, tf.Tensor]:
        after = _advance(step, start.memory, progress=progress, limits=limits, pick=pick)
        return after, tf.tensor_scatter_nd_update(ids, [[progress.position]], after.ids[None])

    progress, ids = tf.while_loop(
        lambda progress, _: tf.reduce_any(~progress.finished),
        advance,
        (first, tf.zeros([_longest(limits), tf.size(first.ids)], tf.int32)),  # ids: [T, B]
    )
    return _hypotheses(
        tf.transpose(ids)[:, None],  # [B, 1, T]
        progress.lengths[:, None],
        log_probs=progress.log_probs[:, None],
        end_id=limits.end_id,
    )


class _Live(NamedTuple):
    """Hypotheses still growing, best first; an empty slot has log-probability -inf.

    Attributes:
        ids: The last id of each `[B, K]` int32, what the next step is fed.
        log_probs: `[B, K]`.
        sequences: All ids of each `[B, K, T]` int32.
    """

    ids: tf.Tensor
    log_probs: tf.Tensor
    sequences: tf.Tensor


class _Finished(NamedTuple):
    """Complete hypotheses, best first; an empty slot has score and log-probability -inf.

    Attributes:
        scores: `ranking_score` of each `[B, K]`.
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
        length: Ids of every live hypothesis `[]` int32.
        live: Hypotheses still growing.
        state: The state before `live.ids` are read, N on axis 0 of every leaf.
        finished: Complete hypotheses; those of a done sentence never change.
        done: Sentences that need no further step `[B]` bool.
        failed: Sentences with logits that were no distribution `[B]` bool.
    """

    length: tf.Tensor
    live: _Live
    state: State
    finished: _Finished
    done: tf.Tensor
    failed: tf.Tensor


class _Candidates(NamedTuple):
    """Continuations of the live hypotheses by one id, best first.

    Attributes:
        log_probs: Of the whole hypothesis `[B, C]`.
        ids: The new id `[B, C]` int32.
        parents: The beam that each continues `[B, C]` int32.
        failed: Sentences with logits that were no distribution `[B]` bool.
    """

    log_probs: tf.Tensor
    ids: tf.Tensor
    parents: tf.Tensor
    failed: tf.Tensor


def _first_beams(start: Start, limits: Limits, *, beam_size: int, n_best: int) -> _Beams:
    batch, longest = tf.size(start.ids), _longest(limits)
    done = tf.less_equal(limits.max_length, 0)
    # One live hypothesis, the empty one: K of it would all go on alike.
    log_probs = tf.tile([[0.0] + [-math.inf] * (beam_size - 1)], [batch, 1])
    complete = tf.where(done[:, None], log_probs[:, :n_best], -math.inf)
    return _Beams(
        length=tf.constant(0),
        live=_Live(
            ids=tf.repeat(tf.cast(start.ids, tf.int32)[:, None], beam_size, axis=1),
            log_probs=log_probs,
            sequences=tf.zeros([batch, beam_size, longest], tf.int32),
        ),
        state=_repeat_rows(start.state, beam_size),
        finished=_Finished(
            scores=complete,
            log_probs=complete,
            lengths=tf.zeros([batch, n_best], tf.int32),
            sequences=tf.zeros([batch, n_best, longest], tf.int32),
        ),
        done=done,
        failed=tf.zeros_like(done),
    )


def _candidates(logits: tf.Tensor, live: _Live, *, limits: Limits) -> _Candidates:
    """The 2K best continuations, as up to K of them end: one of each live hypothesis."""
    beam_size = live.ids.shape[1]
    best = _best_log_probs(logits, beam_size + 1, forbidden_ids=limits.forbidden_ids)
    width = _size(best.ids, 1)  # K + 1 of each row, so that K are left when one of them ends
    log_probs = live.log_probs[:, :, None] + tf.reshape(best.scores, [-1, beam_size, width])
    empty = tf.math.is_inf(live.log_probs)[:, :, None]  # slots whose logits mean nothing
    undefined = tf.math.is_nan(log_probs) & ~empty
    every = beam_size * width
    log_probs, order = tf.math.top_k(
        tf.reshape(tf.where(empty | undefined, -math.inf, log_probs), [-1, every]),
        _at_most(2 * beam_size, every),
    )  # [B, C]
    return _Candidates(
        log_probs=log_probs,
        ids=tf.gather(tf.reshape(best.ids, [-1, every]), order, batch_dims=1),
        parents=order // width,
        failed=tf.reduce_any(undefined, axis=[1, 2]),
    )


def _advance_beams(
    beams: _Beams, candidates: _Candidates, *, limits: Limits, length_penalty: tf.Tensor | float
) -> _Beams:
    """`beams` with complete candidates among the finished, and the best others in the beam."""
    beam_size = beams.live.ids.shape[1]
    cut = tf.greater_equal(beams.length + 1, limits.max_length)[:, None]
    complete = (candidates.ids == limits.end_id) | cut  # [B, C]
    sequences = tf.gather(beams.live.sequences, candidates.parents, batch_dims=1)  # [B, C, T]
    here = tf.range(tf.shape(sequences)[2]) == beams.length
    sequences = tf.where(here, candidates.ids[:, :, None], sequences)

    leaving = complete[:, :beam_size] & ~beams.done[:, None]
    finished = _keep_best(
        beams.finished,
        tf.where(leaving, candidates.log_probs[:, :beam_size], -math.inf),
        sequences=sequences[:, :beam_size],
        length=beams.length + 1,
        length_penalty=length_penalty,
    )
    log_probs, staying = tf.math.top_k(
        tf.where(complete, -math.inf, candidates.log_probs), beam_size
    )  # [B, K]
    parents = tf.gather(candidates.parents, staying, batch_dims=1)
    rows = tf.reshape(tf.range(tf.shape(parents)[0])[:, None] * beam_size + parents, [-1])  # [N]
    # The most that a live hypothesis can still reach, as log-probabilities only fall.
    bound = ranking_score(log_probs[:, 0], limits.max_length, length_penalty)
    failed = candidates.failed & ~beams.done
    return _Beams(
        length=beams.length + 1,
        live=_Live(
            ids=tf.gather(candidates.ids, staying, batch_dims=1),
            log_probs=log_probs,
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


def _keep_best(
    finished: _Finished,
    log_probs: tf.Tensor,
    *,
    sequences: tf.Tensor,
    length: tf.Tensor,
    length_penalty: tf.Tensor | float,
) -> _Finished:
    """The best of `finished` and of what has just become complete: `log_probs` `[B, K]`."""
    added = _Finished(
        scores=ranking_score(log_probs, length, length_penalty),
        log_probs=log_probs,
        lengths=tf.fill(tf.shape(log_probs), length),
        sequences=sequences,
    )
    both = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=1), finished, added)
    _, kept = tf.math.top_k(both.scores, finished.scores.shape[1])
    return tf.nest.map_structure(lambda part: tf.gather(part, kept, batch_dims=1), both)


class _Best(NamedTuple):
    """Columns of each row and their scores, best first: `[N, C]` and `[N, C]` int32."""

    scores: tf.Tensor
    ids: tf.Tensor


def _best_log_probs(logits: tf.Tensor, count: int, *, forbidden_ids: Sequence[int]) -> _Best:
    """At least the `count` most likely ids of each row that may be chosen.

    Forbidden ids may be among them and then have log-probability -inf; rows that are no
    distribution have NaN.
    """
    logits = tf.cast(logits, tf.float32)
    forbidden = sorted(set(forbidden_ids))
    scores, ids = _top_k(logits, count + len(forbidden))
    # log_softmax at these ids only. The best id's probability is at least 1 / V, so its logarithm
    # is safe, and softmax is one pass where log-sum-exp takes three. A NaN makes it NaN or 0.
    best = tf.gather(tf.nn.softmax(logits), ids[:, :1], batch_dims=1)  # [N, 1]
    log_probs = scores - scores[:, :1] + tf.math.log(tf.where(best > 0.0, best, math.nan))
    if forbidden:
        may_not = tf.reduce_any(ids[:, :, None] == tf.constant(forbidden), axis=2)
        log_probs = tf.where(may_not, -math.inf, log_probs)
    return _Best(log_probs, ids)


def _top_k(scores: tf.Tensor, count: int) -> _Best:
    """The `count` highest `scores` `[N, V]` of each row; of equal ones the lower id comes first.

    Over 8,000 columns `tf.math.top_k` takes longer than a whole LSTM step. So: the maximum of each
    block of columns, the best `count` blocks, the best columns in those. If `count` blocks come
    before a column's block, then so do as many columns before the column.
    """
    columns = scores.shape[1]
    if columns is None or columns < 4 * _BLOCK * count:
        comparable = tf.where(tf.math.is_nan(scores), -math.inf, scores)
        return _Best(*tf.math.top_k(comparable, _at_most(count, _size(scores, 1))))
    blocks = _blocks(scores, filling=-math.inf)
    _, best = tf.math.top_k(tf.reduce_max(blocks, axis=2), count)
    best = tf.sort(best)  # so that of equal scores the lower id still comes first
    within = tf.reshape(tf.gather(blocks, best, batch_dims=1), [-1, count * _BLOCK])
    scores, places = tf.math.top_k(within, count)
    # Place 70 is column 70 % 32 = 6 of block best[70 // 32] = best[2].
    ids = tf.gather(best, places // _BLOCK, batch_dims=1) * _BLOCK + places % _BLOCK
    return _Best(scores, ids)


def _blocks(rows: tf.Tensor, *, filling: float) -> tf.Tensor:
    """`rows` `[N, C]` as `[N, blocks, _BLOCK]`, the last block filled up."""
    missing = -rows.shape[1] % _BLOCK
    if missing:  # padding copies
        rows = tf.pad(rows, [[0, 0], [0, missing]], constant_values=filling)
    return tf.reshape(rows, [-1, rows.shape[1] // _BLOCK, _BLOCK])


def _without(logits: tf.Tensor, forbidden_ids: Sequence[int]) -> tf.Tensor:
    """`logits` `[N, V]` with -inf for forbidden ids."""
    if not forbidden_ids:
        return logits
    ids = tf.range(_size(logits, 1))
    may_not = tf.reduce_any(ids[:, None] == tf.constant(sorted(forbidden_ids)), axis=1)
    return tf.where(may_not, -math.inf, logits)


def _draw_nucleus(weights: tf.Tensor, *, keys: tf.Tensor, top_p: tf.Tensor | float) -> tf.Tensor:
    """A column of each row `[N]` int32, drawn by `weights` `[N, C]` from the top `top_p` share.

    Needs no sorting: a column is in the nucleus if those before it weigh less than the share. One
    that is not is drawn anew, from the columns before it, as no later one can be in the nucleus.
    """
    if not tf.is_tensor(top_p) and top_p == 1.0:
        return _draw(weights, _mix(keys))
    share = tf.where(top_p < 1.0, top_p * tf.reduce_sum(weights, axis=1), math.inf)
    columns = tf.range(_size(weights, 1))

    def draw(
        attempt: tf.Tensor, drawn: tf.Tensor, rest: tf.Tensor, outside: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        again = _draw(rest, _mix(keys ^ _as_uint64(attempt)))
        drawn = tf.where(outside, again, drawn)
        own = tf.gather(weights, drawn, batch_dims=1)[:, None]
        before = (weights > own) | ((weights == own) & (columns < drawn[:, None]))
        rest = tf.where(before, weights, 0.0)
        # False for NaN, which nothing would ever be inside of.
        return attempt + 1, drawn, rest, tf.reduce_sum(rest, axis=1) >= share

    everywhere = tf.ones_like(share, tf.bool)
    loop = (tf.constant(0), tf.zeros_like(share, tf.int32), weights, everywhere)
    _, drawn, _, _ = tf.while_loop(lambda *loop: tf.reduce_any(loop[3]), draw, loop)
    return drawn


def _draw(weights: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """A column of each row `[N]` int32, drawn by `weights` `[N, C]` with random `keys` `[N]`."""
    columns = weights.shape[1]
    if columns is None or columns < _BLOCK**2:
        return _find(weights, _uniform(keys))
    # A block, then a column in it: cumulative sums over all columns are slow.
    blocks = _blocks(weights, filling=0.0)
    block = _find(tf.reduce_sum(blocks, axis=2), _uniform(keys))
    column = _find(tf.gather(blocks, block, batch_dims=1), _uniform(_mix(keys)))
    return tf.minimum(block * _BLOCK + column, columns - 1)  # beyond only if weights are NaN


def _find(weights: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """The column `[N]` int32 in which the share `uniforms` `[N]` of all `weights` `[N, C]` lies."""
    sums = tf.cumsum(weights, axis=1)
    goals = uniforms[:, None] * sums[:, -1:]  # less than the last sum, so never beyond it
    columns = tf.searchsorted(sums, goals, side="right")[:, 0]
    return tf.minimum(columns, _size(weights, 1) - 1)  # beyond only if weights are NaN


def _uniform(keys: tf.Tensor) -> tf.Tensor:
    """Numbers in [0, 1) made of the top 23 bits of `keys` uint64, so that x * y < y in float32."""
    return tf.cast(tf.bitwise.right_shift(keys, _as_uint64(41)), tf.float32) * 2.0**-23


def _mix(keys: tf.Tensor) -> tf.Tensor:
    """Random-looking uint64, each of one key: what SplitMix64 draws next in the state `keys`.

    Steele et al. 2014, "Fast splittable pseudorandom number generators". TensorFlow's own stateless
    generators take one key for a whole tensor, so that a row's numbers depend on its place in it.
    """
    keys += _as_uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ tf.bitwise.right_shift(keys, _as_uint64(shift))) * _as_uint64(factor)
    return keys ^ tf.bitwise.right_shift(keys, _as_uint64(31))


def _as_uint64(number: tf.Tensor | int) -> tf.Tensor:
    if isinstance(number, int):
        return tf.constant(number % 2**64, tf.uint64)
    return tf.cast(number, tf.uint64)


def _hypotheses(
    ids: tf.Tensor, lengths: tf.Tensor, *, log_probs: tf.Tensor, end_id: int
) -> Hypotheses:
    """The result, cut to its longest hypothesis; `ids` `[B, K, T]`, the others `[B, K]`."""
    lengths = tf.where(tf.math.is_finite(log_probs), lengths, 0)
    longest = tf.maximum(tf.reduce_max(lengths), 0)  # 0 if there are no sentences
    ids = tf.where(tf.range(longest) < lengths[:, :, None], ids[:, :, :longest], end_id)
    return Hypotheses(ids, lengths, log_probs)


def _per_sentence(limits: Limits, start: Start) -> Limits:
    max_length = tf.cast(limits.max_length, tf.int32)
    return limits._replace(max_length=tf.broadcast_to(max_length, tf.shape(start.ids)))


def _longest(limits: Limits) -> tf.Tensor:
    return tf.maximum(tf.reduce_max(limits.max_length), 0)  # 0 if there are no sentences


def _repeat_rows(structure: Any, count: int) -> Any:
    """`[B, ...]` leaves as `[B * count, ...]`: row b * count + k is row b for each k."""
    return tf.nest.map_structure(lambda leaf: tf.repeat(leaf, count, axis=0), structure)


def _with_shapes_of(before: Any, after: Any) -> Any:
    """`after` with all that is known of the shapes before, which a loop must not lose."""
    return tf.nest.map_structure(lambda old, new: tf.ensure_shape(new, old.shape), before, after)


def _size(tensor: tf.Tensor, axis: int) -> tf.Tensor | int:
    """A number where the size is known when the graph is made."""
    size = tensor.shape[axis]
    return tf.shape(tensor)[axis] if size is None else size


def _at_most(count: int, size: tf.Tensor | int) -> tf.Tensor | int:
    return min(count, size) if isinstance(size, int) else tf.minimum(count, size)


def _require(value: Any, key: str, expected: str, accepts: Callable[[Any], bool]) -> None:
    """Raises if a number is out of range; tensors, whose value is not known yet, pass."""
    if not tf.is_tensor(value) and not accepts(value):
        raise UsageError(f"{key}: got {value!r}, expected {expected}")
