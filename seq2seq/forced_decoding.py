"""What models make of translations that are given: the log-probability of each piece, attention.

Shapes: B sentences, S source length, T target length.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from seq2seq.batches import padded
from seq2seq.errors import NotANumberError, check_whole_number
from seq2seq.sentences import Sentence, longest_first
from seq2seq.tokenizer import TokenizerPair
from seq2seq.translation import END, Details

if TYPE_CHECKING:
    from seq2seq.decoding import CompiledForced
    from seq2seq.models import TranslationModel

# Most logits of a batch: 256 MB of float32.
_LOGITS = 1 << 26


class ForcedDecoding:
    """Tells what one model or an ensemble makes of given translations, in any number of threads."""

    def __init__(self, models: Sequence["TranslationModel"], tokenizers: TokenizerPair) -> None:
        self._models = models
        self._tokenizers = tokenizers
        self._compiled: CompiledForced | None = None
        self._lock = threading.Lock()

    def explain(
        self, sentences: Sequence[Sentence], targets: Sequence[Sequence[int]], *, batch_size: int
    ) -> Iterator[tuple[int, Details]]:
        """The row and `Details` of each target as the translation of its sentence, in any order.

        Args:
            sentences: Sources.
            targets: Target ids of each, end of sentence included.
            batch_size: Most sentences at a time.

        Raises:
            UsageError: `batch_size` is below 1, or there is not enough memory.
            NotANumberError: The models' output is not a number.
        """
        check_whole_number("batch size", batch_size, at_least=1)
        lengths = {row: len(target) for row, target in enumerate(targets)}
        most = _LOGITS // self._tokenizers.target.vocabulary_size
        for rows in longest_first(lengths, batch_size=batch_size, batch_tokens=most):
            found = self._explained(
                [sentences[row] for row in rows], [targets[row] for row in rows]
            )
            yield from zip(rows, found, strict=True)

    def nothing(self) -> Details:
        """Those of the translation of a blank text."""
        attends = any(model.decoder.attention is not None for model in self._models)
        attention = np.zeros((0, 1), np.float32) if attends else None
        return Details(source=[END], target=[], log_probs=[], attention=attention)

    def _explained(
        self, sentences: Sequence[Sentence], targets: Sequence[Sequence[int]]
    ) -> list[Details]:
        """Of one batch."""
        from seq2seq.runtime import memory_for

        ends = self._tokenizers.source.eos_id, self._tokenizers.target.eos_id
        source, source_lengths = padded([sentence.ids for sentence in sentences], ends[0])
        target, target_lengths = padded(targets, ends[1])
        with memory_for(f"{len(sentences)} sentences at a time", advice="lower the batch size"):
            found = self._compile()(source, source_lengths, target, target_lengths)
        log_probs = found.log_probs.numpy()  # [B, T]
        attention = None if found.attention is None else found.attention.numpy()
        explained = []
        for row, (sentence, ids) in enumerate(zip(sentences, targets, strict=True)):
            check_probability(float(log_probs[row].sum()), sentence)
            looked = None
            if attention is not None:  # [B, T, S]
                looked = attention[row, : len(ids), : len(sentence.ids)].copy()
            explained.append(
                Details(
                    source=[*self._tokenizers.source.pieces(sentence.ids[:-1]), END],
                    target=self._shown(ids),
                    log_probs=log_probs[row, : len(ids)].tolist(),
                    attention=looked,
                )
            )
        return explained

    def _shown(self, ids: Sequence[int]) -> list[str]:
        """The pieces of target ids, the end of sentence as `END`."""
        tokenizer = self._tokenizers.target
        ended = bool(ids) and ids[-1] == tokenizer.eos_id
        return [*tokenizer.pieces(ids[:-1]), END] if ended else tokenizer.pieces(ids)

    def _compile(self) -> "CompiledForced":
        from seq2seq.decoding import CompiledForced

        with self._lock:  # else threads that meet here would all compile
            if self._compiled is None:
                self._compiled = CompiledForced(self._models, self._tokenizers.target.bos_id)
            return self._compiled


def check_probability(log_prob: float, sentence: Sentence) -> None:
    """Checks the log-probability of a translation of `sentence`.

    Raises:
        NotANumberError: It is none.
    """
    if not math.isfinite(log_prob):
        raise NotANumberError(
            f"sentence {sentence.number}: the model's output is not a number; its weights are "
            "damaged"
        )
