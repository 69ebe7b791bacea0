"""A trained language model: writes text after a beginning, and tells how likely a text is.

    model = LanguageModel.load("runs/anna")
    print(model.generate("The ", length=300, top_k=5)[0])
    print(model.perplexity("Happy families are all alike."))

TensorFlow is imported when a model is loaded, not before. What comes before a text is the end of a
line, so that its first symbol has a probability too, and an empty beginning is one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seq2seq.config import LanguageModelConfig, Precision
from seq2seq.config_file import load_language_model_config
from seq2seq.errors import NotANumberError, UsageError, check_whole_number
from seq2seq.model_files import TOKENIZER_FOLDER
from seq2seq.search_options import Sampling
from seq2seq.text_corpus import covering
from seq2seq.text_tokenizer import TextTokenizer, load_text_tokenizer

if TYPE_CHECKING:
    from seq2seq.decoder import Decoder
    from seq2seq.runtime import Device
    from seq2seq.search import Start

_WINDOW = 100  # symbols scored at a time, or fewer with large vocabularies ..
_LOGITS = 1 << 25  # .. so that their logits stay below 128 MB
_MOST_ROWS = 64
# A long text is scored in rows side by side. Each starts without what comes before it, which costs
# less the longer they are: of so many symbols, a few hundredths of a percent.
_ROW_SYMBOLS = 10_000
_DRAWN_AT_A_TIME = 64
_STREAMED_AT_A_TIME = 8
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class TextScore:
    """How likely a text is.

    Attributes:
        loss: Negative log-probability of a symbol given those before, nats.
        accuracy: Share of symbols that were the most likely ones.
        symbols: How many there are.
        characters: How many characters they are.
        unknown: Symbols that are not in the vocabulary: scored as "unknown", whatever they are.
    """

    loss: float
    accuracy: float
    symbols: int
    characters: int
    unknown: int

    @property
    def perplexity(self) -> float:
        """exp of the loss, or of 700 where that would be too large for a float."""
        from seq2seq.evaluation import perplexity  # slow to import

        return perplexity(self.loss)

    @property
    def bits_per_character(self) -> float:
        """Negative log-probability of the text in bits, shared out over its characters."""
        return self.loss * self.symbols / self.characters / math.log(2)

    @property
    def record(self) -> dict[str, float | int]:
        """All of it by name."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
            "accuracy": self.accuracy,
            "symbols": self.symbols,
            "characters": self.characters,
            "unknown": self.unknown,
        }


class LanguageModel:
    """A trained language model, loaded once; any number of threads may use it at a time."""

    def __init__(
        self, config: LanguageModelConfig, tokenizer: TextTokenizer, decoder: "Decoder"
    ) -> None:
        """For a model already in memory; `load` reads a model folder.

        Args:
            config: Of the model: defaults of generation are taken from it.
            tokenizer: Its symbols.
            decoder: With its weights set; if they are changed later, call `take_up_weights`.
        """
        from seq2seq.text_decoding import CompiledText

        self.config = config
        self.tokenizer = tokenizer
        self._compiled = CompiledText(decoder, tokenizer.textless_ids)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: "Device" = "auto",
        precision: Precision | None = None,
    ) -> "LanguageModel":
        """The best model of a model folder.

        Args:
            folder: What `seq2seq train` wrote.
            device: Where to run; `auto` takes a GPU if there is one.
            precision: Of the matrix products; None takes the configuration's.

        Raises:
            ModelError: `folder` has no language model, or something in it is missing or damaged.
            StorageError: A file cannot be read.
            UsageError: A GPU is asked for and there is none.
        """
        folder = Path(folder)
        config = load_language_model_config(folder)
        tokenizer = load_text_tokenizer(folder / TOKENIZER_FOLDER)

        from seq2seq.checkpoint import best_weight_shapes, with_best_weights
        from seq2seq.precision import resolve_precision
        from seq2seq.runtime import start_tensorflow

        shapes = best_weight_shapes(folder)  # damage is told of at once
        start_tensorflow(device)
        from seq2seq.models import build_language_model

        def make() -> "Decoder":
            return build_language_model(
                config.model,
                vocabulary=tokenizer.vocabulary_size,
                precision=resolve_precision(precision or config.precision),
            )

        return cls(config, tokenizer, with_best_weights(folder, shapes.values(), make))

    def take_up_weights(self) -> None:
        """Takes up the weights of the model as they are now, after they have been changed."""
        self._compiled.lay_out()

    def generate(
        self,
        prime: str = "",
        *,
        length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        samples: int = 1,
    ) -> list[str]:
        """What the model writes after `prime`, which is not repeated.

        Args:
            prime: The beginning; "" is the beginning of a line. Symbols that the model does not
                know are read as unknown, see `tokenizer.unknown`.
            length: Symbols of each text; this and the next three as configured if left out.
            temperature: Below 1 keeps closer to what is likely.
            top_k: Draws among the k most likely symbols only: 1 takes the likeliest, 0 all.
            top_p: Draws among the most likely of those that together have this share of their
                probability.
            seed: Equal seeds draw equal texts.
            samples: How many texts are drawn.

        Raises:
            UsageError: `prime` is not a str, or an option is out of range.
            NotANumberError: The model's output is not a number.
        """
        check_whole_number("samples", samples, at_least=1)
        length, sampling = self._options(length, temperature, top_k, top_p, seed)
        from seq2seq.runtime import memory_for

        with memory_for(f"{samples} samples at a time", advice="draw fewer"):
            start = self._begun(prime, samples)
            parts = list(self._drawn(start, length, sampling, _DRAWN_AT_A_TIME))
        return [self.tokenizer.decode(row) for row in np.concatenate(parts, axis=1)]

    def stream(
        self,
        prime: str = "",
        *,
        length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Iterator[str]:
        """One text as by `generate`, part by part as it is drawn."""
        length, sampling = self._options(length, temperature, top_k, top_p, seed)
        return self._streamed(self._begun(prime, 1), length, sampling)

    def log_probs(self, text: str) -> list[float]:
        """The log-probability of each symbol of `text` given those before, natural logarithms.

        Raises:
            UsageError: `text` is not a str.
            NotANumberError: The model's output is not a number.
        """
        log_probs, _ = self._scored(self._after_newline(text), rows=1)
        return [float(each) for each in log_probs]

    def perplexity(self, text: str) -> float:
        """exp of the mean negative log-probability of a symbol of `text`; see `score`."""
        return self.score(text).perplexity

    def score(self, text: str) -> TextScore:
        """How likely `text` is. A text of 20,000 symbols or more is scored in rows side by side.

        Raises:
            UsageError: `text` is not a str, or there is nothing in it.
            NotANumberError: The model's output is not a number.
        """
        ids = self._after_newline(text)
        if len(ids) < 2:
            raise UsageError("text: is empty; expected something to score")
        return self.score_ids(ids[1:], characters=len(text))

    def score_ids(self, ids: np.ndarray, *, characters: int) -> TextScore:
        """How likely a text is that is encoded already.

        Args:
            ids: `[T]` integers.
            characters: How many characters they are.

        Raises:
            UsageError: There are no ids, or the vocabulary does not have one of them.
            NotANumberError: The model's output is not a number.
        """
        size = self.tokenizer.vocabulary_size
        if not len(ids) or np.min(ids) < 0 or np.max(ids) >= size:
            raise UsageError(f"ids: expected one or more, from 0 to {size - 1}")
        whole = np.concatenate([[self.tokenizer.newline_id], ids]).astype(np.int32)
        rows = min(max(1, len(ids) // _ROW_SYMBOLS), _MOST_ROWS)
        log_probs, correct = self._scored(whole, rows=rows)
        unknown_id = self.tokenizer.unknown_id
        return TextScore(
            loss=-float(log_probs.sum()) / len(ids),
            accuracy=float(correct.sum()) / len(ids),
            symbols=len(ids),
            characters=characters,
            unknown=0 if unknown_id is None else int(np.count_nonzero(ids == unknown_id)),
        )

    def _options(
        self,
        length: int | None,
        temperature: float | None,
        top_k: int | None,
        top_p: float | None,
        seed: int,
    ) -> tuple[int, Sampling]:
        defaults = self.config.generation
        length = defaults.length if length is None else length
        check_whole_number("length", length, at_least=1)
        return length, Sampling(
            temperature=defaults.temperature if temperature is None else temperature,
            top_k=defaults.top_k if top_k is None else top_k,
            top_p=defaults.top_p if top_p is None else top_p,
            seed=seed,
        )

    def _after_newline(self, text: str) -> np.ndarray:
        """The ids of `text` after that of the end of a line, `[T]` int32."""
        if not isinstance(text, str):
            raise UsageError(f"text: got {type(text).__name__}, expected str")
        return np.concatenate([[self.tokenizer.newline_id], self.tokenizer.encode(text)]).astype(
            np.int32
        )

    def _drawn(
        self, start: "Start", length: int, sampling: Sampling, at_a_time: int
    ) -> Iterator[np.ndarray]:
        """Ids `[samples, up to at_a_time]` until there are `length`."""
        position = 0
        while position < length:
            part = min(at_a_time, length - position)
            drawn, start = self._compiled.draw(start, part, position=position, sampling=sampling)
            ids = drawn.numpy()
            if (ids < 0).any():
                raise NotANumberError("the model's output is not a number; its weights are damaged")
            position += part
            yield ids

    def _begun(self, prime: str, samples: int) -> "Start":
        from seq2seq.search import Start
        from seq2seq.search_loop import repeat_rows

        ids = self._after_newline(prime)
        state = self._compiled.zero_state(1)
        for first in range(0, len(ids) - 1, _WINDOW):
            part = ids[first : min(first + _WINDOW, len(ids) - 1)]
            state = self._compiled.read(part[None], state)
        return Start(np.full(samples, ids[-1], np.int32), repeat_rows(state, samples))

    def _streamed(self, start: "Start", length: int, sampling: Sampling) -> Iterator[str]:
        waiting: list[int] = []  # bytes of which no whole character is known yet
        for ids in self._drawn(start, length, sampling, _STREAMED_AT_A_TIME):
            waiting += ids[0].tolist()
            whole = len(waiting)
            while (text := self.tokenizer.decode(waiting[:whole])).endswith(_REPLACEMENT):
                whole -= 1  # not yet known what they are, or how many that are nothing
            yield text
            waiting = waiting[whole:]
        if waiting:
            yield self.tokenizer.decode(waiting)

    def _scored(self, ids: np.ndarray, *, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities of all `ids` but the first, and which were most likely, `[T - 1]`."""
        if len(ids) < 2:
            return np.zeros(0), np.zeros(0)
        length = max(1, min(_WINDOW, _LOGITS // (rows * self.tokenizer.vocabulary_size)))
        log_probs, correct = [], []
        from seq2seq.runtime import memory_for

        with memory_for("the text to score", advice="free some, or score a shorter one"):
            state = self._compiled.zero_state(min(rows, len(ids) - 1))
            for inputs, targets, lengths in covering(ids, rows, length):
                scores, state = self._compiled.score(inputs, targets, lengths, state)
                real = np.arange(targets.shape[1]) < lengths[:, None]
                log_probs.append(np.where(real, scores.log_probs, np.nan))
                correct.append(np.where(real, scores.correct, np.nan))
        found = np.concatenate(log_probs, axis=1).astype(np.float64)
        if not np.isfinite(found).sum() == len(ids) - 1:
            raise NotANumberError("the model's output is not a number; its weights are damaged")
        is_real = ~np.isnan(found)
        return found[is_real], np.concatenate(correct, axis=1)[is_real]
