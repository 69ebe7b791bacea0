"""Validation: its numbers against NumPy and sacreBLEU, on all lines whatever they are."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import sacrebleu
import tensorflow as tf

from seq2seq import lstm
from seq2seq.config import Config
from seq2seq.errors import UsageError
from seq2seq.evaluation import Score
from seq2seq.models import TranslationModel, build_model
from seq2seq.pairs import Pair
from seq2seq.tokenizer import TokenizerPair, prepare_tokenizers
from seq2seq.validation import Validated, Validator

MAX_SOURCE, MAX_TARGET = 9, 8
TEXTS = [
    ("a bad ca", "bad dad"),  # one piece too many on both sides: a sentence begins with a space
    ("dad", "abba cab daca"),  # target far too long
    ("", "dab"),
    ("cab", "   "),
    ("bbaaccd daacc bbaadd ccaadd", "cabacada"),  # source far too long
    ("caca", "ada"),
    ("acca bb", "cab da"),  # exactly the greatest length
]
PAIRS = [Pair(line, source, target) for line, (source, target) in enumerate(TEXTS, start=1)]


@dataclass
class Experiment:
    config: Config
    tokenizers: TokenizerPair
    model: TranslationModel
    validator: Validator


def config_for(folder: Path, **validation: Any) -> Config:
    text = folder / "text"
    text.write_text("".join(f"{side}\n" for pair in TEXTS for side in pair if side.strip()))
    return Config.model_validate(
        {
            "precision": "float32",
            "data": {
                **dict.fromkeys(["train_source", "train_target"], text),
                **dict.fromkeys(["validation_source", "validation_target"], text),
                "max_source_length": MAX_SOURCE,
                "max_target_length": MAX_TARGET,
            },
            "tokenizer": {"type": "char", "vocabulary_size": 20, "byte_fallback": False},
            "model": {
                "embedding_size": 4,
                "encoder_layers": 1,
                "encoder_units": 3,
                "decoder_layers": 1,
                "decoder_units": 6,
                "dropout": 0.5,
            },
            "training": {"batch_tokens": 40},
            "validation": validation,
        }
    )


def set_random_weights(model: TranslationModel, seed: int) -> None:
    """Large ones, so that predictions are far from uniform and translations differ."""
    random = np.random.default_rng(seed)
    for weight in model.named_weights().values():
        weight.assign(random.normal(0.0, 1.5, weight.shape))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    config = config_for(tmp_path_factory.mktemp("validation"))
    tokenizers = prepare_tokenizers(config)
    model = build_model(
        config.model,
        source_vocabulary=tokenizers.source.vocabulary_size,
        target_vocabulary=tokenizers.target.vocabulary_size,
    )
    set_random_weights(model, seed=1)
    return Experiment(config, tokenizers, model, Validator(config, tokenizers, model, PAIRS))


@pytest.fixture(scope="module")
def validated(experiment: Experiment) -> Validated:
    return experiment.validator.validate()


def cropped(ids: Sequence[int], most: int, end_id: int) -> list[int]:
    return [*ids[: most - 1], end_id]


def expected_sums(experiment: Experiment) -> tuple[float, int, int]:
    """nll, tokens predicted right and tokens of all pairs, one by one from the logits."""
    source, target = experiment.tokenizers.source, experiment.tokenizers.target
    nll, correct, tokens = 0.0, 0, 0
    for pair in PAIRS:
        ids = cropped(source.encode(pair.source), MAX_SOURCE, source.eos_id)
        labels = cropped(target.encode(pair.target), MAX_TARGET, target.eos_id)
        read = [target.bos_id, *labels[:-1]]
        padding = [0] * (MAX_SOURCE - len(ids))  # one shape for all: each is compiled
        logits, _ = experiment.model.attend(
            tf.constant([ids + padding]), tf.constant([len(ids)]), tf.constant([read])
        )
        logits = logits.numpy()[0]
        log_probs = oracles.log_softmax(logits.astype(np.float64))
        nll -= log_probs[np.arange(len(labels)), labels].sum()
        correct += int((logits.argmax(-1) == labels).sum())
        tokens += len(labels)
    return nll, correct, tokens


def test_loss_and_accuracy_are_those_of_every_pair_alone(
    experiment: Experiment, validated: Validated
) -> None:
    nll, correct, tokens = expected_sums(experiment)
    # 7 + 7 + 4 + 0 + 7 + 4 + 7 pieces and 7 ends: cropped, but all seven are there.
    assert tokens == 43
    assert validated.loss == pytest.approx(nll / tokens, rel=1e-5)
    assert validated.accuracy == pytest.approx(correct / tokens)
    assert validated.perplexity == pytest.approx(math.exp(nll / tokens), rel=1e-4)


def test_no_lstm_is_compiled_for_the_shape_of_a_batch(
    experiment: Experiment, validated: Validated, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Validator(experiment.config, experiment.tokenizers, experiment.model, PAIRS)
    monkeypatch.delattr(lstm, "_training_cell")
    assert fresh.validate() == validated


def test_every_line_is_translated_in_order(experiment: Experiment, validated: Validated) -> None:
    assert len(validated.translations) == len(PAIRS)
    assert validated.translations[2] == ""  # its source is blank
    alone = experiment.validator._translator
    for pair, translation in zip(PAIRS, validated.translations, strict=True):
        assert alone.translate([pair.source], beam_size=1)[0].text == translation
    assert len(set(validated.translations)) > 3  # or order would not show


def test_an_over_long_source_is_translated_as_its_first_pieces(
    experiment: Experiment, validated: Validated
) -> None:
    tokenizer = experiment.tokenizers.source
    first = tokenizer.decode(tokenizer.encode(PAIRS[4].source)[: MAX_SOURCE - 1])
    assert len(first) < len(PAIRS[4].source)
    (translation,) = experiment.validator._translator.translate([first], beam_size=1)
    assert translation.text == validated.translations[4]


def test_bleu_is_that_of_sacrebleu_against_the_raw_references(validated: Validated) -> None:
    metric = sacrebleu.BLEU(force=True)
    score = metric.corpus_score(validated.translations, [[pair.target for pair in PAIRS]])
    assert validated.bleu == Score(
        "BLEU", score.score, metric.get_signature().format(), validated.bleu.detail
    )


def test_bleu_of_translations_that_are_the_references_is_100(
    experiment: Experiment, validated: Validated
) -> None:
    pairs = [
        pair._replace(target=translation)
        for pair, translation in zip(PAIRS, validated.translations, strict=True)
    ]
    own = Validator(
        config_for(Path(experiment.config.data.validation_source).parent, bleu_tokenizer="char"),
        experiment.tokenizers,
        experiment.model,
        pairs,
    ).validate()
    assert own.translations == validated.translations
    assert own.bleu.value == pytest.approx(100.0)
    assert "tok:char" in own.bleu.signature


def test_validation_sees_the_weights_as_they_are_now(experiment: Experiment) -> None:
    before = {name: each.numpy() for name, each in experiment.model.named_weights().items()}
    first = experiment.validator.validate()
    try:
        set_random_weights(experiment.model, seed=2)
        nll, _, tokens = expected_sums(experiment)
        second = experiment.validator.validate()
    finally:
        experiment.model.load(before)
    assert second.loss == pytest.approx(nll / tokens, rel=1e-5)
    assert second.translations != first.translations
    assert experiment.validator.validate() == first  # no dropout, nothing random


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_validation_sees_each_part_of_the_model_as_it_is_now(
    experiment: Experiment, part: str
) -> None:
    weights = experiment.model.named_weights()
    before = {name: each.numpy() for name, each in weights.items()}
    first = experiment.validator.validate()
    random = np.random.default_rng(5)
    try:
        for name, each in weights.items():
            if name.startswith(part):
                each.assign(random.normal(size=each.shape))
        config = experiment.config
        fresh = Validator(config, experiment.tokenizers, experiment.model, PAIRS)
        second = experiment.validator.validate()
        assert second == fresh.validate()
    finally:
        experiment.model.load(before)
    assert second.translations != first.translations


def validated_with(loss: float) -> Validated:
    return Validated(Score("BLEU", 0.0, "signature"), loss, accuracy=0.0, translations=[])


def test_perplexity_is_exp_of_the_loss_and_always_a_number() -> None:
    assert validated_with(0.0).perplexity == 1.0
    assert validated_with(math.log(12.5)).perplexity == pytest.approx(12.5)
    assert 1e300 < validated_with(1e30).perplexity < math.inf


def test_a_beam_larger_than_the_vocabulary_is_refused_before_any_training(
    experiment: Experiment, tmp_path: Path
) -> None:
    size = experiment.tokenizers.target.vocabulary_size
    config = config_for(tmp_path, beam_size=size + 1)
    message = re.escape(f"beam size: got {size + 1}, more than the {size} pieces")
    with pytest.raises(UsageError, match=message):
        Validator(config, experiment.tokenizers, experiment.model, PAIRS)
