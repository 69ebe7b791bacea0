"""The work that is measured: batches of real text, or of random ids."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.batches import Batch, padded
from seq2seq.config import ModelConfig, TokenizerConfig, TrainingConfig
from seq2seq.errors import DataError
from seq2seq.lines import read_lines
from seq2seq.tokenizer import Tokenizer, train_tokenizer

MODEL = ModelConfig(
    embedding_size=256,
    encoder_layers=2,
    encoder_units=256,
    bidirectional=True,
    decoder_layers=2,
    decoder_units=512,
    attention="luong",
    bridge="dense",
    tied_embeddings="none",
    dropout=0.2,
)
TRAINING = TrainingConfig(learning_rate=1e-3, label_smoothing=0.1, gradient_norm=1.0)


class Workload(NamedTuple):
    """Batches and what a model must know of their ids."""

    batches: list[Batch]
    vocabulary: int
    bos_id: int

    @property
    def target_tokens(self) -> int:
        """Real target tokens of all batches, end of sentence included."""
        return sum(int(batch.target_lengths.sum()) for batch in self.batches)


def real_workload(
    source: Path, target: Path, *, vocabulary: int, sentences: int, steps: int, folder: Path
) -> Workload:
    """`steps` batches of `sentences` pairs of like lengths, in one joint vocabulary.

    Writes the same text as pieces to `folder` (vocab.txt, train.sp.en, train.sp.de), for programs
    that read it so; they find the same batches if they sort and shuffle it in the same way, and
    leave out the first three to warm up.

    Raises:
        DataError: The text has fewer batches.
    """
    texts = [list(read_lines(path)) for path in (source, target)]
    options = TokenizerConfig(vocabulary_size=vocabulary)
    tokenizer = train_tokenizer([*texts[0], *texts[1]], options)
    folder.mkdir(parents=True, exist_ok=True)
    pieces = "\n".join(tokenizer.pieces(range(tokenizer.vocabulary_size)))
    (folder / "vocab.txt").write_text(pieces + "\n", encoding="utf-8", newline="\n")
    sides = [tokenizer.encode_batch(lines) for lines in texts]
    for side, name in zip(sides, ("en", "de"), strict=True):
        lines = "".join(" ".join(tokenizer.pieces(ids)) + "\n" for ids in side)
        (folder / f"train.sp.{name}").write_text(lines, encoding="utf-8", newline="\n")
    sources, targets = [[[*ids, tokenizer.eos_id] for ids in side] for side in sides]
    order = sorted(range(len(sources)), key=lambda row: (len(targets[row]), len(sources[row])))
    starts = list(range(0, len(order) - sentences + 1, sentences))
    if len(starts) < 3 + steps:
        raise DataError(
            f"{source}: {len(starts)} batches of {sentences} pairs, expected at least {3 + steps}: "
            "three to warm up, and those that are measured"
        )
    random.Random(0).shuffle(starts)
    batches = [
        _batch(order[start : start + sentences], sources, targets, tokenizer)
        for start in starts[3 : 3 + steps]
    ]
    return Workload(batches, tokenizer.vocabulary_size, tokenizer.bos_id)


def random_workload(*, vocabulary: int, sentences: int, length: int, steps: int) -> Workload:
    """Batches of random ids, all sentences of one length: for what does not depend on text."""
    random_ids = np.random.default_rng(1)
    lengths = np.full([sentences], length, np.int32)
    rows = np.arange(sentences)

    def ids() -> np.ndarray:
        return random_ids.integers(4, vocabulary, [sentences, length], np.int32)

    batches = [Batch(ids(), lengths, ids(), lengths, rows) for _ in range(steps)]
    return Workload(batches, vocabulary, bos_id=2)


def _batch(
    rows: Sequence[int],
    sources: Sequence[list[int]],
    targets: Sequence[list[int]],
    tokenizer: Tokenizer,
) -> Batch:
    source = padded([sources[row] for row in rows], tokenizer.pad_id)
    target = padded([targets[row] for row in rows], tokenizer.pad_id)
    return Batch(*source, *target, np.array(rows))
