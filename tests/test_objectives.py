"""Objectives: what they make of a batch, against the model's own loss."""

from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.batches import Batch
from seq2seq.config import ModelConfig
from seq2seq.models import build_model
from seq2seq.objectives import TranslationObjective

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
        loss, tokens, carried = objective(*BATCH.tensors, dropout_seed=seed)
        expected = model.loss(*BATCH[:4], bos_id=2, label_smoothing=0.1, dropout_seed=seed)
        np.testing.assert_allclose(loss.total, expected.total, rtol=1e-6)
        assert float(tokens) == 3.0
        assert carried == ()
    assert objective.named_weights() == model.named_weights()
    assert objective.carried() == {}
