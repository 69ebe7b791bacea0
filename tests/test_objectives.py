"""Objectives: what they make of a batch, against the model's own loss."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.batches import Batch
from seq2seq.config import ModelConfig
from seq2seq.decoder import Decoder
from seq2seq.loss import cross_entropy
from seq2seq.models import build_model
from seq2seq.objectives import LanguageModelObjective, TranslationObjective

BATCH = Batch(
    source=np.array([[4, 5, 3], [6, 3, 0]], np.int32),
    source_lengths=np.array([3, 2], np.int32),
    target=np.array([[7, 3], [3, 0]], np.int32),
    target_lengths=np.array([2, 1], np.int32),
    rows=np.arange(2),
)
SIZES: dict[str, Any] = {"embedding_size": 3, "encoder_units": 2, "decoder_units": 4}


def test_translation_is_the_models_loss_over_the_real_tokens() -> None:
    config = ModelConfig(**SIZES, dropout=0.5)
    model = build_model(config, source_vocabulary=9, target_vocabulary=8, seed=3)
    objective = TranslationObjective(model, bos_id=2, label_smoothing=0.1)
    assert [spec.shape.rank for spec in objective.signature] == [2, 1, 2, 1]
    assert len(BATCH.tensors) == 4
    for seed in (None, tf.constant([1, 2])):
        loss, tokens, carried = objective(*BATCH.tensors, carried={}, dropout_seed=seed)
        expected = model.loss(*BATCH[:4], bos_id=2, label_smoothing=0.1, dropout_seed=seed)
        np.testing.assert_allclose(loss.total, expected.total, rtol=1e-6)
        assert float(tokens) == 3.0
        assert carried == {}
    assert objective.named_weights() == model.named_weights()
    assert objective.carried() == {}


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_windows_of_a_language_model_are_one_long_pass(dtype: str) -> None:
    decoder = Decoder(9, units=6, layers=2, embedding_size=4, dtype=dtype)
    objective = LanguageModelObjective(decoder, rows=2)
    ids = tf.constant([[1, 2, 3, 4, 5, 6, 7], [8, 7, 6, 5, 4, 3, 2]])
    features, _ = decoder.token_features(ids[:, :6], decoder.zero_state(2))
    kernel = tf.convert_to_tensor(decoder.output_kernel)
    bias = tf.convert_to_tensor(decoder.output_bias)
    whole = cross_entropy(features, kernel, bias, tf.reshape(ids[:, 1:], [-1]))
    carried = objective.carried()
    for _ in range(2):  # what a text leaves behind is forgotten where texts begin
        nll, places = 0.0, 0.0
        for first, last in ((0, 2), (2, 3), (3, 6)):
            windows = ids[:, first:last], ids[:, first + 1 : last + 1]
            begins = tf.constant(first == 0)
            outcome = objective(*windows, begins, carried=carried, dropout_seed=None)
            carried = outcome.carried
            nll += float(outcome.loss.nll)
            places += float(outcome.tokens)
        assert nll == pytest.approx(float(whole.nll), rel=1e-5 if dtype == "float32" else 1e-2)
        assert places == 12
        assert {part.dtype for part in carried.values()} == {tf.float32}
    names = ["layer_0/h", "layer_0/c", "layer_1/h", "layer_1/c"]
    assert list(objective.carried()) == list(carried) == names
    assert objective.named_weights() == decoder.named_weights()


def test_no_gradient_goes_back_into_the_window_before() -> None:
    decoder = Decoder(9, units=6, layers=1, embedding_size=4)
    objective = LanguageModelObjective(decoder, rows=1)
    window = tf.constant([[1]]), tf.constant([[2]]), tf.constant(True)
    before = objective(*window, carried=objective.carried(), dropout_seed=None)
    embedding = decoder.named_weights()["embedding"].value
    with tf.GradientTape() as tape:
        tape.watch(embedding)
        window = tf.constant([[2]]), tf.constant([[3]]), tf.constant(False)
        total = objective(*window, carried=before.carried, dropout_seed=None).loss.total
    moved = tf.convert_to_tensor(tape.gradient(total, embedding)).numpy().any(axis=1)
    assert moved.nonzero()[0].tolist() == [2]  # and not 1, which was read in the window before
