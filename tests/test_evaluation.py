from random import Random

import pytest
from sacrebleu.metrics import BLEU

from seq2seq.errors import DataError, UsageError
from seq2seq.evaluation import (
    BLEU_TOKENIZERS,
    bleu,
    evaluate,
)

FOX = "the quick brown fox jumps over the lazy dog"


def test_bleu_of_one_changed_word_is_the_geometric_mean_worked_by_hand():
    # 9 words, the last one wrong: n-gram precisions 8/9, 7/8, 6/7, 5/6; their product is
    # 5/9, the lengths are equal, so BLEU = (5/9) ** (1/4).
    score = bleu([FOX], [FOX.replace("dog", "cat")])
    assert score.value == pytest.approx(100 * (5 / 9) ** 0.25)
    assert score.detail == (
        "precisions 88.9/87.5/85.7/83.3, brevity penalty 1.000, 9 words for 9 in the reference"
    )


def test_bleu_of_a_short_hypothesis_is_cut_by_the_brevity_penalty():
    # All n-grams of the first 6 words are right, so only exp(1 - 9/6) remains.
    score = bleu([" ".join(FOX.split()[:6])], [FOX])
    assert score.value == pytest.approx(100 * 2.718281828459045 ** (1 - 9 / 6))


def test_bleu_is_cased():
    assert bleu([FOX], [FOX]).value == pytest.approx(100)
    assert bleu([FOX], [FOX.upper()]).value == 0


def test_signature_names_tokenizer_and_number_of_references():
    assert bleu([FOX], [FOX], "char").signature.startswith(
        "nrefs:1|case:mixed|eff:no|tok:char|smooth:exp|version:2."
    )
    assert evaluate([FOX], [[FOX], ["x"]]).chrf.signature.startswith("nrefs:2|")


def test_character_tokenizer_makes_words_of_characters():
    # "abcd" for "abce": 3/4, 2/3, 1/2, and no 4-gram, which exp smoothing counts as half a match.
    score = bleu(["abcd"], ["abce"], "char")
    assert score.value == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25)


def test_ter_counts_edits_per_reference_word():
    evaluation = evaluate([FOX.replace("dog", "cat")], [[FOX]])
    assert evaluation.ter.value == pytest.approx(100 / 9)


def test_chrf_of_equal_texts_is_full_and_of_disjoint_texts_zero():
    assert evaluate([FOX], [[FOX]]).chrf.value == pytest.approx(100)
    assert evaluate(["aaaa"], [["bbbb"]]).chrf.value == 0


def test_a_second_reference_that_matches_makes_the_score_full():
    evaluation = evaluate([FOX], [["something else entirely here"], [FOX]])
    assert evaluation.bleu.value == pytest.approx(100)
    assert evaluation.ter.value == 0
    assert evaluation.references == 2


@pytest.mark.parametrize("count", [0, 1, 3])
def test_different_line_counts_are_an_error_with_both_counts(count):
    message = rf"r\.txt: 2 lines, but h\.txt has {count}; line i of each file must belong"
    with pytest.raises(DataError, match=message):
        evaluate([FOX] * count, [[FOX] * 2], hypothesis_name="h.txt", reference_names=["r.txt"])
    with pytest.raises(DataError, match=f"references: 2 lines, but hypotheses has {count}"):
        bleu([FOX] * count, [FOX] * 2)


def test_a_second_reference_of_another_length_is_an_error():
    with pytest.raises(DataError, match="references 2: 1 lines, but hypotheses has 2"):
        evaluate([FOX, FOX], [[FOX, FOX], [FOX]])


def test_no_lines_are_an_error():
    with pytest.raises(DataError, match=r"h\.txt: 0 lines; there is nothing to score"):
        evaluate([], [[]], hypothesis_name="h.txt")
    with pytest.raises(DataError, match="hypotheses: 0 lines; there is nothing to score"):
        bleu([], [])


def test_no_reference_is_an_error():
    with pytest.raises(UsageError, match="no reference: at least one is needed"):
        evaluate([FOX], [])


def test_unknown_tokenizer_is_an_error_that_lists_the_known_ones():
    with pytest.raises(UsageError, match="got '14a', expected one of 13a, intl, zh"):
        bleu([FOX], [FOX], "14a")


@pytest.mark.parametrize("tokenizer", [t for t in BLEU_TOKENIZERS if "mecab" not in t])
def test_every_tokenizer_without_a_package_of_its_own_works(tokenizer):
    assert bleu([FOX], [FOX], tokenizer).value == pytest.approx(100)


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_a_tokenizer_without_its_package_names_the_package_to_install(language, monkeypatch):
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{language}_mecab.MeCab", None)
    with pytest.raises(UsageError, match=rf"missing; pip install 'sacrebleu\[{language}\]'"):
        bleu([FOX], [FOX], f"{language}-mecab")


def test_blank_lines_are_scored_and_counted():
    evaluation = evaluate([FOX, " ", ""], [[FOX, FOX, "\t"], [FOX, "", ""]])
    assert evaluation.sentences == 3
    assert evaluation.blank_hypotheses == 2
    assert evaluation.blank_references == 3
    # All words of the second line are missing, so the score cannot be full.
    assert evaluate([FOX, ""], [[FOX, FOX]]).bleu.value < 100


def test_texts_that_are_blank_everywhere_have_scores():
    evaluation = evaluate([""], [[""]])
    assert (evaluation.bleu.value, evaluation.chrf.value, evaluation.ter.value) == (0, 0, 0)


@pytest.mark.parametrize("line", ["the lo@@ west", "the lo@@", "\u2581the \u2581fox"])
def test_subword_marks_are_warned_about(line):
    evaluation = evaluate([FOX, line], [[FOX, FOX]], hypothesis_name="h.txt")
    (warning,) = evaluation.warnings
    assert warning.startswith("h.txt: 1 of 2 lines have subword marks (@@ or \u2581)")


def test_tokenised_full_stops_are_warned_about():
    (warning,) = evaluate([FOX + " ."] * 2 + [FOX], [[FOX] * 3]).warnings
    assert warning.startswith("hypotheses: 2 of 3 lines end in a tokenised full stop (' .')")


def test_plain_text_has_no_warning():
    assert evaluate([FOX + ".", "me@home"] * 6 + ["odd ."], [[FOX] * 13]).warnings == ()


def test_line_separators_inside_a_line_do_not_shift_lines():
    # What str.splitlines or a text-mode read would make two lines of.
    lines = ["one\u2028two three four five", "a\x85b c d e", "f\rg h i j"]
    evaluation = evaluate(lines, [lines])
    assert evaluation.sentences == 3
    assert evaluation.bleu.value == pytest.approx(100)


def test_case_is_ignored_on_request():
    assert evaluate([FOX], [[FOX.upper()]]).bleu.value == 0
    ignored = evaluate([FOX], [[FOX.upper()]], lowercase=True)
    assert (ignored.bleu.value, ignored.chrf.value) == pytest.approx((100, 100))
    assert "case:lc" in ignored.bleu.signature


def test_the_interval_is_that_of_the_mean_of_independent_sentences():
    # One word each, every other one wrong: TER is the mean of 0 or 100, with a standard error of
    # 100 * sqrt(0.5 * 0.5 / 400) = 2.5, and 95 % of a normal distribution lie within 1.96 of them.
    ter = evaluate(["a", "b"] * 200, [["a"] * 400]).ter
    assert ter.value == pytest.approx(50)
    assert ter.interval == pytest.approx(1.96 * 2.5, rel=0.1)


def test_a_text_without_doubt_has_no_width():
    assert evaluate([FOX] * 20, [[FOX] * 20]).bleu.interval == pytest.approx(0)


def test_the_interval_is_like_sacrebleus():
    random = Random(1)
    references = [" ".join(random.choices("abcdefgh", k=12)) for _ in range(80)]
    hypotheses = [line if random.random() < 0.5 else line[:9] + line[::-1] for line in references]
    theirs = BLEU(force=True).corpus_score(hypotheses, [references], n_bootstrap=1000)
    ours = evaluate(hypotheses, [references]).bleu
    assert ours.value == pytest.approx(theirs.score)
    assert ours.interval == pytest.approx(theirs._ci, rel=0.1)
