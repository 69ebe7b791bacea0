"""Text to ids and back. Expected ids are counted by hand, texts are those that went in."""

import json
import time
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer

from seq2seq.config import TextTokenizerConfig
from seq2seq.errors import DataError, ModelError, StorageError, UsageError
from seq2seq.text_tokenizer import (
    CharacterTokenizer,
    PieceTokenizer,
    WordTokenizer,
    load_text_tokenizer,
    make_text_tokenizer,
)
from seq2seq.tokenizer import Tokenizer

TYPES = ["character", "word", "unigram", "bpe"]
FILES = ["characters.json", "words.json", "pieces.model", "pieces.model"]
# All that text can have and a careless reader or writer changes.
WEIRD = (
    "  two  spaces \n\n\ttab\t\r\n\u2028\u2029\x85\x0b e\u0301 é 👩\u200d👩\u200d👧 \ufeff\x01\n \n"
)
WEIRD += "▁mark▁▁ ▅ <s></s><unk> <0x41> \ufffd \U0010ffff \x7f\xa0\u3000end  "
NOUNS = ["dog", "cat", "tree", "child", "painter", "farmer", "sailor", "spider", "goat", "king"]
SENTENCES = [f"A {a} sees the {b}, too!\n" for a in NOUNS for b in NOUNS]
TEXT = "".join(SENTENCES) + "The cat\n" + WEIRD


def options_of(kind, size=None):
    return TextTokenizerConfig(type=kind, vocabulary_size=size)


def made(kind, text=TEXT):
    size = 312 if kind in ("unigram", "bpe") else None
    return make_text_tokenizer(options_of(kind, size), text)


@pytest.fixture(scope="module", params=TYPES)
def tokenizer(request):
    return made(request.param)


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def pieces(request):
    return made(request.param)


# What every tokenizer does.


def test_known_text_comes_back_exactly(tokenizer):
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.unknown(TEXT) == []
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert 0 <= ids.min() <= ids.max() < tokenizer.vocabulary_size


def test_no_text_has_no_ids(tokenizer):
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.encode("").dtype == np.int32
    assert tokenizer.decode([]) == ""


def test_decoding_takes_lists_and_arrays_of_any_integers(tokenizer):
    ids = tokenizer.encode("The cat\n")
    assert tokenizer.decode(ids.tolist()) == tokenizer.decode(ids.astype(np.uint16)) == "The cat\n"


def test_the_newline_has_the_id_that_is_promised(tokenizer):
    assert tokenizer.encode("\n").tolist() == [tokenizer.newline_id]


def test_a_saved_tokenizer_loads_as_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer")
    loaded = load_text_tokenizer(tmp_path / "tokenizer")
    assert type(loaded) is type(tokenizer)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.vocabulary_size == tokenizer.vocabulary_size
    assert (loaded.newline_id, loaded.unknown_id) == (tokenizer.newline_id, tokenizer.unknown_id)
    assert loaded.decode(loaded.encode(TEXT)) == TEXT
    assert loaded.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_saving_removes_a_tokenizer_of_another_kind(tmp_path):
    for kind, name in zip(TYPES, FILES, strict=True):
        made(kind).save(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", TYPES)
def test_the_fingerprint_follows_kind_and_symbols(kind):
    assert made(kind).fingerprint == made(kind).fingerprint
    assert made(kind).fingerprint != made(kind, TEXT + "qqq\n" * 50).fingerprint
    same = "a b\n"  # the symbols of which are its characters
    assert made("character", same).fingerprint != made("word", same).fingerprint


def test_no_text_to_make_a_tokenizer_of_is_a_data_error():
    for kind in TYPES:
        with pytest.raises(DataError, match="the training text is empty: expected text to make a"):
            made(kind, "")
    with pytest.raises(DataError, match="the training text has no characters to make a tokenizer"):
        made("unigram", "\n\n")


# Characters and words.


def test_frequent_characters_come_first_and_equals_by_code_point():
    # b three times; \n and a twice; A, z and é once
    found = made("character", "bab\nzéA\nab")
    assert found.encode("b\naAzé").tolist() == [1, 2, 3, 4, 5, 6]
    assert found.vocabulary_size == 7
    assert found.newline_id == 2


def test_a_word_is_a_run_of_letters_or_spaces_or_one_character():
    text = "don't  stop -- naïve_2\tx\n\n"
    symbols = ["don", "'", "t", "  ", "stop", " ", "-", "-", " ", "naïve_2", "\t", "x", "\n", "\n"]
    assert list(WordTokenizer.split(text)) == symbols


def test_the_most_frequent_words_are_kept():
    # spaces four times, b and c twice, a once: of 4 ids one is for unknown words
    found = make_text_tokenizer(options_of("word", 4), "c b a b c")
    assert found.vocabulary_size == 4
    assert found.encode("a b c d").tolist() == [0, 1, 2, 1, 3, 1, 0]
    assert found.decode([0, 1, 2]) == "\ufffd b"
    assert found.unknown("d a b d a") == ["d", "a"]


@pytest.mark.parametrize("kind", ["character", "word"])
def test_unknown_symbols_are_mapped_and_listed_once_in_order(kind):
    found = made(kind, "a b\n")
    assert found.unknown_id == 0
    assert found.encode("a 🙂 é 🙂 b").tolist().count(0) == 3
    assert found.decode(found.encode("a🙂b")) == "a\ufffdb"
    assert found.unknown("a 🙂 é 🙂 b") == ["🙂", "é"]


@pytest.mark.parametrize("kind", ["character", "word"])
def test_a_lone_surrogate_of_a_command_line_is_unknown(kind):
    assert made(kind, "a b\n").encode("a\udcff").tolist()[-1] == 0


@pytest.mark.parametrize("kind", ["character", "word"])
def test_the_replacement_character_can_be_known_and_is_not_unknown_then(kind):
    found = made(kind, "a\ufffda")
    assert found.encode("a\ufffd").tolist() == [1, 2]
    assert found.unknown("\ufffd") == []


@pytest.mark.parametrize("kind", ["character", "word"])
def test_without_a_newline_the_most_frequent_symbol_stands_at_the_beginning(kind):
    found = made(kind, "a - a - b")
    assert found.decode([found.newline_id]) == " "


def test_words_encode_as_a_search_symbol_by_symbol():
    words = made("word")
    ids = {symbol: number for number, symbol in enumerate(words._symbols) if number}
    assert words.encode(TEXT).tolist() == [ids[symbol] for symbol in WordTokenizer.split(TEXT)]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_comes_back_from_its_own_symbols(tmp_path_factory, text):
    for kind in ("character", "word"):
        folder = tmp_path_factory.mktemp("tokenizer")
        made(kind, text).save(folder)
        loaded = load_text_tokenizer(folder)
        assert loaded.decode(loaded.encode(text)) == text


def test_the_file_is_a_list_by_id_in_ascii(tmp_path):
    made("character", "\u2028e\u0301\u2028🙂\u2028\n\n").save(tmp_path)
    content = (tmp_path / "characters.json").read_bytes()
    assert content.isascii()
    assert json.loads(content) == [None, "\u2028", "\n", "e", "\u0301", "🙂"]


def test_two_million_characters_are_encoded_in_a_moment():
    text = "The quick brown fox, \n" * 90_000
    found = made("character", text)
    start = time.process_time()
    found.encode(text)
    assert time.process_time() - start < 1  # 0.03 s; symbol by symbol it would be that, too


# Pieces.


def test_pieces_write_everything_and_know_no_unknown(pieces):
    text = "ქართული עברית 𝄞 \t  \r\n\n\n" + "".join(map(chr, range(1, 0x250)))
    assert pieces.unknown_id is None
    assert pieces.unknown(text) == []
    assert pieces.decode(pieces.encode(text)) == text


@given(st.text(st.sampled_from(" \n\t▁aT e\u0301é\u2028\r\0▅<s>/")))
def test_pieces_of_any_mixture_come_back(text):
    tokenizer = SHARED.setdefault("bpe", made("bpe"))
    assert tokenizer.decode(tokenizer.encode(text)) == text


SHARED: dict[str, PieceTokenizer] = {}


def test_spaces_come_back_from_a_model_of_text_without_any():
    tokenizer = make_text_tokenizer(options_of("bpe", 264), "abcab\nbca\n" * 9)
    text = " a  b ▁c\n "
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_pieces_begin_no_line_with_a_space_that_is_not_there(pieces):
    assert pieces.encode("The cat\n").tolist()[-1] == pieces.newline_id
    assert pieces.decode(pieces.encode("The")) == "The"
    assert pieces.encode(" The").tolist() != pieces.encode("The").tolist()


def test_half_a_character_is_shown_as_the_replacement(pieces):
    ids = pieces.encode("🙂")
    assert pieces.decode(ids) == "🙂"
    assert pieces.decode(ids[:-1]) == "\ufffd"


def test_what_stands_for_no_text_decodes_to_none(pieces):
    assert pieces.decode([0, 2]) == ""  # padding, beginning
    assert pieces.decode([1]) == "\ufffd"  # unknown, which a network may yet write


def test_long_lines_are_learned_from_to_their_end():
    # The only x is in the third thousand characters of the one line.
    found = make_text_tokenizer(options_of("bpe", 265), "ab ab " * 400 + "x")
    assert len(found.encode("x")) == 1
    assert found._model.id_of("x") is not None


def test_pieces_refuse_a_lone_surrogate(pieces):
    with pytest.raises(DataError, match=r"lone surrogate U\+DCFF at character 2"):
        pieces.encode("a\udcff")


def test_too_many_or_too_few_pieces_are_refused_in_words_of_the_configuration():
    with pytest.raises(
        UsageError, match=r"^tokenizer\.vocabulary_size: got 8000, but \d+ is the l"
    ):
        make_text_tokenizer(options_of("bpe"), TEXT)
    with pytest.raises(UsageError, match=r"got 262, but \d+ is the smallest .* a piece; raise it$"):
        make_text_tokenizer(options_of("bpe", 262), TEXT)


# Loading what is not there, or damaged.


def test_a_folder_without_a_tokenizer_tells_what_is_expected(tmp_path):
    message = r": no tokenizer: expected characters\.json, words\.json or pieces\.model$"
    with pytest.raises(ModelError, match=message):
        load_text_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "damaged: Expecting value"),
        (b'[null, "a"', "damaged: Expecting"),
        (b"\xff\xfe\xfa", "damaged: 'utf"),
        (b'{"a": 1}', "damaged: expected null and one symbol or more, in a list"),
        (b"[null]", "expected null and one symbol or more"),
        (b'["a", "b"]', "expected null and one symbol or more"),
        (b'[null, "a", 7]', "id 2 is 7, which is no symbol"),
        (b'[null, "a", ""]', "id 2 is '', which is no symbol"),
        (b'[null, "a", "b", "a"]', "a symbol is there twice"),
    ],
)
@pytest.mark.parametrize("name", ["characters.json", "words.json"])
def test_a_damaged_list_of_symbols_is_refused(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: not a list of symbols, or damaged: .*") as err:
        load_text_tokenizer(tmp_path)
    assert why in str(err.value)
    assert "\n" not in str(err.value)


def test_a_word_is_no_character(tmp_path):
    (tmp_path / "characters.json").write_text('[null, "ab"]')
    with pytest.raises(ModelError, match=r"characters\.json: .* id 1 is 'ab', which is no symbol"):
        load_text_tokenizer(tmp_path)


def test_damaged_pieces_are_refused(tmp_path):
    (tmp_path / "pieces.model").write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"pieces\.model: not a SentencePiece model, or damaged"):
        load_text_tokenizer(tmp_path)


def test_pieces_without_bytes_are_refused(tmp_path):
    model = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"]), model_writer=model, model_type="char", minloglevel=3
    )
    (tmp_path / "pieces.model").write_bytes(Tokenizer(model.getvalue()).model)
    with pytest.raises(ModelError, match=r"pieces\.model: has no pieces for bytes; expected byte"):
        load_text_tokenizer(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    for kind in ("character", "unigram"):
        with pytest.raises(StorageError, match="tokenizer: cannot be written: Not a directory"):
            made(kind).save(tmp_path / "file" / "tokenizer")


def test_a_character_tokenizer_is_made_of_its_symbols():
    assert CharacterTokenizer(["b", "a"]).encode("abc").tolist() == [2, 1, 0]
