"""Training a translator: sentence pairs, the encoder-decoder, validation by BLEU."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from seq2seq.batches import BatchPlan, batches_from
from seq2seq.config import Config
from seq2seq.corpus import ParallelIds, encode_corpus
from seq2seq.evaluation import bleu_metric
from seq2seq.experiment import LocatedBatch, Validation, check_same_text
from seq2seq.model_files import CONFIG_FILE, ENCODED_FOLDER, TOKENIZER_FOLDER
from seq2seq.models import build_model
from seq2seq.objectives import TranslationObjective
from seq2seq.pairs import PairCounts, validation_pairs
from seq2seq.precision import resolve_precision
from seq2seq.runtime import shards_of_a_batch
from seq2seq.subword_sampling import SubwordSampler
from seq2seq.tokenizer import TokenizerPair, prepare_tokenizers
from seq2seq.updates import Updater
from seq2seq.validation import Validator
from seq2seq.workers import Workers


class TranslationExperiment:
    """See `Experiment`."""

    validates = True

    def __init__(self, config: Config) -> None:
        """
        Raises:
            UsageError: BLEU's tokenizer is unknown, or its package is missing.
            DataError: The validation text is faulty.
            StorageError: It cannot be read.
        """
        self.config = config
        # What cannot be used shows now, not when the first epoch is over.
        bleu_metric(config.validation.bleu_tokenizer)
        self.batches_per_update = config.training.accumulate_batches
        self._validation_counts = PairCounts()
        self._pairs = validation_pairs(config.data, self._validation_counts)

    def prepare(self, folder: Path, *, text: str = "") -> list[str]:
        """Writes `tokenizer/` and `encoded/`; see `Experiment`."""
        path = folder / TOKENIZER_FOLDER
        if not (folder / CONFIG_FILE).exists():
            prepare_tokenizers(self.config).save(path)
        self._tokenizers = TokenizerPair.load(path)
        counts = encode_corpus(
            self.config,
            self._tokenizers,
            folder / ENCODED_FOLDER,
            validation=self._pairs,
            check=lambda ids: check_same_text(folder, text, self._fingerprint_with(ids)),
        )
        self._sampler = None
        if self.config.training.subword_sampling:
            self._sampler = SubwordSampler(
                self._tokenizers,
                self.config.data,
                alpha=self.config.training.subword_sampling,
                seed=self.config.seed,
            )
        warnings = [f"warning: {warning}" for warning in counts.warnings()]
        return [counts.summary(), f"validation {self._validation_summary()}", *warnings]

    def _fingerprint_with(self, training: str) -> str:
        """That of the whole text, of that of the training text."""
        texts = [training, *(pair[1:] for pair in self._pairs)]
        return sha256(repr(texts).encode()).hexdigest()

    def _validation_summary(self) -> str:
        """What became of the validation pairs: all that can be read are scored."""
        data = self.config.data
        sources = self._tokenizers.source.encode_batch([pair.source for pair in self._pairs])
        targets = self._tokenizers.target.encode_batch([pair.target for pair in self._pairs])
        cropped = blank = 0
        for source, target in zip(sources, targets, strict=True):
            blank += not source or not target
            cropped += (
                len(source) >= data.max_source_length or len(target) >= data.max_target_length
            )
        scored = [
            f"{count} {what}" for count, what in ((blank, "blank"), (cropped, "cropped")) if count
        ]
        summary = self._validation_counts.summary()
        return f"{summary}; scored with them: {', '.join(scored)}" if scored else summary

    def build(self, folder: Path, workers: Workers) -> None:
        """Makes model, updater and validator, and opens the encoded corpus."""
        config, target = self.config, self._tokenizers.target
        self._model = build_model(
            config.model,
            source_vocabulary=self._tokenizers.source.vocabulary_size,
            target_vocabulary=target.vocabulary_size,
            precision=resolve_precision(config.precision),
            seed=config.seed,
        )
        objective = TranslationObjective(
            self._model,
            bos_id=target.bos_id,
            label_smoothing=config.training.label_smoothing,
            consistency=config.training.consistency,
        )
        self.updater = Updater(
            config.training,
            objective,
            seed=config.seed,
            batches_per_update=self.batches_per_update,
            shards=shards_of_a_batch(),
            workers=workers,
        )
        self._validator = Validator(config, self._tokenizers, self._model, self._pairs)
        self._corpus = ParallelIds.open(folder / ENCODED_FOLDER)
        self.fingerprint = self._fingerprint_with(self._corpus.fingerprint)
        self._plan = BatchPlan(
            self._corpus.source_lengths,
            self._corpus.target_lengths,
            batch_tokens=config.training.batch_tokens,
            seed=config.seed,
        )
        self.steps_per_epoch = self._plan.steps_per_epoch

    @contextmanager
    def batches(self, numbers: Iterable[int]) -> Iterator[Iterator[LocatedBatch]]:
        """See `batches_from`."""
        with batches_from(
            self._corpus,
            self._plan,
            numbers,
            source_pad_id=self._tokenizers.source.pad_id,
            target_pad_id=self._tokenizers.target.pad_id,
            change=self._sampler,
        ) as made:
            location = self._corpus.location
            yield (
                LocatedBatch(each.epoch, each.batch, partial(location, each.batch.rows))
                for each in made
            )

    def validate(self) -> Validation:
        """Loss and BLEU of the validation pairs; the first of them and their translations."""
        validated, count = self._validator.validate(), self.config.validation.samples
        samples = [
            {"source": pair.source, "hypothesis": translation, "reference": pair.target}
            for pair, translation in zip(
                self._pairs[:count], validated.translations[:count], strict=True
            )
        ]
        return Validation(validated.scores, samples)

    def is_better(self, record: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
        """Whether BLEU is higher, or the same with less loss.

        At first it is next to 0 for long, and differs by chance: all below 1 counts the same.
        """
        ranks = [(max(each["bleu"], 1.0), -each["loss"]) for each in (record, best)]
        return ranks[0] > ranks[1]

    def headline(self, record: Mapping[str, Any]) -> str:
        """Its BLEU."""
        return f"BLEU {record['bleu']:.2f}"
