"""A translator in one graph says what the translator in Python says, whatever the text."""

import random
import re
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from model_fixtures import SENTENCES

from seq2seq.config import TokenizerConfig
from seq2seq.lines import LINE_BREAKING
from seq2seq.search_options import search_options
from seq2seq.tokenizer import Tokenizer, train_tokenizer
from seq2seq.translation_graph import _BLANK, TranslationGraph, _GraphTokenizer
from seq2seq.translator import Translator

TEXTS = [*SENTENCES, "a dog", "birds", "a"]
OPTIONS = {"greedy": {"beam_size": 1}, "beam": {"beam_size": 3, "length_penalty": 0.3}}


@pytest.fixture(scope="module")
def graph(translator: Translator) -> TranslationGraph:
    # Batches so small that most calls need several, of sentences and of pieces.
    searches = {
        name: search_options(translator.config.decoding, **each, batch_size=4, batch_tokens=70)
        for name, each in OPTIONS.items()
    }
    return TranslationGraph(translator, searches)


def said(graph: TranslationGraph, texts: Sequence[str | bytes], name: str) -> list[str]:
    found = graph.functions[name](tf.constant(texts, tf.string))
    return [text.decode("utf-8") for text in found["text"].numpy()]


def expected(translator: Translator, texts: Sequence[str], name: str) -> list[str]:
    return [each.text for each in translator.translate(texts, **OPTIONS[name])]


@pytest.mark.parametrize("name", OPTIONS)
def test_texts_and_scores_are_the_translators(graph, translator, name):
    found = graph.functions[name](tf.constant(TEXTS))
    translations = translator.translate(TEXTS, **OPTIONS[name])
    assert [text.decode() for text in found["text"].numpy()] == [each.text for each in translations]
    np.testing.assert_allclose(found["score"], [each.score for each in translations], atol=1e-4)
    assert len({each.text for each in translations}) > len(TEXTS) // 2


def test_a_text_has_the_same_translation_alone(graph):
    assert [said(graph, [text], "beam")[0] for text in TEXTS] == said(graph, TEXTS, "beam")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("two\tbirds\x00sing\r\n", id="control characters"),
        pytest.param("two\u2028birds\x85sing\u2029", id="line breaks of Unicode"),
        pytest.param("  two   birds  sing ", id="spaces"),
        pytest.param("\ufb01re \u2460 \uff41 do\u0301g", id="compatibility forms"),
        pytest.param("\u2581two\u2581birds", id="SentencePiece's mark of a space"),
        pytest.param("\ufefftwo birds", id="byte order mark"),
        pytest.param("</s> <unk> <0x41>", id="looks like special pieces"),
        pytest.param("\U0001f600 \u4e00 \u0416", id="characters never seen"),
        pytest.param("\x01", id="nothing is left of it"),
        pytest.param("a dog sings " * 834, id="10,000 characters"),
    ],
)
def test_a_text_is_read_as_the_translator_reads_it(graph, translator, text):
    texts = ["a dog", text, "birds"]
    for name in OPTIONS:
        assert said(graph, texts, name) == expected(translator, texts, name)


@pytest.mark.parametrize("texts", [["", " ", "\t\u3000\xa0", "\x1c\u2028"], ["", "a dog", "\n"]])
def test_blank_texts_have_the_empty_translation_and_no_score(graph, texts):
    found = graph.functions["beam"](tf.constant(texts))
    for text, translation, score in zip(texts, found["text"], found["score"], strict=True):
        assert (translation == b"" and score == 0.0) == (text != "a dog")


def test_no_texts_have_no_translations(graph):
    found = graph.functions["greedy"](tf.constant([], tf.string))
    assert (found["text"].shape, found["score"].shape) == ((0,), (0,))


@pytest.mark.parametrize("raw", [b"a \xff dog", b"\xe2\x82", b"bird\xc3 sings", b"\xf0\x9f\x98 a"])
def test_bytes_that_are_not_utf_8_are_read_as_replacement_characters(graph, translator, raw):
    texts = [raw.decode("utf-8", "replace"), "a dog"]
    assert "\ufffd" in texts[0]
    assert said(graph, [raw, "a dog"], "beam") == expected(translator, texts, "beam")


@pytest.mark.parametrize("texts", [tf.constant("a dog"), tf.constant([["a dog"]])])
def test_texts_of_another_rank_are_refused(graph, texts):
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError), match=r"shape|dimension|rank"):
        graph.functions["greedy"](texts)


def test_a_greatest_length_cuts_translations(translator):
    options = search_options(translator.config.decoding, beam_size=1, max_length=3)
    graph = TranslationGraph(translator, {"greedy": options})
    translations = translator.translate(TEXTS, beam_size=1, max_length=3)
    assert any(each.truncated for each in translations)
    assert said(graph, TEXTS, "greedy") == [each.text for each in translations]


def test_nothing_in_it_needs_xla_or_another_device(graph):
    for function in graph.functions.values():
        definition = function.graph.as_graph_def()
        assert len(definition.library.function) > 3
        for each in definition.library.function:
            assert not each.attr["_XlaMustCompile"].b
            assert {node.device for node in each.node_def} == {""}


def test_separate_tokenizers_read_the_source_and_write_the_target(translator):
    config = TokenizerConfig(vocabulary_size=40, type="char", byte_fallback=False)
    other = train_tokenizer([text[::-1].replace("a", "o") for text in SENTENCES], config)
    source = Tokenizer(other.model)
    pair = type(translator.tokenizers)(source, translator.tokenizers.target)
    mixed = Translator(translator.config, pair, translator.models[0])
    options = search_options(mixed.config.decoding, **OPTIONS["greedy"])
    found = said(TranslationGraph(mixed, {"greedy": options}), TEXTS, "greedy")
    assert found == expected(mixed, TEXTS, "greedy") != expected(translator, TEXTS, "greedy")


# --- text to ids and back -------------------------------------------------------------------------

TYPES = ["unigram", "bpe", "char", "word"]


@pytest.fixture(scope="module", params=[(kind, fallback) for kind in TYPES for fallback in (1, 0)])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    kind, fallback = request.param
    sizes = {"unigram": 45, "bpe": 60, "char": 40, "word": 20}
    size = sizes[kind] + 256 * fallback
    options = TokenizerConfig(vocabulary_size=size, type=kind, byte_fallback=bool(fallback))
    return train_tokenizer([*SENTENCES, "\xe4\xdf \u4e00 x\u2581y"], options)


def test_any_characters_have_the_tokenizers_ids(tokenizer):
    draw = random.Random(0)
    characters = [*map(chr, range(0x250)), *"\u0301\u2028\u2581\u3000\ufeff\ufffd\U0001f600  aeiou"]
    texts = ["".join(draw.choices(characters, k=draw.randrange(40))) for _ in range(500)]
    texts += ["", " ", " a ", "a" * 10_000]
    assert _GraphTokenizer(tokenizer).ids(tf.constant(texts)).to_list() == [
        tokenizer.encode(text) for text in texts
    ]


def test_any_ids_have_the_tokenizers_text_in_one_line(tokenizer):
    draw = random.Random(0)
    vocabulary = [each for each in range(tokenizer.vocabulary_size) if each != tokenizer.eos_id]
    ids = [draw.choices(vocabulary, k=draw.randrange(12)) for _ in range(1000)]
    padded = tf.ragged.constant(ids, tf.int32).to_tensor(tokenizer.eos_id)
    texts = [text.decode("utf-8") for text in _GraphTokenizer(tokenizer).texts(padded).numpy()]
    assert texts == [tokenizer.decode(each) for each in ids]
    assert not re.search(LINE_BREAKING, "".join(texts))


def test_patterns_match_the_characters_that_python_says():
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    blank = tf.strings.regex_full_match(every, _BLANK).numpy().tolist()
    breaking = tf.strings.regex_full_match(every, LINE_BREAKING).numpy().tolist()
    assert blank == [each.isspace() for each in every]
    assert breaking == [re.fullmatch(LINE_BREAKING, each) is not None for each in every]
