"""Given translations: which are looked at together, and what is told of each.

What the numbers are is in test_translator and test_decoding.
"""

import numpy as np
import pytest

from seq2seq import forced_decoding
from seq2seq.errors import NotANumberError, UsageError
from seq2seq.forced_decoding import ForcedDecoding, check_probability
from seq2seq.sentences import Request, encoded
from seq2seq.translation import END


@pytest.fixture
def forced(translator):
    return ForcedDecoding(translator.models, translator.tokenizers)


def test_long_targets_are_looked_at_in_smaller_batches(translator, monkeypatch):
    sources = ["a dog"] * 5
    targets = ["a", "two birds", "the old cat", "b", ""]
    expected = translator.score(sources, targets)
    # Room for 12 target tokens: the longest, of 13 with its end, is alone; then 1, then 4 rows.
    monkeypatch.setattr(
        forced_decoding, "_LOGITS", 12 * translator.tokenizers.target.vocabulary_size
    )
    seen, explained = [], ForcedDecoding._explained

    def spy(self, sentences, targets):
        seen.append([len(target) for target in targets])
        return explained(self, sentences, targets)

    monkeypatch.setattr(ForcedDecoding, "_explained", spy)
    assert translator.score(sources, targets) == pytest.approx(expected, rel=1e-4)
    lengths = sorted(len(translator.tokenizers.target.encode(each)) + 1 for each in targets)
    assert [length for batch in seen for length in batch] == lengths[::-1]
    assert len(seen) > 1
    assert all(len(batch) * batch[0] <= 12 or len(batch) == 1 for batch in seen)


def test_every_row_is_told_with_the_pieces_that_it_has(forced, translator):
    sentences = encoded(
        [Request("a dog"), Request("a")], translator.tokenizers, most_pieces=9, first_number=1
    )
    target = translator.tokenizers.target
    ids = [target.encode("a"), [*target.encode("a cat"), target.eos_id]]
    told = dict(forced.explain(sentences, ids, batch_size=8))
    assert told.keys() == {0, 1}
    assert told[0].target == target.pieces(ids[0])  # cut before its end
    assert told[1].target == [*target.pieces(ids[1][:-1]), END]
    for row, details in told.items():
        assert details.source == [
            *translator.tokenizers.source.pieces(sentences[row].ids[:-1]),
            END,
        ]
        assert len(details.log_probs) == len(details.target)
        assert details.attention.shape == (len(details.target), len(details.source))
        np.testing.assert_allclose(details.attention.sum(1), 1.0, rtol=1e-5)


def test_of_a_blank_text_there_is_nothing_but_its_end(forced):
    details = forced.nothing()
    assert (details.source, details.target, details.log_probs) == ([END], [], [])
    assert details.attention.shape == (0, 1)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5])
def test_a_batch_has_sentences(forced, batch_size):
    with pytest.raises(
        UsageError, match=r"batch size: got .*, expected a whole number of 1 or more"
    ):
        list(forced.explain([], [], batch_size=batch_size))


@pytest.mark.parametrize("log_prob", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_probability_names_its_sentence(translator, log_prob):
    (sentence,) = encoded([Request("a")], translator.tokenizers, most_pieces=9, first_number=7)
    check_probability(-1.5, sentence)
    with pytest.raises(NotANumberError, match="sentence 7: the model's output is not a number"):
        check_probability(log_prob, sentence)
