"""What goes with a text, and how batches are filled."""

import pytest

from seq2seq import sentences
from seq2seq.config import DecodingConfig, TokenizerConfig
from seq2seq.errors import DataError, UsageError
from seq2seq.pairs import Pair
from seq2seq.search_options import search_options
from seq2seq.sentences import (
    Request,
    Sentence,
    batch_of,
    batches_of,
    encoded,
    longest_first,
    requests_of,
)
from seq2seq.tokenizer import train_tokenizers


def test_a_batch_holds_no_more_than_its_tokens():
    sentences = [
        Sentence(number, [0] * length, length - 1, length - 1, 0, [], [])
        for number, length in enumerate([3, 9, 2, 4, 1], 1)
    ]
    options = search_options(DecodingConfig(), batch_size=3, batch_tokens=9)
    batches = list(batches_of(sentences, options))
    assert batches == [[1], [3, 0], [2]]  # the last, of its end alone, is blank


def test_a_batch_has_what_goes_with_each_sentence_filled_up_to_the_longest():
    sentences = [
        Sentence(7, [5, 6, 2], 2, 2, 0, prefix=[8, 9, 8], constraints=[[4], [5, 6]]),
        Sentence(3, [5, 2], 1, 1, 0, prefix=[], constraints=[]),
        Sentence(4, [6, 2], 1, 1, 0, prefix=[9], constraints=[[7]]),
    ]
    options = search_options(DecodingConfig(), max_length=4, min_length_ratio=1.5)
    batch = {name: each.tolist() for name, each in batch_of(sentences, options, end_id=2).items()}
    none = [-1, -1]
    assert batch == {
        "source": [[5, 6, 2], [5, 2, 2], [6, 2, 2]],
        "source_lengths": [3, 2, 2],
        "max_lengths": [3 + 3 + 1, 4, 4],  # room for what is given, and for the end
        "min_lengths": [3, 2, 2],
        "prefixes": [[8, 9, 8], [-1, -1, -1], [9, -1, -1]],
        "constraints": [[[4, -1], [5, 6]], [none, none], [[7, -1], none]],
        "numbers": [7, 3, 4],
    }


def test_faults_are_told_with_the_index_of_the_text():
    requests = requests_of(["a", "b"], ["", 3], None, first=40)
    assert next(requests) == Request("a")
    with pytest.raises(UsageError, match=r"prefixes\[41\]: got int, expected str"):
        next(requests)
    requests = requests_of(["a", "b"], ["x"], None, first=40)
    assert next(requests).prefix == "x"
    with pytest.raises(DataError, match="prefixes: there are 41, fewer than texts"):
        next(requests)


@pytest.mark.parametrize("given", [{"prefix": "az"}, {"constraints": ["b", "az"]}])
def test_what_the_vocabulary_cannot_write_is_refused(given):
    options = TokenizerConfig(type="char", joint=False, vocabulary_size=20, byte_fallback=False)
    tokenizers = train_tokenizers([Pair(1, "z b c", "a b c")], options)
    name = next(iter(given)).replace("prefix", "prefix of").replace("constraints", "constraints of")
    message = f"{name} sentence 5: 'az' has characters that the target vocabulary cannot write; cor"
    requests = [Request("z"), Request("b", **given)]
    with pytest.raises(DataError, match=message):
        encoded(requests, tokenizers, most_pieces=9, first_number=4)


def test_a_text_of_spaces_is_blank_whatever_the_tokenizer_makes_of_them():
    options = TokenizerConfig(
        type="char", vocabulary_size=20, normalization="identity", byte_fallback=False
    )
    tokenizers = train_tokenizers([Pair(1, "a\u3000b c", "a b c")], options)
    assert tokenizers.source.encode("\u3000")
    blank, other = encoded(
        [Request("\u3000"), Request("a\u3000b")], tokenizers, most_pieces=9, first_number=4
    )
    assert (blank.ids, blank.kept, blank.pieces) == ([tokenizers.source.eos_id], 0, 0)
    assert (other.number, other.kept) == (5, len(tokenizers.source.encode("a\u3000b")))


def test_what_the_vocabulary_lacks_is_counted_in_the_whole_text():
    options = TokenizerConfig(type="char", joint=False, vocabulary_size=20, byte_fallback=False)
    tokenizers = train_tokenizers([Pair(1, "a dog", "a cat")], options)
    whole, cut = (
        encoded([Request("a \u2603 \u2603")], tokenizers, most_pieces=most, first_number=1)[0]
        for most in (100, 1)
    )
    assert (whole.unknown, cut.unknown) == (2, 2)
    assert cut.pieces == whole.pieces > cut.kept


def test_long_texts_are_encoded_a_few_at_a_time(monkeypatch):
    options = TokenizerConfig(type="char", vocabulary_size=20, byte_fallback=False)
    tokenizers = train_tokenizers([Pair(1, "a b c", "a b c")], options)
    requests = [Request("a b " * count) for count in (1, 50, 2, 3, 60, 1)]
    expected = encoded(requests, tokenizers, most_pieces=9, first_number=1)
    given, encode = [], tokenizers.source.encode_batch
    monkeypatch.setattr(sentences, "_ENCODED_AT_A_TIME", 100)
    monkeypatch.setattr(
        tokenizers.source, "encode_batch", lambda texts: given.append(len(texts)) or encode(texts)
    )
    assert encoded(requests, tokenizers, most_pieces=9, first_number=1) == expected
    assert [each.number for each in expected] == [1, 2, 3, 4, 5, 6]
    # As soon as they have 100 characters; prefixes are encoded with them, by the same tokenizer.
    assert given[::2] == [2, 3, 1]


def test_the_longest_rows_come_first_and_few_together():
    lengths = {0: 3, 1: 11, 4: 13, 7: 3, 9: 1}
    batches = list(longest_first(lengths, batch_size=64, batch_tokens=12))
    assert batches == [[4], [1], [0, 7, 9]]  # 13 tokens are too many, but alone all the same
    assert list(longest_first(lengths, batch_size=2, batch_tokens=99)) == [[4, 1], [0, 7], [9]]
    assert list(longest_first({}, batch_size=2, batch_tokens=12)) == []
