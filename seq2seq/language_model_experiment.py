"""Training a language model: windows of one text that follow on, validation by loss."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seq2seq.config import LanguageModelConfig
from seq2seq.experiment import LocatedBatch, Validation, check_same_text
from seq2seq.generator import LanguageModel
from seq2seq.model_files import CONFIG_FILE, ENCODED_FOLDER, TOKENIZER_FOLDER
from seq2seq.models import build_language_model
from seq2seq.objectives import LanguageModelObjective
from seq2seq.precision import resolve_precision
from seq2seq.runtime import shards_of_a_batch
from seq2seq.text_corpus import PartCounts, TextIds, Windows, encode_text, split_text
from seq2seq.text_tokenizer import load_text_tokenizer, make_text_tokenizer
from seq2seq.updates import Updater
from seq2seq.workers import Workers

_UNREAD_SHARE = 0.01  # of the training text; more is warned about


class WindowBatch(NamedTuple):
    """One window of every text, for `LanguageModelObjective`.

    Attributes:
        inputs: `[N, M]` int32.
        targets: `[N, M]` int32.
        begins: Whether the texts begin here.
    """

    inputs: np.ndarray
    targets: np.ndarray
    begins: bool

    @property
    def tensors(self) -> "WindowBatch":
        """What a model is given."""
        return self


class LanguageModelExperiment:
    """See `Experiment`."""

    batches_per_update = 1

    def __init__(self, config: LanguageModelConfig) -> None:
        """
        Raises:
            DataError: The text is faulty, or nothing of it is left to train on.
            StorageError: It cannot be read.
        """
        self.config = config
        self._parts = split_text(config.data)
        self._validation_characters = len(self._parts.validation)
        self.validates = self._validation_characters > 0

    def prepare(self, folder: Path, *, text: str = "") -> list[str]:
        """Writes `tokenizer/` and `encoded/`, and opens the encoded text; see `Experiment`."""
        path = folder / TOKENIZER_FOLDER
        if not (folder / CONFIG_FILE).exists():
            make_text_tokenizer(self.config.tokenizer, self._parts.training).save(path)
        self._tokenizer = load_text_tokenizer(path)
        counts = encode_text(
            self._parts,
            self._tokenizer,
            folder / ENCODED_FOLDER,
            check=lambda ids: check_same_text(folder, text, ids),
        )
        del self._parts  # the text itself is not needed any more, and may be large
        self._ids = TextIds.open(folder / ENCODED_FOLDER)
        self.fingerprint = self._ids.fingerprint
        training = self.config.training
        self._windows = Windows(self._ids.training, training.batch_size, training.window)
        self.steps_per_epoch = self._windows.steps
        told = f"{counts.training.symbols:,} symbols, {self._tokenizer.vocabulary_size:,} different"
        told += f"; validation {counts.validation.symbols:,}, test {counts.test.symbols:,}"
        parts = {
            "training": counts.training,  # of words left out, or of another model's tokenizer
            "validation": counts.validation,
            "test": counts.test,
        }
        notes = [told, *(_warning(name, part) for name, part in parts.items() if part.unknown)]
        if self._windows.unread > _UNREAD_SHARE * counts.training.symbols:
            notes.append(
                f"warning: the last {self._windows.unread:,} symbols of the training text fill no "
                f"window of {training.batch_size} x {training.window} and are not trained on; a "
                "smaller training.batch_size or training.window leaves fewer"
            )
        return notes

    def build(self, folder: Path, workers: Workers) -> None:
        """Makes model and updater."""
        config, training = self.config, self.config.training
        self._decoder = build_language_model(
            config.model,
            vocabulary=self._tokenizer.vocabulary_size,
            precision=resolve_precision(config.precision),
            seed=config.seed,
        )
        objective = LanguageModelObjective(
            self._decoder, rows=training.batch_size, label_smoothing=training.label_smoothing
        )
        self.updater = Updater(
            training, objective, seed=config.seed, shards=shards_of_a_batch(), workers=workers
        )
        self._model = LanguageModel(config, self._tokenizer, self._decoder)

    @contextmanager
    def batches(self, numbers: Iterable[int]) -> Iterator[Iterator[LocatedBatch]]:
        """The windows of some numbers, counted from 0, epoch after epoch without end."""

        def numbered() -> Iterator[LocatedBatch]:
            for number in numbers:
                epoch, step = divmod(number, self._windows.steps)
                inputs, targets = self._windows.window(step)
                where = f"window {step + 1} of {self._windows.steps} of epoch {epoch + 1}"
                batch = WindowBatch(inputs, targets, step == 0)
                yield LocatedBatch(epoch, batch, partial(str, where))

        yield numbered()

    def validate(self) -> Validation:
        """Loss, perplexity and bits per character of the validation text; a text drawn."""
        self._model.take_up_weights()
        score = self._model.score_ids(self._ids.validation, characters=self._validation_characters)
        scores = {
            "loss": score.loss,
            "perplexity": score.perplexity,
            "bits_per_character": score.bits_per_character,
            "accuracy": score.accuracy,
        }
        if score.unknown:  # which is easily foretold: the more of it, the better the rest seems
            scores["unknown"] = score.unknown / score.symbols
        validation = self.config.validation
        if not validation.sample_length:
            return Validation(scores, [])
        (text,) = self._model.generate(validation.prime, length=validation.sample_length)
        return Validation(scores, [{"sample": validation.prime + text}])

    def is_better(self, record: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
        """Whether the loss is lower."""
        return bool(record["loss"] < best["loss"])

    def headline(self, record: Mapping[str, Any]) -> str:
        """Its loss."""
        return f"loss {record['loss']:.4f}"


def _warning(name: str, part: PartCounts) -> str:
    examples = " ".join(repr(each) for each in part.examples)
    return (
        f"warning: {part.unknown:,} symbols of the {name} text are not in the vocabulary and are "
        f"scored as unknown, such as {examples}"
    )
