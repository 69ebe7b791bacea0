"""What a hypothesis must contain (lexical constraints): what brings it nearer, and how near it is.

A beam that ranks by score alone drops whoever begins a constraint too early. So hypotheses take
turns by how many of the ids they have, the nearest first; then whatever the beam, one of them has
all in the end (Post & Vilar 2018, "Fast lexically constrained decoding with dynamic beam
allocation", sec. 3; the turns are those of Hu et al. 2019, "Improved lexically constrained decoding
for translation and monolingual rewriting", sec. 3.2).

All is a function of what a hypothesis has said, so that the beam has nothing more to carry.

Shapes: B sentences, N rows (the hypotheses of all sentences, N / B each), T longest hypothesis,
L longest constraint, X constraints of a sentence, C candidates.
"""

from typing import NamedTuple

import tensorflow as tf

NONE = -1
"""In constraints: no id, as they are not all of a length, nor as many for each sentence."""

_NOTHING = -2  # in the place of ids before the first and after the last


class Met(NamedTuple):
    """How much of its constraints each row has.

    Attributes:
        constraints: `[N, X, L]` int32, filled up with `NONE`.
        whole: Whether it has all ids of each, one after the other `[N, X]` bool; also true of
            constraints without any.
        tail: The last L ids of each row `[N, L]` int32.
    """

    constraints: tf.Tensor
    whole: tf.Tensor
    tail: tf.Tensor

    @property
    def sizes(self) -> tf.Tensor:
        """Ids of each constraint `[N, X]` int32."""
        return tf.math.count_nonzero(self.constraints != NONE, axis=2, dtype=tf.int32)

    @property
    def wanted(self) -> tf.Tensor:
        """The next id of each constraint that a row has not `[N, X]` int32, `NONE` for the others.

        An id that is the next one of several stands here once.
        """
        begun = _begun(self.constraints, self.tail[:, None])[:, 0]
        begun = tf.minimum(begun, tf.maximum(self.sizes - 1, 0))
        following = tf.gather(self.constraints, begun, batch_dims=2)
        following = tf.where(self.whole, NONE, following)
        same = following[:, :, None] == following[:, None, :]
        first = tf.argmax(tf.cast(same, tf.int32), axis=2, output_type=tf.int32)
        return tf.where(first == tf.range(tf.shape(following)[1]), following, NONE)

    def ids_with(self, ids: tf.Tensor) -> tf.Tensor:
        """Ids that are met when a row says one of `ids` `[N, C]` next: `[N, C]` int32.

        All ids of the constraints that are whole then, and of the others the part of the one that
        is longest begun.
        """
        tail = tf.repeat(self.tail[:, None, 1:], tf.shape(ids)[1], axis=1)
        begun = _begun(self.constraints, tf.concat([tail, ids[:, :, None]], axis=2))  # [N, C, X]
        whole = self.whole[:, None] | (begun == self.sizes[:, None])
        had = tf.reduce_sum(tf.where(whole, self.sizes[:, None], 0), axis=2)
        return had + tf.reduce_max(tf.where(whole, 0, begun), axis=2)

    @property
    def all_ids(self) -> tf.Tensor:
        """Ids of all constraints of a row `[N]` int32."""
        return tf.reduce_sum(self.sizes, axis=1)


def met_by(constraints: tf.Tensor, said: tf.Tensor, length: tf.Tensor) -> Met:
    """What the first `length` ids of `said` `[N, T]` have of `constraints` `[B, X, L]`."""
    sentences = tf.maximum(tf.shape(constraints)[0], 1)
    constraints = tf.repeat(constraints, tf.shape(said)[0] // sentences, axis=0)
    longest = tf.shape(constraints)[2]
    around = tf.pad(
        said[:, :length], [[0, 0], [longest, longest]], constant_values=_NOTHING
    )  # [N, L + length + L]
    # Where each id, and where nothing begins, which has all constraints of no ids.
    starts = tf.range(longest, longest + length + 1)
    windows = tf.gather(around, starts[:, None] + tf.range(longest), axis=1)  # [N, length + 1, L]
    same = (windows[:, :, None] == constraints[:, None]) | (constraints == NONE)[:, None]
    whole = tf.reduce_any(tf.reduce_all(same, axis=3), axis=1)
    return Met(constraints, whole, around[:, length : length + longest])


def in_turns(scores: tf.Tensor, ids_met: tf.Tensor, count: int) -> tf.Tensor:
    """The `count` candidates `[B, count]` int32 whose turn comes first, of all `[B, C]`.

    First the best of each number of ids met, highest number first; then the second best of each,
    and so on. Those of score -inf come last.
    """
    best_first = tf.argsort(scores, direction="DESCENDING", stable=True)
    grouped = tf.argsort(tf.gather(ids_met, best_first, batch_dims=1), stable=True)
    order = tf.gather(best_first, grouped, batch_dims=1)  # by ids met, the best of each first
    met = tf.gather(ids_met, order, batch_dims=1)
    turn = tf.range(tf.shape(met)[1]) - tf.searchsorted(met, met)  # since the group's first
    numbers = met[:, -1:] + 1
    place = turn * numbers + numbers - met
    exists = tf.math.is_finite(tf.gather(scores, order, batch_dims=1))
    chosen = tf.math.top_k(-tf.where(exists, place, tf.int32.max), count).indices
    return tf.gather(order, chosen, batch_dims=1)


def _begun(constraints: tf.Tensor, windows: tf.Tensor) -> tf.Tensor:
    """The most ids that a constraint begins and a window ends with `[N, W, X]` int32.

    Args:
        constraints: `[N, X, L]`.
        windows: `[N, W, L]`.
    """
    longest = tf.shape(constraints)[2]
    beginning, place = tf.range(1, longest + 1)[:, None], tf.range(longest)  # [L, 1], [L]
    # The last n ids of each window, for n of 1 to L, moved to the front.
    last = tf.gather(windows, tf.minimum(longest - beginning + place, longest - 1), axis=2)
    same = last[:, :, None] == constraints[:, None, :, None]  # [N, W, X, L, L]
    fits = tf.reduce_all(same | (place >= beginning), axis=4)
    return tf.reduce_max(tf.where(fits, beginning[:, 0], 0), axis=3)
