"""The loop of all searches, on countdowns: each sentence is done when its number is 0."""

import tensorflow as tf

from seq2seq.limits import Limits
from seq2seq.search_loop import Given, given_of, longest_of, repeat_rows, until_done

LIMITS = Limits(end_id=3, max_length=9)


def counted_down(numbers: list[int], *, rows: int = 1) -> tuple[list[int], list[int]]:
    """How often each was counted down, and how many rows each step had; `rows` a sentence."""
    steps: list[int] = []

    def advance(length: tf.Tensor, progress: list[tf.Tensor], given: Given) -> list[tf.Tensor]:
        left, counted, wide = progress
        tf.debugging.assert_equal(given.memory, wide)  # what belongs together stays together
        tf.py_function(lambda: steps.append(int(tf.size(left))), [], [])
        return [left - 1, counted + tf.cast(left > 0, tf.int32), wide]

    number = tf.constant(numbers)
    wide = tf.repeat(number, rows)
    given = given_of(wide, LIMITS, tf.size(number))
    found = until_done(
        advance,
        [number, tf.zeros_like(number), wide],
        given,
        length=tf.constant(0),
        done=lambda progress: progress[0] <= 0,
        outcome=lambda progress: progress[1],
    )
    return found.numpy().tolist(), steps


def test_each_sentence_gets_as_many_steps_as_it_needs_in_the_order_given() -> None:
    for numbers in ([3, 1, 2], [0, 0], [5], []):
        assert counted_down(numbers)[0] == numbers
    many = [7 * place % 31 for place in range(100)]
    assert counted_down(many, rows=3)[0] == many


def test_sentences_that_are_done_leave_by_the_quarter_in_multiples_of_eight() -> None:
    # Of 32 sentences 8 need 1, 8 need 2, 8 need 3 and 8 need 4 steps: 24, 16 and 8 are left.
    assert counted_down([1 + place % 4 for place in range(32)])[1] == [32, 24, 16, 8]
    # Of 16, 13 need one step; the 3 left are filled up to 8, which stay to the end.
    assert counted_down([1] * 13 + [3] * 3)[1] == [16, 8, 8]


def test_rows_are_repeated_side_by_side() -> None:
    repeated = repeat_rows((tf.constant([1, 2]), ()), 3)
    assert repeated[0].numpy().tolist() == [1, 1, 1, 2, 2, 2]


def test_there_is_room_for_the_longest_and_for_one_at_least() -> None:
    for lengths, expected in (([4, 9, 2], 9), ([0, 0], 1)):
        limits = LIMITS._replace(max_length=tf.constant(lengths))
        assert int(longest_of(given_of((), limits, tf.constant(len(lengths))))) == expected
