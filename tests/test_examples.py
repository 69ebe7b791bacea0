"""The examples do what they promise: trained briefly, they do their task on what they never saw."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.search import Start, beam_search, greedy_search

FOLDER = Path(__file__).parent.parent / "examples"
BATCH = 32  # as in training: cells are compiled for it already


@pytest.fixture(scope="module")
def captioning() -> Iterator[Any]:
    """The script, which is in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("captioning")


@pytest.fixture(scope="module")
def captioner(captioning: Any) -> Any:
    keras.utils.set_random_seed(1)
    return captioning.train(*captioning.make_examples(100 * BATCH, seed=1), epochs=3)


@pytest.fixture(scope="module")
def unseen(captioning: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images and captions."""
    return captioning.make_examples(BATCH, seed=3)


def greedy_captions(captioning: Any, captioner: Any, start: Start) -> list[str]:
    found = greedy_search(captioner.decoder.stepper(), start, captioning.LIMITS)
    return captioning.texts(found.ids[:, 0].numpy())


def test_captions_say_what_is_in_the_image(captioning):
    """Read off the pixels of each quarter: the colours in reading order, and where the next is."""
    images, captions = captioning.make_examples(200, seed=4)
    names = {channels: name for name, channels in captioning.COLOURS.items()}
    for image, caption in zip(images, captioning.texts(captions), strict=True):
        quarters = image.reshape(2, 8, 2, 8, 3).transpose(0, 2, 1, 3, 4)
        bright = quarters.max((2, 3)) > 0.5  # [2, 2, 3]; noise is at most 0.2
        rows, columns = np.nonzero(bright.any(2))
        colours = [names[tuple(bright[place])] for place in zip(rows, columns, strict=True)]
        assert re.findall("|".join(captioning.COLOURS), caption) == colours
        relations = ["above" if step else "left of" for step in np.diff(rows)]
        assert re.findall("left of|above", caption) == relations


def test_images_never_seen_are_captioned_by_both_searches(
    captioning, captioner, monkeypatch, capsys
):
    monkeypatch.setattr(captioning, "train", lambda *_, **__: captioner)
    captioning.main()
    printed = capsys.readouterr().out
    shares = re.findall(r"^(.*): (\d+\.\d)% of 500 captions exact$", printed, re.M)
    assert [name for name, _ in shares] == ["greedy", "beam 4"]
    assert min(float(share) for _, share in shares) > 90.0
    probabilities = [float(each) for each in re.findall(r"^  (\d\.\d{4}) \w", printed, re.M)]
    assert len(probabilities) == 3 * 4
    assert probabilities[:4] == sorted(probabilities[:4], reverse=True)


@pytest.mark.parametrize("missing", ["image", "state", "memory"])
def test_captions_are_made_from_all_that_the_decoder_is_given(
    captioning, captioner, unseen, missing
):
    images, captions = unseen
    start = captioner.begin(tf.zeros_like(images) if missing == "image" else images)
    if missing == "state":
        start = start._replace(state=captioner.decoder.zero_state(BATCH))
    elif missing == "memory":
        nothing = tf.zeros_like(start.memory.values)
        start = start._replace(memory=captioner.decoder.memory(nothing))
    found, wanted = greedy_captions(captioning, captioner, start), captioning.texts(captions)
    assert sum(map(str.__eq__, found, wanted)) < BATCH / 4


def test_scores_equal_those_of_teacher_forcing(captioning, captioner, unseen):
    images, _ = unseen
    step, start = captioner.decoder.stepper(), captioner.begin(images)
    found = beam_search(step, start, captioning.LIMITS, beam_size=3, length_penalty=0.0)
    for rank in range(3):
        ids = found.ids[:, rank]  # [B, T]
        log_probs = tf.nn.log_softmax(captioner((images, ids)))  # [B, T, V]
        of_ids = tf.gather(log_probs, ids, batch_dims=2)
        real = tf.sequence_mask(found.lengths[:, rank], tf.shape(ids)[1], tf.float32)
        expected = tf.reduce_sum(of_ids * real, axis=1)
        np.testing.assert_allclose(found.log_probs[:, rank], expected, rtol=1e-4, atol=1e-4)


# Keras reads its own weights in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_saved_weights_restore_the_captions(captioning, captioner, unseen, tmp_path):
    images, _ = unseen
    path = tmp_path / "captioner.weights.h5"
    captioner.save_weights(path)
    keras.utils.set_random_seed(2)
    restored = captioning.Captioner()
    before = restored(unseen)  # a Keras model has weights once it was called
    restored.load_weights(path)
    after, wanted = restored(unseen), captioner(unseen)
    assert np.abs(before - wanted).max() > 1.0
    np.testing.assert_allclose(after, wanted, rtol=1e-6, atol=1e-6)
    captions = greedy_captions(captioning, restored, restored.begin(images))
    assert captions == greedy_captions(captioning, captioner, captioner.begin(images))
