"""Scores in parts: they are those of the parts alone."""

import pytest

from seq2seq.breakdown import LengthGroup, by_length, by_sentence
from seq2seq.evaluation import bleu, evaluate

SHORT, LONG = "a b c d", " ".join("abcdefghijklmnopqrstuvwxyz" * 3)  # 4 and 78 words


def test_groups_go_by_words_of_the_first_reference_and_score_their_lines_alone():
    hypotheses = ["a b x d", "b c d e f", LONG, "a b c d e"]
    references = [["a b c d", "b c d e f", LONG, "a b c d e"], [LONG, LONG, SHORT, SHORT]]
    groups = by_length(hypotheses, references)
    bounds = [(group.fewest, group.most, group.sentences) for group in groups]
    assert bounds == [(0, 4, 1), (5, 9, 2), (60, None, 1)]
    assert groups[1].bleu == pytest.approx(100)
    # All 4 words, the x in the second reference, and 1 of 3 pairs; no longer n-gram: for the 2 of
    # three words exp smoothing counts 1/2, for the 1 of four 1/4.
    assert groups[0].bleu == pytest.approx(100 * (1 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25)


def test_groups_with_one_reference_have_its_bleu_and_length():
    (group,) = by_length(["a b c", "a b c d e"], [["a b c d", "a b c d"]])
    assert group.bleu == bleu(["a b c", "a b c d e"], ["a b c d", "a b c d"]).value
    assert group == LengthGroup(0, 4, 2, group.bleu, 1.0)
    (shorter,) = by_length(["a b"], [["a b c d"]])
    assert shorter.length_ratio == pytest.approx(0.5)


def test_each_sentence_is_scored_as_if_it_were_the_whole_text():
    hypotheses, references = ["the cat sat", "", "A DOG"], [["the cat sat", "a dog", "a dog"]]
    found = by_sentence(hypotheses, references)
    assert [each.line for each in found] == [1, 2, 3]
    for each, hypothesis, reference in zip(found, hypotheses, references[0], strict=True):
        assert (each.hypothesis, each.references) == (hypothesis, (reference,))
        assert each.chrf == pytest.approx(evaluate([hypothesis], [[reference]]).chrf.value)
    # Three words have no 4-gram, which does not count against them.
    assert [each.bleu for each in found] == pytest.approx([100, 0, 0])
    ignoring = by_sentence(hypotheses, references, lowercase=True)
    assert (ignoring[2].bleu, ignoring[2].chrf) == pytest.approx((100, 100))
