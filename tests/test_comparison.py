"""Significance: against all possible swaps, and what must hold of any test."""

import itertools
import random
import sys

import pytest

from seq2seq import comparison, evaluation
from seq2seq.comparison import compare
from seq2seq.errors import DataError, UsageError
from seq2seq.evaluation import evaluate

# Words of the references, and edits that each system needs: TER is edits / words.
REFERENCES = ["a b c d", "e f", "g h i", "j k l m n", "o p q", "r s", "t u v w", "x y z"]
SYSTEM = ["a b c d", "e f", "g h i", "j k l m 1", "o p q", "r 1", "t u v w", "x y z"]
BASELINE = ["a b 1 2", "e 1", "g h i", "j k l m n", "o 1 2", "r 1", "t u v 1", "x y z"]


def edits(lines: list[str]) -> list[int]:
    """Words to change: all lines have the length of their references."""
    return [
        sum(word != wanted for word, wanted in zip(line.split(), right.split(), strict=True))
        for line, right in zip(lines, REFERENCES, strict=True)
    ]


def exact_p_of_swaps(system: list[str], baseline: list[str]) -> float:
    """Of all ways to swap the systems' lines, the share with a difference as large."""
    ours, theirs = edits(system), edits(baseline)
    observed = abs(sum(ours) - sum(theirs))
    swaps = itertools.product([1, -1], repeat=len(ours))
    differences = [
        abs(sum(sign * (a - b) for sign, a, b in zip(signs, ours, theirs, strict=True)))
        for signs in swaps
    ]
    return sum(each >= observed for each in differences) / len(differences)


def test_p_of_randomisation_is_the_share_of_swaps_that_differ_as_much():
    ter = compare(SYSTEM, BASELINE, [REFERENCES])[2]
    words = sum(len(line.split()) for line in REFERENCES)
    assert ter.name == "TER"
    assert ter.value == pytest.approx(100 * sum(edits(SYSTEM)) / words)
    assert ter.baseline == pytest.approx(100 * sum(edits(BASELINE)) / words)
    # 10,000 swaps are drawn: a standard error of 0.005 at most.
    assert ter.randomization == pytest.approx(exact_p_of_swaps(SYSTEM, BASELINE), abs=0.02)


def exact_p_of_samples(system: list[str], baseline: list[str]) -> float:
    """The share of all samples whose difference is as far from the mean, as ours from 0."""
    ours, theirs = edits(system), edits(baseline)
    words = [len(line.split()) for line in REFERENCES[: len(ours)]]
    numbers = range(len(ours))
    differences = [
        sum(ours[i] - theirs[i] for i in sample) / sum(words[i] for i in sample)
        for sample in itertools.product(numbers, repeat=len(ours))
    ]
    mean = sum(differences) / len(differences)
    observed = abs(sum(ours) - sum(theirs)) / sum(words)
    return sum(abs(each - mean) >= observed for each in differences) / len(differences)


def test_p_of_the_bootstrap_is_the_share_of_samples_that_differ_as_much(monkeypatch):
    for module in (comparison, evaluation):
        monkeypatch.setattr(module, "RESAMPLES", 10_000)
    monkeypatch.setattr(comparison, "_SWAPS", 1)
    monkeypatch.setattr(sys.modules[__name__], "REFERENCES", REFERENCES[:6])
    for system, baseline in ((SYSTEM[:6], BASELINE[:6]), (BASELINE[:6], SYSTEM[:6])):
        ter = compare(system, baseline, [REFERENCES])[2]
        expected = exact_p_of_samples(system, baseline)
        assert 0.01 < expected < 0.9
        assert ter.bootstrap == pytest.approx(expected, abs=0.02)


def test_equal_systems_seem_different_as_often_as_p_says(monkeypatch):
    """Of systems that are equally good, about one in ten has a p below 0.1, by either test."""
    for module in (comparison, evaluation):
        monkeypatch.setattr(module, "RESAMPLES", 200)
    monkeypatch.setattr(comparison, "_SWAPS", 200)
    draws = random.Random(1)
    right = [f"sentence {i} of a text is here" for i in range(60)]
    alarms = {"bootstrap": 0, "randomization": 0}
    for _ in range(60):
        worse = [
            [line if draws.random() < 0.5 else f"{line} not" for line in right] for _ in range(2)
        ]
        ter = compare(*worse, [right])[2]
        for name in alarms:
            alarms[name] += getattr(ter, name) < 0.1
    # Binomial, 60 times 0.1: 13 or more have a probability of 0.5 %.
    assert all(count <= 12 for count in alarms.values())
    assert all(count >= 1 for count in alarms.values())


@pytest.mark.parametrize(("differing", "expected"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625)])
def test_a_few_sentences_that_differ_are_no_evidence(differing, expected):
    right = [f"word number {i} of a long test" for i in range(60)]
    wrong = [f"word number {i} of a wrong test" for i in range(60)]
    # Each swap takes the better sentence away: only none and all make the difference again.
    for each in compare(right[:differing] + wrong[differing:], wrong, [right]):
        assert each.randomization == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("seed", ["x", "", "0", "-1"])
def test_a_seed_that_is_none_is_refused(seed, monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", seed)
    with pytest.raises(UsageError, match=f"SACREBLEU_SEED: got '{seed}', expected a whole number"):
        compare(SYSTEM, BASELINE, [REFERENCES])
    with pytest.raises(UsageError, match="SACREBLEU_SEED"):
        evaluate(SYSTEM, [REFERENCES])


def test_what_is_drawn_is_a_function_of_the_seed(monkeypatch):
    found = []
    monkeypatch.setattr(comparison, "_SWAPS", 1_000)
    for seed in ("7", "7", "8", "none"):
        monkeypatch.setenv("SACREBLEU_SEED", seed)
        found.append(compare(SYSTEM, BASELINE, [REFERENCES])[0])
    assert found[0] == found[1]
    assert found[0].randomization != found[2].randomization
    assert found[2].signatures[1].partition("|seed:")[2].startswith("8")
    assert "seed:none" in found[3].signatures[1]


def test_scores_are_those_of_each_system_alone():
    found = compare(SYSTEM, BASELINE, [REFERENCES], lowercase=True)
    alone = [evaluate(each, [REFERENCES], lowercase=True) for each in (SYSTEM, BASELINE)]
    for each, ours, theirs in zip(found, *(each.scores for each in alone), strict=True):
        assert each.name == ours.name
        assert (each.value, each.baseline) == pytest.approx((ours.value, theirs.value))


def test_a_system_differs_from_itself_by_chance_only():
    for each in compare(SYSTEM, SYSTEM, [REFERENCES]):
        assert each.value == each.baseline
        assert (each.bootstrap, each.randomization) == (1, 1)


def test_a_system_that_is_better_everywhere_is_no_chance():
    right = [f"word number {i} of a long test" for i in range(60)]
    wrong = [f"quite something else than {i}" for i in range(60)]
    for each in compare(right, wrong, [right]):
        # The least that so many draws can show.
        assert each.bootstrap == pytest.approx(1 / 1001)
        assert each.randomization == pytest.approx(1 / 10001)
        assert "|bs:1000|seed:" in each.signatures[0]
        assert "|ar:10000|seed:" in each.signatures[1]


def test_files_of_different_length_are_refused_by_name():
    with pytest.raises(DataError, match=r"^baseline: 7 lines, but hypotheses has 8; line i of"):
        compare(SYSTEM, BASELINE[1:], [REFERENCES])
    with pytest.raises(DataError, match=r"^references 2: 7 lines, but hypotheses has 8; line i"):
        compare(SYSTEM, BASELINE, [REFERENCES, REFERENCES[1:]])
