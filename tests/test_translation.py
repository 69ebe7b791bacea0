import copy
import pickle

import numpy as np
import pytest

from seq2seq.errors import UsageError
from seq2seq.translation import END, Details, Hypothesis, Translation, pharaoh, words_of

ATTENTION = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.6, 0.1], [0.1, 0.3, 0.2, 0.4], [0.0, 0.0, 0.0, 1.0]], "f4"
)
DETAILS = Details(
    source=["\u2581two", "\u2581bird", "s", END],
    target=["\u2581zwei", "\u2581V\u00f6", "gel", END],
    log_probs=[-0.1, -0.2, -0.3, -0.4],
    attention=ATTENTION,
)


def test_each_piece_is_aligned_to_what_it_looked_at_most_but_not_to_the_end():
    # The third piece looks at the end (0.4) most, and of the real ones at "bird" (0.3).
    assert DETAILS.alignment == [(0, 0), (2, 1), (1, 2)]
    assert pharaoh(DETAILS.alignment) == "0-0 2-1 1-2"


def test_words_are_aligned_once():
    assert words_of(DETAILS.source[:-1]) == [0, 1, 1]
    assert DETAILS.word_alignment == [(0, 0), (1, 1)]
    assert words_of(["a", "b", "\u2581", "c", "\u2581d"]) == [0, 0, 1, 1, 2]  # no mark at first
    assert words_of([]) == []


def test_a_translation_that_was_cut_has_no_end_to_leave_out():
    cut = Details(DETAILS.source, DETAILS.target[:2], [-0.1, -0.2], ATTENTION[:2])
    assert cut.alignment == [(0, 0), (2, 1)]


def test_a_blank_source_has_nothing_to_be_aligned_to():
    blank = Details([END], DETAILS.target, DETAILS.log_probs, np.ones((3, 1), np.float32))
    assert blank.alignment == []
    assert blank.word_alignment == []


def test_without_attention_there_is_no_alignment():
    plain = Details(DETAILS.source, DETAILS.target, DETAILS.log_probs, None)
    assert plain.alignment is None
    assert plain.word_alignment is None


def test_details_are_found_once_when_they_are_asked_for():
    calls = []

    def explain():
        calls.append(1)
        return DETAILS

    translation = Translation(
        "two birds", [Hypothesis("x", -1.0, -1.0, [], False, explain=explain)]
    )
    assert not calls
    assert translation.details is DETAILS
    assert translation.alignment == DETAILS.alignment
    assert len(calls) == 1


def test_a_hypothesis_sent_to_another_process_keeps_the_details_it_has():
    told = Hypothesis("x", -1.0, -1.0, [], truncated=False, explain=lambda: DETAILS)
    untold = Hypothesis("x", -1.0, -1.0, [], truncated=False, explain=lambda: DETAILS)
    assert told.details is DETAILS
    told, untold = pickle.loads(pickle.dumps([told, untold]))
    assert told.details.target == DETAILS.target
    assert told == untold
    with pytest.raises(UsageError, match="has no model any more; translate with details=True"):
        _ = untold.details


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_has_its_details_too(copied):
    asked = []

    class Model:
        def explain(self):
            asked.append(1)
            return Details(["a", END], ["b", END], log_probs=[-1.0, -2.0], attention=None)

        def __deepcopy__(self, memo):
            raise AssertionError("a model is large: it is not copied with what it made")

    hypothesis = Hypothesis("b", -3.0, -3.0, ["b"], truncated=False, explain=Model().explain)
    assert copied(hypothesis).details == hypothesis.details
    assert len(asked) == 2
    again = copied(hypothesis)
    assert again.details.target == hypothesis.details.target
    assert len(asked) == 2  # found already
    assert (again.pieces is hypothesis.pieces) == (copied is copy.copy)


def test_details_with_attention_can_be_compared():
    one, same, other = (
        Details(["a", END], ["b", END], [-1.0, last], attention=np.full([2, 2], 0.5))
        for last in (-2.0, -2.0, -3.0)
    )
    assert one == same
    assert one != other
