"""Sections: defaults, bounds of single keys, and keys that contradict each other."""

from pathlib import Path

import pydantic
import pytest
from config_fixtures import DATA, TEXT, faults_of

from seq2seq.config import Config, LanguageModelConfig, TextTokenizerConfig


def test_only_the_files_have_no_default(load):
    config = load(DATA)
    assert config.data.train_source == [Path("train.en")]  # one file need not be a list
    assert config.data.train_target == [Path("a.de"), Path("b.de")]
    assert config.data.validation_target == Path("val.de")
    assert config.tokenizer.source_model is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '[tokenizer]\ntarget_model = "t.model"',
            "tokenizer.target_model: needs tokenizer.source_model beside it",
        ),
        (
            '[model]\ntied_embeddings = "all"\n[tokenizer]\njoint = false',
            "model.tied_embeddings: got 'all', which needs one vocabulary for both sides",
        ),
        (
            '[model]\ntied_embeddings = "all"\n'
            '[tokenizer]\nsource_model = "s.model"\ntarget_model = "t.model"',
            "model.tied_embeddings: got 'all', which needs one vocabulary for both sides",
        ),
        (
            '[model]\nbridge = "copy"\nencoder_units = 8\ndecoder_units = 8',
            "model.bridge: got 'copy', but the encoder's state is 16 wide and decoder_units is 8",
        ),
        (
            '[model]\nattention = "none"\nreverse_source = true',
            "model.reverse_source: got true, which has no effect where the encoder reads both ways",
        ),
        (
            "[model]\nreverse_source = true",
            "model.reverse_source: got true, which is for models without attention",
        ),
        (
            "[model]\nattention_heads = 4\nencoder_units = 3",
            "model.attention_heads: got 4, expected a divisor of decoder_units (512) and of the "
            "encoder's width (6)",
        ),
        (
            '[training]\nsubword_sampling = 0.1\n[tokenizer]\ntype = "char"',
            "training.subword_sampling: got 0.1, which needs tokenizer.type = 'unigram'",
        ),
        (
            '[model]\nattention = "none"\nattention_heads = 2',
            "model.attention_heads: got 2, which has no effect without attention; leave it out",
        ),
        (
            '[model]\nattention = "none"\nattention_layer = "first"',
            "model.attention_layer: got 'first', which has no effect without attention; leave it",
        ),
        (
            "[model]\nvariational_dropout = true\ndropout = 0.0",
            "model.variational_dropout: got true, which has no effect without model.dropout; leave",
        ),
        (
            '[training]\nschedule = "plateau"\nplateau_patience = 3\n[validation]\npatience = 3',
            "training.plateau_patience: got 3, but training ends after validation.patience = 3",
        ),
        (
            "[training]\nconsistency = 4.0\n[model]\ndropout = 0.0\nrecurrent_dropout = 0.3",
            "training.consistency: got 4.0, but without dropout the two passes are the same; set",
        ),
    ],
)
def test_keys_in_conflict_are_named(load, text, fault):
    assert faults_of(load, f"{DATA}\n{text}\n")[0].startswith(fault)


@pytest.mark.parametrize(
    "text",
    [
        '[model]\ntied_embeddings = "all"',
        '[model]\ntied_embeddings = "all"\n[tokenizer]\nsource_model = "s.model"\njoint = false',
        '[model]\nbridge = "copy"\nencoder_units = 4\ndecoder_units = 8',
        '[model]\nbridge = "copy"\nencoder_units = 8\ndecoder_units = 8\nbidirectional = false',
        '[tokenizer]\nsource_model = "s.model"\ntarget_model = "t.model"',
        '[model]\nattention = "none"\nreverse_source = true\nbidirectional = false',
        "[model]\nattention_heads = 8\nencoder_units = 4\ndecoder_units = 16",
        '[model]\nattention_layer = "first"\ndecoder_layers = 1',
        '[training]\nsubword_sampling = 0.1\n[tokenizer]\ntype = "bpe"\nsource_model = "s.model"',
    ],
)
def test_keys_that_only_look_like_a_conflict_are_accepted(load, text):
    assert isinstance(load(f"{DATA}\n{text}\n"), Config)


def test_a_target_of_one_piece_is_refused(load):
    for key in ("max_source_length", "max_target_length"):
        fault = f"data.{key}: got 1, expected greater than or equal to 2"
        assert faults_of(load, f"{DATA}{key} = 1\n") == [fault]


def test_a_configuration_cannot_be_changed(load):
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        load(DATA).model.dropout = 0.5


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("data.train_source=[]", "data.train_source: got [], expected at least one"),
        (
            "data.validation_source=''",
            "data.validation_source: got '', expected the name of a file",
        ),
        ("training.learning_rate=inf", "training.learning_rate: got inf, expected a finite number"),
    ],
)
def test_values_that_pass_for_their_type_only_are_refused(load, override, fault):
    assert faults_of(load, DATA, override) == [fault]


def test_the_defaults_of_a_language_model(load):
    config = load(TEXT)
    assert (config.data.validation_share, config.data.test_share) == (0.1, 0.0)
    assert config.training.schedule == "constant"
    assert (config.training.gradient_norm, config.training.label_smoothing) == (5.0, 0.0)
    assert config.training.warmup_steps == 0
    assert (config.training.batch_size, config.training.window) == (64, 100)
    assert load(DATA).training.schedule == "inverse-square-root"  # what is shared stays apart


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 17 * 65536 + 1),  # every code point, and unknown
        ({"type": "word"}, 10_000),
        ({"type": "unigram"}, 8_000),
        ({"type": "bpe"}, 8_000),
        ({"type": "word", "vocabulary_size": 50}, 50),
    ],
)
def test_the_most_symbols_follow_the_type(options, most):
    assert TextTokenizerConfig(**options).most_symbols == most


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (
            ["data.validation_share=0.6", "data.test_share=0.4"],
            "data.validation_share: got 0.6, and test_share is 0.4, which leaves nothing",
        ),
        (
            ["tokenizer.vocabulary_size=100"],
            "tokenizer.vocabulary_size: got 100, but every character of the training text is a",
        ),
        (
            ["tokenizer.type=bpe", "tokenizer.vocabulary_size=260"],
            "tokenizer.vocabulary_size: got 260, but 260 are special pieces and bytes; raise it",
        ),
        (
            ["model.embedding_size=0", "model.tied_embeddings=true"],
            "model.tied_embeddings: got true, but without embeddings (model.embedding_size = 0)",
        ),
        (
            ["training.schedule=plateau", "data.validation_share=0"],
            "training.schedule: got 'plateau', which goes by validations, and there is no text for",
        ),
        (
            ["training.schedule=plateau", "validation.patience=2"],
            "training.plateau_patience: got 2, but training ends after validation.patience = 2",
        ),
        (
            ["model.variational_dropout=true", "model.dropout=0.0"],
            "model.variational_dropout: got true, which has no effect without dropout; leave it",
        ),
    ],
)
def test_keys_of_a_language_model_in_conflict_are_named(load, overrides, fault):
    (found,) = faults_of(load, TEXT, *overrides)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.validation_share=0.5", "data.test_share=0.49"],
        # A share has no effect beside a file.
        ["data.validation_share=0.9", "data.test_share=0.9", "data.validation_text=v.txt"],
        ["training.schedule=plateau", "data.validation_share=0", "data.validation_text=v.txt"],
        ["tokenizer.type=word", "tokenizer.vocabulary_size=2"],
        ["tokenizer.type=unigram", "tokenizer.vocabulary_size=261"],
        ["model.embedding_size=0"],
        ["model.tied_embeddings=true"],
    ],
)
def test_keys_of_a_language_model_that_only_look_like_a_conflict_are_accepted(load, overrides):
    assert isinstance(load(TEXT, *overrides), LanguageModelConfig)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"[training]\nmax_epochs = 1{'0' * 400}", "training.max_epochs: got 1000"),
        ("[training]\ngradient_norm = 1e39", "training.gradient_norm: got 1e+39, expected less"),
        ("[decoding]\nlength_penalty = 1e39", "decoding.length_penalty: got 1e+39, expected less"),
        (f"[decoding]\nmax_length_offset = {2**31}", "decoding.max_length_offset: got 2147483648"),
        (f"[tokenizer]\nvocabulary_size = {2**31}", "tokenizer.vocabulary_size: got 2147483648"),
        ('[tokenizer]\nsource_model = "a\\u0000b"', "tokenizer.source_model: got 'a\\x00b', expec"),
        (f"seed = {'9' * 5000}", "not valid TOML: Exceeds the limit"),
    ],
)
def test_no_value_is_beyond_what_computers_hold(load, text, fault):
    head, _, rest = text.partition("[")
    (found,) = faults_of(load, f"{head}\n{DATA}\n" + (f"[{rest}\n" if rest else ""))
    assert found.startswith(fault)
