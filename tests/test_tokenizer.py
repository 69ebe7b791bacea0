"""SentencePiece behind `Tokenizer`: expected texts and ids come of definitions and round trips."""

import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from seq2seq import tokenizer as module
from seq2seq.config import Config, DataConfig, TokenizerConfig
from seq2seq.errors import DataError, ModelError, StorageError, UsageError
from seq2seq.pairs import Pair
from seq2seq.tokenizer import (
    BOS,
    EOS,
    PAD,
    UNK,
    Tokenizer,
    TokenizerPair,
    prepare_tokenizers,
    train_tokenizer,
    train_tokenizers,
)

TYPES = ["unigram", "bpe", "char", "word"]
SPECIALS = {PAD, UNK, BOS, EOS}
CREATURES = ["dog", "cat", "tree", "child", "painter", "farmer", "sailor", "spider", "goat", "king"]
THINGS = ["river", "bicycle", "ball", "kitchen", "window", "bridge", "candle", "mountain", "letter"]
NOUNS = [*CREATURES, *THINGS, "engine"]
VERBS = ["sees", "likes", "paints", "draws", "follows", "finds", "carries", "forgets", "visits"]
SENTENCES = [f"A {a} {verb} the {b}." for a in NOUNS for verb in VERBS for b in NOUNS[::5]]
TEXTS = ["", "a", "A dog sees the cat.", "xylophone, quickly!", "🙂", "A 🙂 dog 👩‍👩‍👧 here"]
TEXTS += ["ქართული", "עברית"]
LOOKALIKES = "<s> </s> <unk> <pad> a<s>b <0x41> [PAD] </s></s> <S>"


def options_of(model_type="unigram", size=None, **keys):
    size = size or (280 if model_type == "word" else 300)
    return TokenizerConfig(type=model_type, vocabulary_size=size, **keys)


@pytest.fixture(scope="module", params=TYPES)
def tokenizer(request):
    return train_tokenizer(SENTENCES, options_of(request.param))


@pytest.fixture(scope="module")
def unigram():
    return train_tokenizer(SENTENCES, options_of())


@pytest.fixture(scope="module")
def exact():
    return train_tokenizer(SENTENCES, options_of("bpe", normalization="identity"))


def foreign_model(**keys):
    """A model trained by SentencePiece's own defaults: unk 0, begin 1, end 2, no padding."""
    model = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=60,
        minloglevel=3,
        **keys,
    )
    return model.getvalue()


def unigram_model(probabilities):
    """A unigram model of these pieces alone, without a mark for spaces."""
    model = ModelProto()
    model.ParseFromString(foreign_model())
    kept = [piece for piece in model.pieces if piece.type != ModelProto.SentencePiece.NORMAL]
    del model.pieces[:]
    model.pieces.extend(kept)
    for piece, probability in probabilities.items():
        model.pieces.add(piece=piece, score=math.log(probability))
    model.normalizer_spec.add_dummy_prefix = False
    return model.SerializeToString()


def test_trained_models_have_the_special_ids(tokenizer):
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id)
    assert ids == (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert tokenizer.pieces([0, 1, 2, 3]) == ["<pad>", "<unk>", "<s>", "</s>"]


def test_no_character_of_unicode_is_unknown_or_special(tokenizer):
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["x".join(characters[i : i + 64]) for i in range(0, len(characters), 64)]
    found = {number for ids in tokenizer.encode_batch(texts) for number in ids}
    assert not found & SPECIALS
    assert max(found) < tokenizer.vocabulary_size


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text_comes_back_even_with_characters_never_seen(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words_with_no_piece_come_back_with_their_spaces():
    # The model of words writes an unknown word in bytes, and the space before it too.
    tokenizer = train_tokenizer(SENTENCES, options_of("word"))
    ids = tokenizer.encode("unseen words everywhere")
    assert "<0xE2>" in tokenizer.pieces(ids)
    assert tokenizer.decode(ids) == "unseen words everywhere"


WORDS = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="\u2581"),
    min_size=1,
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, max_size=5).map(" ".join))
def test_any_spaced_text_comes_back_without_normalization(exact, text):
    assert exact.decode(exact.encode(text)) == text


def test_text_like_special_pieces_is_text(tokenizer):
    ids = tokenizer.encode(LOOKALIKES)
    assert not SPECIALS & set(ids)
    assert tokenizer.decode(ids) == LOOKALIKES


@pytest.mark.parametrize("model_type", TYPES)
def test_training_text_like_special_pieces_is_text(model_type):
    sentences = SENTENCES + [f"{LOOKALIKES} {word}" for word in NOUNS * 20]
    tokenizer = train_tokenizer(sentences, options_of(model_type))
    ids = tokenizer.encode(LOOKALIKES)
    assert not SPECIALS & set(ids)
    assert tokenizer.decode(ids) == LOOKALIKES
    assert tokenizer.pieces([0, 1, 2, 3]) == ["<pad>", "<unk>", "<s>", "</s>"]


def test_blank_text_has_no_ids(tokenizer):
    assert tokenizer.encode_batch(["", "  \t ", "\u00a0\u3000\u200b"]) == [[], [], []]
    assert tokenizer.decode([]) == ""


def test_characters_that_break_lines_are_spaces(tokenizer):
    broken = "A dog\nsees\u2028the\r\n\x85cat.\0"
    assert tokenizer.encode(broken) == tokenizer.encode("A dog sees the cat.")


def test_nmt_nfkc_makes_equal_what_looks_equal(unigram):
    assert unigram.encode("\ufb01nd\u00a0the \uff43\uff41\uff54") == unigram.encode("find the cat")
    folded = train_tokenizer(SENTENCES, options_of(normalization="nmt_nfkc_cf"))
    assert folded.encode("A DOG") == folded.encode("a dog")


BYTE_TEXTS = ["\n", "\r", "\0", "\t", "\x85", "\u2028", "\u2029", "\x1c"]


@pytest.mark.parametrize("character", BYTE_TEXTS, ids=ascii)
def test_decoding_gives_one_line_whatever_bytes_are_generated(unigram, character):
    pieces = unigram.pieces(range(unigram.vocabulary_size))
    spelled = [pieces.index(f"<0x{byte:02X}>") for byte in character.encode()]
    dog = unigram.encode("dog")
    assert unigram.decode(dog + spelled + dog) == "dog  dog"  # one space is that of the second dog


def test_half_a_character_in_bytes_is_decoded_as_the_replacement(unigram):
    lead = unigram.pieces(range(unigram.vocabulary_size)).index("<0xC3>")
    assert unigram.decode([lead]) == "\ufffd"


def test_decoding_passes_over_padding_begin_and_end(unigram):
    dog, cat = unigram.encode("A dog"), unigram.encode("sees")
    assert unigram.decode([BOS, *dog, PAD, *cat, EOS, EOS, PAD]) == "A dog sees"


def test_decoding_takes_numpy_ids(unigram):
    ids = unigram.encode("A dog")
    assert unigram.decode(np.array([BOS, *ids, EOS], np.int32)) == "A dog"
    assert unigram.pieces(np.array(ids, np.int64)) == unigram.pieces(ids)


def test_pieces_spell_the_text_with_marks_for_spaces(unigram):
    assert "".join(unigram.pieces(unigram.encode("A dog sees"))) == "▁A▁dog▁sees"


def test_a_batch_is_its_texts_one_by_one(tokenizer):
    texts = TEXTS + SENTENCES[:50]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch([]) == []


def test_threads_may_share_a_tokenizer(unigram):
    expected = [unigram.encode(text) for text in SENTENCES]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(unigram.encode, SENTENCES))
        decoded = list(threads.map(unigram.decode, found))
    assert found == expected
    assert decoded == SENTENCES


def test_a_lone_surrogate_is_refused_with_its_place(unigram):
    with pytest.raises(DataError, match=r"text 2: lone surrogate U\+D83D at character 3; expected"):
        unigram.encode_batch(["fine 🙂", "ab\ud83d"])
    with pytest.raises(DataError, match=r"text 1: lone surrogate U\+DE42 at character 1; expected"):
        unigram.encode("\ude42")


SYMBOLS = ["<mask>", "@@", "ß,ß"]


@pytest.mark.parametrize("model_type", TYPES)
def test_user_symbols_stay_whole(model_type):
    made = train_tokenizer(SENTENCES, options_of(model_type, user_symbols=SYMBOLS))
    text = "A <mask> sees @@ ß,ß the cat."
    pieces = [piece.removeprefix("▁") for piece in made.pieces(made.encode(text))]
    assert [piece for piece in pieces if piece in SYMBOLS] == SYMBOLS
    assert made.decode(made.encode(text)) == text


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (["<s>"], "got '<s>'; it is a special piece"),
        (["ok", "</s>"], "got '</s>'; it is a special piece"),
        (["<0x0A>"], "got '<0x0A>'; it is a special piece"),
        ([""], "got ''; expected characters, and no spaces"),
        (["a b"], "got 'a b'; expected characters, and no spaces"),
        (["\n"], r"got '\\n'; expected characters, and no spaces"),
        (["▁x"], "got '▁x'; expected characters, and no spaces"),
        (["x", "y", "x"], "got 'x'; it is there twice"),
    ],
)
def test_user_symbols_that_cannot_work_are_refused(symbols, message):
    with pytest.raises(UsageError, match=rf"^tokenizer\.user_symbols: {message}"):
        train_tokenizer(SENTENCES, options_of(user_symbols=symbols))


def test_without_byte_fallback_what_was_never_seen_is_unknown():
    made = train_tokenizer(SENTENCES, options_of(size=40, byte_fallback=False))
    assert made.encode("🙂")[-1] == made.unk_id == UNK
    assert "<0x0A>" not in made.pieces(range(made.vocabulary_size))


def test_what_was_never_seen_is_unknown_also_where_it_is_spelled_in_bytes():
    with_bytes = train_tokenizer(SENTENCES, options_of())
    without = train_tokenizer(SENTENCES, options_of(size=40, byte_fallback=False))
    # A dog, a space, and the four bytes of a character.
    unknown = [number in with_bytes.unknown_ids for number in with_bytes.encode("A dog 🙂")]
    assert unknown[-4:] == [True] * 4
    assert not any(unknown[:-4])
    assert len(with_bytes.unknown_ids) == 256 + 1
    assert without.unknown_ids == {UNK}


PROGRAM = """
import hashlib, sys
from seq2seq.config import TokenizerConfig
from seq2seq.tokenizer import train_tokenizer
sentences = sys.stdin.buffer.read().decode("utf-8").split("\\n")
options = TokenizerConfig(type=sys.argv[1], vocabulary_size=int(sys.argv[2]))
print(train_tokenizer(sentences, options).fingerprint)
"""


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_the_same_text_gives_the_same_model_in_any_process(model_type):
    models = [train_tokenizer(SENTENCES, options_of(model_type)) for _ in range(2)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, model_type, "300"],
        input="\n".join(SENTENCES).encode(),
        env=os.environ | {"PYTHONHASHSEED": "7"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        check=True,
    )
    assert models[0].model == models[1].model
    assert done.stdout.decode().split() == [models[0].fingerprint]
    assert done.stderr == b""


def test_a_large_corpus_is_sampled_evenly_and_the_same_every_time(monkeypatch):
    monkeypatch.setattr(module, "_SAMPLE_SENTENCES", 100)
    # The k-th letter of this alphabet is in the k-th tenth of the pairs only.
    letters = "abcdefghij"
    pairs = [Pair(0, letter, letter) for letter in letters for _ in range(100)]
    options = options_of("char", 300)
    made = [train_tokenizers(iter(pairs), options).source for _ in range(2)]
    assert made[0].model == made[1].model
    # All letters are there: a tenth without one of the 100 has a chance of 10 * 0.9 ** 100.
    assert set(letters) <= set(made[0].pieces(range(made[0].vocabulary_size)))


def test_the_sample_is_no_larger_than_wanted_and_each_has_the_same_chance():
    sample = module._Sample(200)
    for number in range(2000):
        sample.add(str(number))
    assert len(sample.sentences) == len(set(sample.sentences)) == 200
    halves = [sum(int(text) // 1000 == half for text in sample.sentences) for half in (0, 1)]
    assert min(halves) > 70  # 100 each, give or take; 4 standard deviations are 27


def test_a_sentence_too_long_for_sentencepiece_is_learned_from():
    made = train_tokenizer(["🙂" * 5000], options_of("char", 262))
    assert "🙂" in made.pieces(range(made.vocabulary_size))


def test_a_sentence_with_a_reserved_character_is_learned_from():
    made = train_tokenizer(["ab▅cd"], options_of("char", 300))
    assert set("abcd") <= set(made.pieces(range(made.vocabulary_size)))
    assert made.decode(made.encode("ab▅cd")) == "ab▅cd"


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "word"])
def test_too_large_a_vocabulary_names_the_largest_which_then_works(model_type):
    message = r"^tokenizer\.vocabulary_size: got 9000, but \d+ is the largest possible with the tra"
    with pytest.raises(UsageError, match=message) as caught:
        train_tokenizer(SENTENCES, options_of(model_type, 9000))
    largest = int(re.search(r"but (\d+)", str(caught.value))[1])
    assert train_tokenizer(SENTENCES, options_of(model_type, largest)).vocabulary_size == largest
    with pytest.raises(UsageError, match=f"but {largest} is the largest"):
        train_tokenizer(SENTENCES, options_of(model_type, largest + 1))


def test_a_model_of_characters_is_as_large_as_there_are_characters():
    made = train_tokenizer(["abc", "cab"], options_of("char", 9000))
    # special pieces, bytes, the letters, and the mark for a space
    assert made.vocabulary_size == 4 + 256 + 3 + 1


@pytest.mark.parametrize("model_type", TYPES)
def test_too_small_a_vocabulary_names_the_smallest_which_then_works(model_type):
    message = r"^tokenizer\.vocabulary_size: got 9, but \d+ is the smallest possible"
    with pytest.raises(UsageError, match=message) as caught:
        train_tokenizer(SENTENCES, options_of(model_type, 9, user_symbols=["@@"]))
    smallest = int(re.search(r"but (\d+)", str(caught.value))[1])
    options = options_of(model_type, smallest, user_symbols=["@@"])
    assert train_tokenizer(SENTENCES, options).vocabulary_size == smallest


@pytest.mark.parametrize("sentences", [[], [""], ["  ", "\u3000"], ["\u200b"]])
def test_no_text_to_train_on_is_a_data_error(sentences):
    with pytest.raises(DataError, match="the training text has no characters to make a tokenizer"):
        train_tokenizer(sentences, options_of())


def test_what_else_sentencepiece_refuses_is_one_line(monkeypatch):
    def refuse(**_):
        raise RuntimeError("INTERNAL: src/x.cc(1) [ok]\n\nodd  reason")

    monkeypatch.setattr(SentencePieceTrainer, "train", refuse)
    message = r"cannot train with these settings: src/x\.cc\(1\) \[ok\] odd reason$"
    with pytest.raises(UsageError, match=message):
        train_tokenizer(SENTENCES, options_of())


def test_sentencepiece_prints_nothing(capfd):
    made = train_tokenizer(SENTENCES, options_of())
    with pytest.raises(UsageError):
        train_tokenizer(SENTENCES, options_of(size=9000))
    with pytest.raises(DataError):
        train_tokenizer([], options_of())
    for content in (b"", b"garbage", b"x" * 1000):
        with pytest.raises(ModelError):
            Tokenizer(content)
    made.decode(made.encode("🙂 \ufffd"))
    assert capfd.readouterr() == ("", "")


# Loading and saving.


def test_a_model_trained_elsewhere_keeps_its_ids(tmp_path):
    (tmp_path / "foreign.model").write_bytes(foreign_model())
    loaded = Tokenizer.load(tmp_path / "foreign.model")
    assert (loaded.unk_id, loaded.bos_id, loaded.eos_id) == (0, 1, 2)
    assert loaded.pad_id == loaded.eos_id  # it has no padding
    assert loaded.decode([1, *loaded.encode("A dog"), 2, 2]) == "A dog"


@pytest.mark.parametrize(("missing", "word"), [("bos_id", "beginning"), ("eos_id", "end")])
def test_a_model_without_begin_or_end_is_refused(tmp_path, missing, word):
    (tmp_path / "bare.model").write_bytes(foreign_model(**{missing: -1}))
    message = rf"bare\.model: has no piece for the {word} of a sentence; expected"
    with pytest.raises(ModelError, match=message):
        Tokenizer.load(tmp_path / "bare.model")


@pytest.mark.parametrize("content", [b"", b"text", bytes(range(256))])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "a.model").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.model: not a SentencePiece model, or damaged"):
        Tokenizer.load(tmp_path / "a.model")


def test_a_missing_model_file_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"no\.model: cannot be read: No such file"):
        Tokenizer.load(tmp_path / "no.model")
    with pytest.raises(StorageError, match=rf"{tmp_path.name}: cannot be read: Is a directory"):
        Tokenizer.load(tmp_path)


def test_a_saved_pair_loads_as_it_was_joint_or_separate(tmp_path, unigram):
    other = Tokenizer(foreign_model())
    for pair, files in (
        (TokenizerPair(unigram, other), ["source.model", "target.model"]),
        (TokenizerPair(unigram, unigram), ["joint.model"]),
        (TokenizerPair(other, unigram), ["source.model", "target.model"]),
    ):
        pair.save(tmp_path / "tokenizer")  # over what was saved before
        assert sorted(path.name for path in (tmp_path / "tokenizer").iterdir()) == files
        loaded = TokenizerPair.load(tmp_path / "tokenizer")
        assert (loaded.source.model, loaded.target.model) == (pair.source.model, pair.target.model)
        assert loaded.joint == pair.joint == (len(files) == 1)


def test_a_folder_without_models_tells_what_is_missing(tmp_path, unigram):
    message = r": no tokenizer: expected joint\.model, or source\.model and target\.model, but"
    with pytest.raises(ModelError, match=message + r" there is no source\.model"):
        TokenizerPair.load(tmp_path)
    (tmp_path / "source.model").write_bytes(unigram.model)
    with pytest.raises(ModelError, match=message + r" there is no target\.model"):
        TokenizerPair.load(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path, unigram):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="tokenizer: cannot be written: Not a directory"):
        TokenizerPair(unigram, unigram).save(tmp_path / "file" / "tokenizer")


# From a configuration.


def config_of(folder, source, target, **tokenizer):
    (folder / "train.en").write_text(source, encoding="utf-8")
    (folder / "train.de").write_text(target, encoding="utf-8")
    return Config(
        data=DataConfig(
            train_source=[folder / "train.en"],
            train_target=[folder / "train.de"],
            validation_source=folder / "train.en",
            validation_target=folder / "train.de",
        ),
        tokenizer=TokenizerConfig(**tokenizer),
    )


def alphabet(tokenizer):
    pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
    return "".join(sorted(piece for piece in pieces if len(piece) == 1 and piece != "▁"))


def test_a_joint_model_is_trained_on_both_sides_and_blank_pairs_are_skipped(tmp_path):
    config = config_of(tmp_path, "ab\n\nq\n", "cd\nxyz\n\n", type="char")
    pair = prepare_tokenizers(config)
    assert pair.joint
    assert alphabet(pair.source) == "abcd"


def test_separate_models_are_trained_on_a_side_each(tmp_path):
    config = config_of(tmp_path, "ab\n\nq\n", "cd\nxyz\n\n", type="char", joint=False)
    pair = prepare_tokenizers(config)
    assert not pair.joint
    assert (alphabet(pair.source), alphabet(pair.target)) == ("ab", "cd")


def test_messages_tell_the_side_where_models_are_separate(tmp_path):
    lines = "\n".join(SENTENCES)
    config = config_of(tmp_path, lines, "x\n" * len(SENTENCES), vocabulary_size=300, joint=False)
    with pytest.raises(UsageError, match="is the largest possible with the target text"):
        prepare_tokenizers(config)


def test_a_faulty_corpus_is_found_before_training(tmp_path):
    config = config_of(tmp_path, "a\nb\n", "A\n")
    with pytest.raises(DataError, match=r"train\.en: 2 lines, but .*train\.de: 1;"):
        prepare_tokenizers(config)


def test_named_models_are_loaded_and_the_training_text_is_not_read(tmp_path, unigram):
    source, target = tmp_path / "s.model", tmp_path / "t.model"
    source.write_bytes(unigram.model)
    target.write_bytes(foreign_model())
    joint = prepare_tokenizers(config_of(tmp_path, "", "", source_model=source))
    assert joint.joint
    assert joint.source.model == unigram.model
    separate = prepare_tokenizers(
        config_of(tmp_path, "", "", source_model=source, target_model=target)
    )
    assert not separate.joint
    assert separate.target.model == target.read_bytes()


def test_the_log_probabilities_of_a_unigram_model_by_piece():
    found = Tokenizer(unigram_model({"ab": 0.5, "a": 0.3, "b": 0.2})).unigram_log_probs()
    assert found == {
        "ab": (3, pytest.approx(math.log(0.5))),
        "a": (4, pytest.approx(math.log(0.3))),
        "b": (5, pytest.approx(math.log(0.2))),
    }  # nothing of <unk>, <s> and </s>, which are 0 to 2


@pytest.mark.parametrize("model_type", ["bpe", "char", "word"])
def test_other_models_have_no_log_probabilities(model_type):
    tokenizer = train_tokenizer(SENTENCES, options_of(model_type))
    with pytest.raises(UsageError, match=r"^training\.subword_sampling: needs a tokenizer of type"):
        tokenizer.unigram_log_probs()
