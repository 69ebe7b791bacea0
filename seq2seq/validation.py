"""Validation while training: loss under teacher forcing, and BLEU of real translations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.batches import BatchPlan, make_batch
from seq2seq.config import Config
from seq2seq.evaluation import Score, bleu, perplexity
from seq2seq.lstm import forward_only
from seq2seq.models import TranslationModel
from seq2seq.objectives import IDS, LENGTHS
from seq2seq.pairs import Pair
from seq2seq.runtime import batches_at_a_time
from seq2seq.side_by_side import side_by_side
from seq2seq.tokenizer import Tokenizer, TokenizerPair
from seq2seq.translator import Translator


@dataclass(frozen=True)
class Validated:
    """The scores of one validation.

    Attributes:
        bleu: Of detokenised translations of all validation sources.
        loss: Negative log-probability of a reference piece, end of sentence included, nats.
        accuracy: Share of reference pieces predicted right, given those before.
        translations: One a pair, in order.
    """

    bleu: Score
    loss: float
    accuracy: float
    translations: list[str]

    @property
    def perplexity(self) -> float:
        """exp of the loss, or of 700 where that would be too large for a float."""
        return perplexity(self.loss)

    @property
    def scores(self) -> dict[str, Any]:
        """As `metrics.jsonl` has them."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "accuracy": self.accuracy,
            "bleu": self.bleu.value,
            "signature": self.bleu.signature,
        }


class Validator:
    """Validates one model, as it is at the moment, on one set of pairs.

    Pairs over the length limits are cropped, never left out: every validation is over all lines.
    """

    def __init__(
        self,
        config: Config,
        tokenizers: TokenizerPair,
        model: TranslationModel,
        pairs: Sequence[Pair],
    ) -> None:
        self._options = config.validation
        self._pairs = pairs
        self._translator = Translator(config, tokenizers, model)
        # What cannot be used shows now, not when the first epoch is over.
        self._translator.translate_iter([], beam_size=self._options.beam_size)
        data = config.data
        self._ids = _EncodedPairs(
            _encoded(tokenizers.source, [pair.source for pair in pairs], data.max_source_length),
            _encoded(tokenizers.target, [pair.target for pair in pairs], data.max_target_length),
        )
        self._plan = BatchPlan(
            self._ids.source_lengths,
            self._ids.target_lengths,
            batch_tokens=config.training.batch_tokens,
            seed=0,
        )
        self._pad_ids = {
            "source_pad_id": tokenizers.source.pad_id,
            "target_pad_id": tokenizers.target.pad_id,
        }
        bos_id = tokenizers.target.bos_id

        @tf.function(input_signature=[IDS, LENGTHS, IDS, LENGTHS], autograph=False)
        @forward_only()
        def sums(
            source: tf.Tensor, source_lengths: tf.Tensor, target: tf.Tensor, lengths: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            loss = model.loss(source, source_lengths, target, lengths, bos_id=bos_id)
            return loss.nll, loss.correct

        self._sums = sums

    def validate(self) -> Validated:
        """Scores the model with the weights it has now."""
        steps = range(self._plan.steps_per_epoch)
        sums = [*side_by_side(self._sums_of, steps, threads=batches_at_a_time())]
        nll, correct = map(sum, zip(*sums, strict=True))
        tokens = int(self._ids.target_lengths.sum())
        self._translator.take_up_weights()
        translations = [
            translation.text
            for translation in self._translator.translate(
                [pair.source for pair in self._pairs], beam_size=self._options.beam_size
            )
        ]
        references = [pair.target for pair in self._pairs]
        return Validated(
            bleu=bleu(translations, references, self._options.bleu_tokenizer),
            loss=nll / tokens,
            accuracy=correct / tokens,
            translations=translations,
        )

    def _sums_of(self, step: int) -> tuple[float, float]:
        """The negative log-probability of the labels of a batch, and how many were predicted."""
        rows, shape = self._plan.rows(0, step), self._plan.shape(0, step)
        nll, correct = self._sums(*make_batch(self._ids, rows, shape, **self._pad_ids)[:4])
        return float(nll), float(correct)


class _EncodedPairs:
    """Few sentence pairs, in memory."""

    def __init__(self, sources: list[np.ndarray], targets: list[np.ndarray]) -> None:
        self._sources, self._targets = sources, targets
        self.source_lengths = np.array([len(ids) for ids in sources], np.int32)
        self.target_lengths = np.array([len(ids) for ids in targets], np.int32)

    def source(self, row: int) -> np.ndarray:
        return self._sources[row]

    def target(self, row: int) -> np.ndarray:
        return self._targets[row]


def _encoded(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[np.ndarray]:
    """Ids of each text, cropped to `max_length` with the end of sentence always there."""
    return [
        np.array([*ids[: max_length - 1], tokenizer.eos_id], np.int32)
        for ids in tokenizer.encode_batch(texts)
    ]
