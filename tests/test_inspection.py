import os
import shutil
from pathlib import Path

import pytest
from model_fixtures import SENTENCES, STEP

from seq2seq.errors import ModelError
from seq2seq.inspection import describe, render

# What the tiny model has by the shapes of its parts: E 8, encoder 2 directions of 8 units, decoder
# 12 units. An LSTM layer has 4 * units * (inputs + units + 1) numbers.
ENCODER_DIRECTION = 4 * 8 * (8 + 8 + 1)
DECODER_LAYER = 4 * 12 * (8 + 12 + 1)
VOCABULARY = len(set("".join(SENTENCES))) + 4  # one piece a character, and the special ones


def test_sizes_are_those_the_shapes_say(model_folder):
    found = describe(model_folder)
    pieces = f"source {VOCABULARY:,}, target {VOCABULARY:,} pieces; one for both sides"
    assert found.vocabulary == pieces
    expected = {
        "source_embedding": VOCABULARY * 8,
        "encoder/layer_0_forward": ENCODER_DIRECTION,
        "encoder/layer_0_backward": ENCODER_DIRECTION,
        "decoder/embedding": VOCABULARY * 8,
        "decoder/layer_0": DECODER_LAYER,
        "decoder/output_kernel": VOCABULARY * 12,
        "decoder/output_bias": VOCABULARY,
        # The memory, 16 wide, is scored against h, 12 wide; [h; context] becomes 12 features.
        "decoder/attention": 16 * 12 + (12 + 16) * 12 + 12,
    }
    bridge = 2 * (16 * 12 + 12)
    assert {part: found.part_sizes[part] for part in expected} == expected
    assert sum(found.part_sizes.values()) == sum(expected.values()) + bridge


def test_scores_checkpoints_and_files_are_those_in_the_folder(model_folder):
    found = describe(model_folder)
    assert found.best["step"] == STEP
    assert found.best["bleu"] == 12.345
    assert found.last_validation == {
        "step": STEP,
        "split": "validation",
        "loss": 2.5,
        "bleu": 12.345,
    }
    assert found.checkpoint_steps == (STEP,)
    assert found.files["config.toml"] == (model_folder / "config.toml").stat().st_size
    assert f"checkpoints/step-{STEP}/weights.safetensors" in found.files


def test_rendering_shows_every_section(model_folder):
    text = render(describe(model_folder))
    assert text.startswith(f"model\n  {model_folder}\n\nweights\n")
    assert "\nbest\n  step: 7\n  bleu: 12.35\n  signature: nrefs:1|tok:13a\n  loss: 2.50\n" in text
    assert "\ncheckpoints\n  steps 7\n" in text
    assert f"\nvocabulary\n  source {VOCABULARY}, target {VOCABULARY} pieces; one for both" in text
    assert "  [decoding]\n  beam_size = 3\n" in text
    assert text.endswith("\n")
    assert not any(line != line.rstrip() for line in text.split("\n"))


def test_a_model_not_validated_yet_says_so(model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / "best.json").unlink()
    (folder / "metrics.jsonl").unlink()
    text = render(describe(folder))
    assert "\nbest\n  none yet\n\nlast validation\n  none yet\n" in text


def test_the_last_whole_validation_line_counts(model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 9, "split": "validation", "perplexity": Infinity}\n')
        file.write(
            b'{"step": 10, "split": "train", "loss": 1.5}\n{"step": 11, "split": "validation"'
            b', "x": ' + b"[" * 100_000
        )
    found = describe(folder)
    assert found.last_validation["step"] == 9
    assert "\nlast validation\n  step: 9\n  split: validation\n  perplexity: Infinity\n" in render(
        found
    )


def test_damaged_weights_are_an_error(model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    weights = folder / "checkpoints" / f"step-{STEP}" / "weights.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(ModelError, match=r"weights\.safetensors: damaged: "):
        describe(folder)


def test_any_other_folder_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"not a model folder: no config\.toml in it"):
        describe(tmp_path)


def test_files_that_go_while_they_are_looked_at_are_left_out(model_folder, monkeypatch):
    expected = describe(model_folder).files
    walk = os.walk

    def with_a_gone_one(folder):
        for parent, folders, names in walk(folder):
            yield parent, folders, [*names, "gone"]

    monkeypatch.setattr(os, "walk", with_a_gone_one)
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == "gone" or path.exists())
    assert describe(model_folder).files == expected
