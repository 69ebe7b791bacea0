"""Subword regularisation of batches: other pieces, the same sentences."""

import itertools
import math
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from seq2seq.batches import BatchShape, NumberedBatch, make_batch, padded_length
from seq2seq.config import DataConfig, TokenizerConfig
from seq2seq.errors import UsageError
from seq2seq.subword_sampling import SubwordSampler, WordSampler, _uniform
from seq2seq.tokenizer import SPACE, TokenizerPair, train_tokenizer

_random = random.Random(0)
_SYLLABLES = ["ba", "ko", "mi", "tur", "sel", "na", "dor", "ple", "gi", "wan", "zu", "fer"]
_WORDS = ["".join(_random.choices(_SYLLABLES, k=_random.randint(3, 5))) for _ in range(300)]
SENTENCES = [" ".join(_random.choices(_WORDS, k=_random.randint(2, 5))) for _ in range(100)]
TARGETS = [" ".join(_random.choices(_WORDS, k=_random.randint(2, 5))) for _ in range(100)]
LONGEST = 64


class Pairs:
    """Sentence pairs as ids."""

    def __init__(self, tokenizers):
        self.ids = {
            side: [np.array([*ids, tokenizer.eos_id]) for ids in tokenizer.encode_batch(texts)]
            for side, tokenizer, texts in (
                ("source", tokenizers.source, SENTENCES),
                ("target", tokenizers.target, TARGETS),
            )
        }
        self.source = self.ids["source"].__getitem__
        self.target = self.ids["target"].__getitem__


class ScriptedTokenizer:
    """A unigram model of pieces with these probabilities."""

    def __init__(self, **probabilities):
        self.names = list(probabilities)
        self.vocabulary_size = len(self.names)
        self.log_probs = {
            piece: (number, math.log(each))
            for number, (piece, each) in enumerate(probabilities.items())
        }

    def unigram_log_probs(self):
        return self.log_probs

    def pieces(self, ids):
        return [self.names[each] for each in ids]


def options(model_type="unigram", **keys):
    return TokenizerConfig(type=model_type, **{"vocabulary_size": 330, **keys})


@pytest.fixture(scope="module")
def tokenizers():
    return TokenizerPair(train_tokenizer(SENTENCES, options()), train_tokenizer(TARGETS, options()))


def data_config(longest=LONGEST):
    return DataConfig(
        train_source="a",
        train_target="b",
        validation_source="c",
        validation_target="d",
        max_source_length=longest,
        max_target_length=longest,
    )


def numbered(tokenizers, *, epoch=0, step=0):
    batch = make_batch(
        Pairs(tokenizers),
        np.arange(len(SENTENCES)),
        BatchShape(len(SENTENCES), LONGEST, LONGEST),
        source_pad_id=tokenizers.source.pad_id,
        target_pad_id=tokenizers.target.pad_id,
    )
    return NumberedBatch(epoch, step, batch)


def sides(batch, tokenizers):
    return (
        (batch.source, batch.source_lengths, tokenizers.source, SENTENCES),
        (batch.target, batch.target_lengths, tokenizers.target, TARGETS),
    )


def test_the_sentences_stay_and_their_pieces_do_not(tokenizers):
    before = numbered(tokenizers, epoch=3, step=4)
    after = SubwordSampler(tokenizers, data_config(), alpha=0.01, seed=1)(before)
    assert (after.epoch, after.step) == (3, 4)
    np.testing.assert_array_equal(after.batch.rows, before.batch.rows)
    for (ids, lengths, tokenizer, texts), (old, *_) in zip(
        sides(after.batch, tokenizers), sides(before.batch, tokenizers), strict=True
    ):
        assert ids.dtype == lengths.dtype == np.int32
        assert ids.shape[1] == padded_length(int(lengths.max()))
        changed = [tuple(a[a > 0]) != tuple(b[b > 0]) for a, b in zip(ids, old, strict=True)]
        assert sum(changed) > 20
        for row, length, text in zip(ids, lengths, texts, strict=True):
            assert tokenizer.decode(row[: length - 1]) == text
            assert row[length - 1] == tokenizer.eos_id
            assert (row[length:] == tokenizer.pad_id).all()


def test_what_is_drawn_is_a_function_of_seed_epoch_and_step(tokenizers):
    def drawn(*, seed=1, epoch=0, step=0):
        sampler = SubwordSampler(tokenizers, data_config(), alpha=0.2, seed=seed)
        batch = sampler(numbered(tokenizers, epoch=epoch, step=step)).batch
        return batch.source.tobytes() + batch.target.tobytes()

    assert drawn() == drawn()
    assert len({drawn(), drawn(seed=2), drawn(epoch=1), drawn(step=1)}) == 4


def test_what_would_be_too_long_keeps_its_best_pieces(tokenizers):
    before = numbered(tokenizers)
    longest = int(max(before.batch.source_lengths.max(), before.batch.target_lengths.max()))
    sampler = SubwordSampler(tokenizers, data_config(longest), alpha=0.1, seed=1)
    after = sampler(before).batch
    assert max(after.source_lengths.max(), after.target_lengths.max()) <= longest
    kept = [
        tuple(new[:length]) == tuple(old[:length])
        for new, old, length in zip(
            after.source, before.batch.source, before.batch.source_lengths, strict=True
        )
    ]
    assert 5 < sum(kept) < len(kept)


def test_a_sentence_with_an_unknown_character_stays_as_it_is():
    tokenizer = train_tokenizer(SENTENCES, options(byte_fallback=False, vocabulary_size=60))
    tokenizers = TokenizerPair(tokenizer, tokenizer)
    batch = numbered(tokenizers).batch
    source = batch.source.copy()
    source[0, 1] = tokenizer.unk_id
    sampler = SubwordSampler(tokenizers, data_config(), alpha=0.2, seed=1)
    after = sampler(NumberedBatch(0, 0, batch._replace(source=source))).batch
    length = batch.source_lengths[0]
    np.testing.assert_array_equal(after.source[0, :length], source[0, :length])
    assert after.source_lengths[0] == length


def test_a_tokenizer_that_cannot_draw_is_refused_at_once(tokenizers):
    letters = train_tokenizer(SENTENCES, options("bpe"))
    with pytest.raises(UsageError, match="needs a tokenizer of type 'unigram'"):
        SubwordSampler(TokenizerPair(tokenizers.source, letters), data_config(), alpha=0.1, seed=1)


def test_ways_are_drawn_by_their_probability_worked_by_hand():
    # "abc" in pieces a .4, b .2, c .1, ab .2, bc .1 is a b c with .4 * .2 * .1 = .008, ab c with
    # .2 * .1 = .02, a bc with .4 * .1 = .04; to the power of .5 these are .0894, .1414 and .2, of
    # which each is 20.76 %, 32.82 % and 46.42 %.
    words = WordSampler(ScriptedTokenizer(a=0.4, b=0.2, c=0.1, ab=0.2, bc=0.1), alpha=0.5)
    random, counts = np.random.default_rng(1), Counter()
    for _ in range(20_000):
        counts[tuple(words.tokenizer.pieces(words.sample([0, 1, 2], iter(random.random(3)))))] += 1
    shares = {"".join(f"{piece} " for piece in way): n / 20_000 for way, n in counts.items()}
    # Five standard deviations are 0.018 at most.
    expected = {"a b c ": 0.2076, "ab c ": 0.3282, "a bc ": 0.4642}
    assert shares == {way: pytest.approx(share, abs=0.018) for way, share in expected.items()}


def test_words_are_cut_by_themselves():
    words = WordSampler(ScriptedTokenizer(**{f"{SPACE}a": 0.4, f"{SPACE}": 0.1, "a": 0.5}), alpha=1)
    ids = [0, 0, 1, 2, 2]  # ▁a ▁a ▁ a a
    for seed in range(20):
        drawn = words.sample(ids, iter(np.random.default_rng(seed).random(20)))
        assert "".join(words.tokenizer.pieces(drawn)) == f"{SPACE}a{SPACE}a{SPACE}aa"


def test_numbers_at_either_end_of_their_range_choose_a_way():
    words = WordSampler(ScriptedTokenizer(a=0.4, b=0.2, ab=0.4), alpha=1.0)
    assert words.sample([0, 1], itertools.repeat(0.0)) in ([0, 1], [2])
    assert words.sample([0, 1], itertools.repeat(1.0)) in ([0, 1], [2])
    assert words.sample([], iter([])) == []


def test_shares_of_a_trained_model_are_those_that_sentencepiece_draws(tokenizers):
    tokenizer, words = tokenizers.source, WordSampler(tokenizers.source, alpha=0.1)
    processor = SentencePieceProcessor(model_proto=tokenizer.model)
    text = max(_WORDS, key=lambda word: len(words._ways(tuple(tokenizer.encode(word)))))
    random = np.random.default_rng(2)
    ours = Counter(
        tuple(words.sample(tokenizer.encode(text), iter(random.random(40)))) for _ in range(8000)
    )
    theirs = Counter(
        map(tuple, processor.encode([text] * 8000, enable_sampling=True, alpha=0.1, nbest_size=-1))
    )
    assert len(theirs) > 3
    for way in ours | theirs:
        # Five standard deviations of the difference of two shares of at most one half.
        assert abs(ours[way] - theirs[way]) / 8000 < 5 * (0.5 / 8000) ** 0.5


def test_a_word_with_bytes_or_an_unknown_character_stays_as_it_is(tokenizers):
    words = WordSampler(tokenizers.source, alpha=0.01)
    text = f"{_WORDS[0]} {_WORDS[1]}\N{SNOWMAN} {_WORDS[2]}"
    ids = tokenizers.source.encode(text)
    place = [words._begins[each] for each in ids].index(True, 1)
    stays = ids[place : [words._begins[each] for each in ids].index(True, place + 1)]
    changed = 0
    for seed in range(20):
        drawn = words.sample(ids, iter(np.random.default_rng(seed).random(99)))
        changed += drawn != ids
        assert tokenizers.source.decode(drawn) == text
        assert any(drawn[i : i + len(stays)] == stays for i in range(len(drawn)))
    assert changed > 5


def test_a_user_symbol_is_always_one_piece():
    symbol = "bako"  # whose letters are pieces of their own, too
    tokenizer = train_tokenizer(SENTENCES, options(user_symbols=[symbol]))
    words = WordSampler(tokenizer, alpha=0.01)
    ids = tokenizer.encode(f"{_WORDS[0]} {symbol} {_WORDS[1]}")
    (place,) = [number for number, each in enumerate(tokenizer.pieces(ids)) if each == symbol]
    changed = 0
    for seed in range(50):
        drawn = words.sample(ids, iter(np.random.default_rng(seed).random(99)))
        changed += drawn != ids
        assert drawn.count(ids[place]) == 1
        assert tokenizer.decode(drawn) == tokenizer.decode(ids)
    assert changed > 5


def test_long_words_are_drawn_alike_and_not_remembered():
    one = {"x": 0.6, "xx": 0.4}
    words, random = WordSampler(ScriptedTokenizer(**one), alpha=1.0), [0.1, 0.9, 0.3] * 9
    for length in (2, 16, 17, 20):
        drawn = words.sample([0] * length, iter(random))
        assert sum(len(words.tokenizer.names[each]) for each in drawn) == length
        assert 1 in drawn
    assert words._ways.cache_info().currsize == 2


def test_another_process_draws_the_same(tokenizers, tmp_path):
    tokenizers.save(tmp_path)
    program = f"""
import itertools
from pathlib import Path
from seq2seq.subword_sampling import WordSampler, _uniform
from seq2seq.tokenizer import SPACE, TokenizerPair
tokenizer = TokenizerPair.load(Path({str(tmp_path)!r})).source
words = WordSampler(tokenizer, alpha=0.05)
print(words.sample(tokenizer.encode({SENTENCES[0]!r}) * 20, _uniform(1, 2, 3)))
"""
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    words = WordSampler(tokenizers.source, alpha=0.05)
    here = words.sample(tokenizers.source.encode(SENTENCES[0]) * 20, _uniform(1, 2, 3))
    assert {run.stdout for run in runs} == {f"{here}\n"}
