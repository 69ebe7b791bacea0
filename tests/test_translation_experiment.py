"""What a training tells of its pairs before it begins."""

from pathlib import Path
from typing import Any

import pytest
from model_fixtures import tiny_config
from training_fixtures import config_for, write_corpus

from seq2seq.config import Config
from seq2seq.errors import DataError
from seq2seq.tokenizer import TokenizerPair
from seq2seq.translation_experiment import TranslationExperiment
from seq2seq.workers import start_workers


def config_with(folder: Path, source: bytes, target: bytes, **data: Any) -> Config:
    """An experiment that is validated with the given text."""
    config = tiny_config(folder)
    files = {"validation_source": folder / "v.en", "validation_target": folder / "v.de"}
    for path, content in zip(files.values(), (source, target), strict=True):
        path.write_bytes(content)
    return config.model_copy(update={"data": config.data.model_copy(update={**files, **data})})


def test_what_becomes_of_validation_pairs_is_told(tmp_path: Path) -> None:
    source = b"a dog\r\n\nb\xe4r\na bird\n" + b"sings " * 9 + b"\n"
    target = b"\ntwo\nbear\na cat\nsings\n"
    config = config_with(tmp_path, source, target, on_bad_utf8="skip")
    notes = TranslationExperiment(config).prepare(tmp_path / "model")
    # Of the sentence of 54 characters the first 24 pieces are scored.
    assert notes[1] == (
        "validation pairs: 5 read, 4 kept; left out: 1 not UTF-8 (line 3); cleaned: CR LF line "
        "ends (1 line); scored with them: 2 blank, 1 cropped"
    )


def test_a_validation_line_that_is_not_utf8_ends_it_before_anything_is_written(
    tmp_path: Path,
) -> None:
    config = config_with(tmp_path, b"a dog\nb\xe4r\n", b"one\ntwo\n")
    with pytest.raises(DataError, match=r"v\.en:2: invalid UTF-8 at byte 2"):
        TranslationExperiment(config)


def test_validation_pairs_that_are_trained_on_are_warned_of(tmp_path: Path) -> None:
    notes = TranslationExperiment(tiny_config(tmp_path)).prepare(tmp_path / "model")
    assert notes[0] == "pairs: 8 read, 4 kept; left out: 4 too long (lines 2, 4, 6, 7)"
    warning = (
        "validation pairs that are training pairs as well: 4; so validation scores are too good"
    )
    assert f"warning: {warning}" in notes


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_pieces_are_drawn_anew_in_each_epoch_where_that_is_asked_for(
    tmp_path: Path, alpha: float
) -> None:
    config = config_for(
        write_corpus(tmp_path),
        tokenizer={"type": "unigram", "vocabulary_size": 24, "byte_fallback": False},
        training={"subword_sampling": alpha, "batch_tokens": 4096},
    )
    experiment = TranslationExperiment(config)
    experiment.prepare(tmp_path)
    experiment.build(tmp_path, start_workers(None, 1))

    def source_ids(numbers: range) -> list[list[int]]:
        """Without the end of each."""
        with experiment.batches(numbers) as batches:
            return sorted(
                row[: length - 1].tolist()
                for each in batches
                for row, length in zip(each.batch.source, each.batch.source_lengths, strict=True)
            )

    steps = experiment.steps_per_epoch
    first, second = source_ids(range(steps)), source_ids(range(steps, 2 * steps))
    decode = TokenizerPair.load(tmp_path / "tokenizer").source.decode
    assert sorted(map(decode, first)) == sorted(map(decode, second))
    assert (first != second) == bool(alpha)
