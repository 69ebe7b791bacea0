"""Strings in, strings out: a trained model that translates texts and scores translations.

    translator = Translator.load("runs/multi30k")
    for translation in translator.translate(["A dog runs."]):
        print(translation.text, translation.score)

TensorFlow is imported when a model is loaded, not before. Shapes: B sentences, S source length,
T target length, K beam, V vocabulary.
"""

import math
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from seq2seq.config import Config, DecodingConfig, load_model_config
from seq2seq.errors import DataError, UsageError
from seq2seq.tokenizer import Tokenizer, TokenizerPair

if TYPE_CHECKING:
    from seq2seq.models import TranslationModel
    from seq2seq.runtime import Device
    from seq2seq.search import Hypotheses, Limits, Start

TOKENIZER_FOLDER = "tokenizer"

# Texts read ahead, in batches: enough for batches of like lengths, few enough to hold any input.
_WINDOW_BATCHES = 16
# Most logits a scoring batch may have: 256 MB of float32.
_SCORING_LOGITS = 1 << 26

# Greatest `max_length`.
_MOST_PIECES = 10_000


@dataclass(frozen=True)
class Hypothesis:
    """One translation of one text.

    Attributes:
        text: Plain text, always one line.
        score: What hypotheses are ranked by: `log_prob` divided by the length penalty of Wu et al.
            2016, sec. 7.
        log_prob: Natural logarithm of its probability, end of sentence included.
        pieces: The target pieces, without the end of sentence.
        truncated: It was cut at the greatest length, before the model ended it.
    """

    text: str
    score: float
    log_prob: float
    pieces: list[str]
    truncated: bool


@dataclass(frozen=True)
class Translation:
    """The translations found for one text; `text`, `score` and so on are those of the best.

    Attributes:
        source: The text as it was given.
        hypotheses: Best first, at least one.
        source_pieces: How many pieces the text has.
        source_unknown: How many of them stand for characters the vocabulary lacks.
        source_truncated: Only the first pieces were translated: the text is longer than any the
            model was trained on (`data.max_source_length`).
    """

    source: str
    hypotheses: list[Hypothesis]
    source_pieces: int = 0
    source_unknown: int = 0
    source_truncated: bool = False

    @property
    def text(self) -> str:
        """The best hypothesis's text."""
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        """The best hypothesis's score."""
        return self.hypotheses[0].score

    @property
    def log_prob(self) -> float:
        """The best hypothesis's log-probability."""
        return self.hypotheses[0].log_prob

    @property
    def pieces(self) -> list[str]:
        """The best hypothesis's pieces."""
        return self.hypotheses[0].pieces

    @property
    def truncated(self) -> bool:
        """Whether the best hypothesis was cut."""
        return self.hypotheses[0].truncated


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Draw translations from the model instead of searching for the most likely one.

    Attributes:
        temperature: Logits are divided by it; below 1 prefers likely pieces more.
        top_k: Draw among the k most likely pieces only; 0 draws among all.
        top_p: Draw among the most likely pieces that together have this probability.
        seed: Equal seeds draw equal translations.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise UsageError(f"temperature: got {self.temperature}, expected a number above 0")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p: got {self.top_p}, expected a number above 0, at most 1")
        _check_whole_number("top-k", self.top_k, at_least=0)
        _check_whole_number("seed", self.seed, at_least=0)
        if self.seed >= 1 << 63:
            raise UsageError(f"seed: got {self.seed}, expected less than 2 ** 63")


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search, every default filled in; made by `search_options`."""

    beam_size: int
    n_best: int
    length_penalty: float
    batch_size: int
    max_length: int | None
    max_length_ratio: float
    max_length_offset: int
    sampling: Sampling | None

    @property
    def window_size(self) -> int:
        """Texts read ahead to be put into batches, which never reach beyond such a window.

        Translating from the start of any window on gives what translating all gives from there.
        """
        return self.batch_size * _WINDOW_BATCHES

    def target_length(self, source_pieces: int) -> int:
        """The greatest length of a translation in pieces, end of sentence included."""
        if self.max_length is not None:
            return self.max_length
        return max(1, int(self.max_length_ratio * source_pieces + self.max_length_offset))


def search_options(
    decoding: DecodingConfig,
    *,
    beam_size: int | None = None,
    n_best: int = 1,
    length_penalty: float | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    sampling: Sampling | None = None,
) -> SearchOptions:
    """The options of `Translator.translate`, checked; what is None comes from `decoding`.

    Raises:
        UsageError: A value out of range, or options that exclude each other.
    """
    if sampling is not None and beam_size is not None:
        raise UsageError("sampling has no beam: give a beam size or sample, not both")
    if beam_size is None:
        beam_size = decoding.beam_size if sampling is None else 1
    if length_penalty is None:
        length_penalty = decoding.length_penalty
    _check_whole_number("beam size", beam_size, at_least=1)
    _check_whole_number("n-best", n_best, at_least=1)
    _check_whole_number("batch size", batch_size, at_least=1)
    if max_length is not None:
        _check_whole_number("max length", max_length, at_least=1)
        if max_length > _MOST_PIECES:  # room for them is set aside beforehand
            raise UsageError(f"max length: got {max_length}, expected at most {_MOST_PIECES}")
    if not (length_penalty >= 0 and math.isfinite(length_penalty)):
        raise UsageError(f"length penalty: got {length_penalty}, expected a number of 0 or more")
    if n_best > beam_size:
        found = "a sample is one" if sampling else f"a beam of {beam_size} finds no more than that"
        raise UsageError(f"n-best: got {n_best} hypotheses, but {found}")
    return SearchOptions(
        beam_size=beam_size,
        n_best=n_best,
        length_penalty=float(length_penalty),
        batch_size=batch_size,
        max_length=max_length,
        max_length_ratio=decoding.max_length_ratio,
        max_length_offset=decoding.max_length_offset,
        sampling=sampling,
    )


class _Sentence(NamedTuple):
    """A text ready for the model.

    Attributes:
        number: Its place in the input, from 1.
        ids: Source ids, end of sentence included.
        kept: Pieces among them; 0 if the text is blank.
        pieces: Pieces of the whole text.
        unknown: Kept ones that stand for characters the vocabulary lacks.
    """

    number: int
    ids: list[int]
    kept: int
    pieces: int
    unknown: int


class Translator:
    """A trained model, loaded once; any number of threads may use it at a time."""

    def __init__(self, config: Config, tokenizers: TokenizerPair, model: "TranslationModel"):
        """For models already in memory; `load` reads a model folder.

        Args:
            config: Of the model: lengths and decoding defaults are taken from it.
            tokenizers: Source and target.
            model: With its weights set.
        """
        self.config = config
        self.tokenizers = tokenizers
        self._model = model
        self._compiled: dict[Hashable, Callable[..., Any]] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: "Device" = "auto",
        precision: Literal["auto", "float32", "bfloat16"] | None = None,
    ) -> "Translator":
        """The best model of a model folder.

        Args:
            folder: What `seq2seq train` wrote.
            device: Where to run; `auto` takes a GPU if there is one.
            precision: Of the matrix products; None takes the configuration's.

        Raises:
            ModelError: `folder` is no model folder, or something in it is missing or damaged.
            UsageError: A GPU is asked for and there is none.
        """
        folder = Path(folder)
        config = load_model_config(folder)
        tokenizers = TokenizerPair.load(folder / TOKENIZER_FOLDER)

        from seq2seq.runtime import resolve_precision, start_tensorflow

        start_tensorflow(device)

        from seq2seq.checkpoint import load_best_weights  # heavy, like models
        from seq2seq.models import build_model

        weights = load_best_weights(folder)
        model = build_model(
            config.model,
            source_vocabulary=tokenizers.source.vocabulary_size,
            target_vocabulary=tokenizers.target.vocabulary_size,
            precision=resolve_precision(precision or config.precision),
        )
        model.load(weights)
        return cls(config, tokenizers, model)

    def translate(
        self,
        texts: Iterable[str],
        *,
        beam_size: int | None = None,
        n_best: int = 1,
        length_penalty: float | None = None,
        batch_size: int = 64,
        max_length: int | None = None,
        sampling: Sampling | None = None,
    ) -> list[Translation]:
        """Translates every text, in order.

        A blank text has the empty translation. The result for a text depends on that text and the
        options alone, not on its neighbours.

        Args:
            texts: One sentence each; a list even if it is one.
            beam_size: Hypotheses followed at a time; 1 is greedy search. None: as configured.
            n_best: Hypotheses returned for each text, at most `beam_size`.
            length_penalty: Alpha of Wu et al. 2016, sec. 7; 0 favours short translations. None:
                as configured.
            batch_size: Sentences translated at a time; a matter of speed only.
            max_length: Most pieces of a translation, end of sentence included. None: in
                proportion to the source, as configured.
            sampling: Draw instead of search.

        Raises:
            UsageError: `texts` is not an iterable of str, or an option is out of range.
            DataError: A text is not valid Unicode.
            FloatingPointError: The model's output is not a number.
        """
        return list(
            self.translate_iter(
                texts,
                beam_size=beam_size,
                n_best=n_best,
                length_penalty=length_penalty,
                batch_size=batch_size,
                max_length=max_length,
                sampling=sampling,
            )
        )

    def translate_iter(
        self,
        texts: Iterable[str],
        *,
        beam_size: int | None = None,
        n_best: int = 1,
        length_penalty: float | None = None,
        batch_size: int = 64,
        max_length: int | None = None,
        sampling: Sampling | None = None,
        ready: Callable[[], bool] | None = None,
        first_number: int = 1,
    ) -> Iterator[Translation]:
        """Translates a stream of any length as it is read, in order; see `translate`.

        Some batches of texts are read ahead, so that sentences of like length can share a batch.
        What `texts` raises, and any fault in a text, comes up after the translations of all texts
        before it.

        Args:
            texts: Any iterable, such as a file being read.
            beam_size: See `translate`, as for all up to `sampling`.
            n_best: See there.
            length_penalty: See there.
            batch_size: See there.
            max_length: See there.
            sampling: See there.
            ready: Says whether the next text can be had without waiting for it. Where it cannot,
                the texts read so far are translated first, so that whoever sends them one by one
                has each answered before sending the next.
            first_number: The number of the first text: errors name a text by its number, and
                sampling draws by it.
        """
        _check_not_one_text("texts", texts)
        options = search_options(
            self.config.decoding,
            beam_size=beam_size,
            n_best=n_best,
            length_penalty=length_penalty,
            batch_size=batch_size,
            max_length=max_length,
            sampling=sampling,
        )
        vocabulary = self.tokenizers.target.vocabulary_size
        if options.beam_size > vocabulary:
            raise UsageError(
                f"beam size: got {options.beam_size}, more than the {vocabulary} pieces of the "
                "target vocabulary"
            )
        return self._stream(texts, options, ready, first_number=first_number)

    def score(
        self, sources: Iterable[str], targets: Iterable[str], *, batch_size: int = 64
    ) -> list[float]:
        """The log-probability of each target as the translation of its source (forced decoding).

        Natural logarithms, end of sentence included: what `Hypothesis.log_prob` is.

        Raises:
            UsageError: `sources` or `targets` is not an iterable of str.
            DataError: Not as many targets as sources, or a text that is not valid Unicode.
            FloatingPointError: The model's output is not a number.
        """
        _check_whole_number("batch size", batch_size, at_least=1)
        source_texts = _checked_texts("sources", sources)
        target_texts = _checked_texts("targets", targets)
        if len(source_texts) != len(target_texts):
            raise DataError(
                f"{len(source_texts)} sources, but {len(target_texts)} targets; each source needs "
                "its own target"
            )
        encoded = self._encode(source_texts, first_number=1)
        end = self.tokenizers.target.eos_id
        target_ids = [[*ids, end] for ids in self.tokenizers.target.encode_batch(target_texts)]
        scores = [0.0] * len(encoded)
        for rows in self._scoring_batches(target_ids, batch_size):
            batch = [encoded[row] for row in rows]
            found = self._score_batch(batch, [target_ids[row] for row in rows])
            for row, log_prob in zip(rows, found, strict=True):
                scores[row] = log_prob
        return scores

    def _stream(
        self,
        texts: Iterable[str],
        options: SearchOptions,
        ready: Callable[[], bool] | None,
        *,
        first_number: int,
    ) -> Iterator[Translation]:
        number = first_number
        for window in _windows(texts, size=options.window_size, ready=ready):
            yield from self._translate_window(window, options, first_number=number)
            number += len(window)

    def _translate_window(
        self, texts: Sequence[str], options: SearchOptions, *, first_number: int
    ) -> list[Translation]:
        """The translations of texts held in memory, in their order."""
        sentences = self._encode(texts, first_number=first_number)
        found = [[Hypothesis("", 0.0, 0.0, [], truncated=False)] for _ in sentences]
        # Longest first: the batch that needs most memory is met at once, not at the end.
        rows = [row for row, sentence in enumerate(sentences) if sentence.kept]
        rows.sort(key=lambda row: -len(sentences[row].ids))
        for first in range(0, len(rows), options.batch_size):
            batch = rows[first : first + options.batch_size]
            hypotheses = self._search([sentences[row] for row in batch], options)
            for row, row_hypotheses in zip(batch, hypotheses, strict=True):
                found[row] = row_hypotheses
        return [
            Translation(
                source=text,
                hypotheses=hypotheses,
                source_pieces=sentence.pieces,
                source_unknown=sentence.unknown,
                source_truncated=sentence.kept < sentence.pieces,
            )
            for text, hypotheses, sentence in zip(texts, found, sentences, strict=True)
        ]

    def _encode(self, texts: Sequence[str], *, first_number: int) -> list[_Sentence]:
        """The source ids of each text, cut to the model's greatest length; none if blank."""
        tokenizer = self.tokenizers.source
        most = max(1, self.config.data.max_source_length - 1)  # the end of sentence counts
        sentences = []
        for number, (text, ids) in enumerate(
            zip(texts, tokenizer.encode_batch(texts), strict=True), start=first_number
        ):
            if not text.strip():
                ids = []
            kept = ids[:most]
            sentences.append(
                _Sentence(
                    number=number,
                    ids=[*kept, tokenizer.eos_id],
                    kept=len(kept),
                    pieces=len(ids),
                    unknown=kept.count(tokenizer.unk_id),
                )
            )
        return sentences

    def _search(
        self, sentences: Sequence[_Sentence], options: SearchOptions
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each sentence of one batch."""
        sampling = options.sampling or Sampling()
        rows = _batch_rows(len(sentences))
        source, source_lengths = _padded(
            [sentence.ids for sentence in sentences], rows, self.tokenizers.source.eos_id
        )
        max_lengths = np.zeros(rows, np.int32)  # 0: rows that only fill up the batch end at once
        max_lengths[: len(sentences)] = [options.target_length(s.kept) for s in sentences]
        numbers = np.zeros(rows, np.int64)
        numbers[: len(sentences)] = [sentence.number for sentence in sentences]
        inputs = _SearchInputs(
            source=source,
            source_lengths=source_lengths,
            max_lengths=max_lengths,
            numbers=numbers,
            length_penalty=np.float32(options.length_penalty),
            temperature=np.float32(sampling.temperature),
            top_p=np.float32(sampling.top_p),
            seed=np.int64(sampling.seed),
        )
        arrays = _Found(*(array.numpy() for array in self._compiled_search(options)(inputs)))
        return [self._hypotheses(arrays, row, sentence) for row, sentence in enumerate(sentences)]

    def _hypotheses(self, found: "_Found", row: int, sentence: _Sentence) -> list[Hypothesis]:
        """Those of one row, best first."""
        tokenizer = self.tokenizers.target
        hypotheses = []
        _check_probability(float(found.log_probs[row, 0]), sentence)
        for k, length in enumerate(found.lengths[row].tolist()):
            if not length:  # fewer exist than were asked for
                break
            ids = found.ids[row, k, :length].tolist()
            ended = ids[-1] == tokenizer.eos_id
            ids = ids[:-1] if ended else ids
            hypotheses.append(
                Hypothesis(
                    text=tokenizer.decode(ids),
                    score=float(found.scores[row, k]),
                    log_prob=float(found.log_probs[row, k]),
                    pieces=tokenizer.pieces(ids),
                    truncated=not ended,
                )
            )
        return hypotheses

    def _score_batch(
        self, sentences: Sequence[_Sentence], targets: Sequence[Sequence[int]]
    ) -> list[float]:
        """The log-probability of each target of one batch."""
        rows = _batch_rows(len(sentences))
        source, source_lengths = _padded(
            [sentence.ids for sentence in sentences], rows, self.tokenizers.source.eos_id
        )
        target, target_lengths = _padded(targets, rows, self.tokenizers.target.eos_id)
        found = self._compiled_scoring()(source, source_lengths, target, target_lengths)
        log_probs: list[float] = found.numpy()[: len(sentences)].tolist()
        for sentence, log_prob in zip(sentences, log_probs, strict=True):
            _check_probability(log_prob, sentence)
        return log_probs

    def _scoring_batches(
        self, targets: Sequence[Sequence[int]], batch_size: int
    ) -> Iterator[list[int]]:
        """The rows of each batch, longest targets first; few rows where targets are long."""
        most_tokens = _SCORING_LOGITS // self.tokenizers.target.vocabulary_size
        rows = sorted(range(len(targets)), key=lambda row: -len(targets[row]))
        while rows:
            size = max(1, min(batch_size, most_tokens // len(targets[rows[0]])))
            yield rows[:size]
            rows = rows[size:]

    def _compiled_search(self, options: SearchOptions) -> Callable[..., Any]:
        sampling = options.sampling
        kind = _SearchKind(
            sampled=sampling is not None,
            beam_size=options.beam_size,
            n_best=options.n_best,
            top_k=sampling.top_k if sampling else 0,
        )
        with self._lock:  # else threads that meet here would all compile
            if kind not in self._compiled:
                tokenizer = self.tokenizers.target
                self._compiled[kind] = _compile_search(self._model, tokenizer, kind)
            return self._compiled[kind]

    def _compiled_scoring(self) -> Callable[..., Any]:
        with self._lock:
            if "scoring" not in self._compiled:
                bos_id = self.tokenizers.target.bos_id
                self._compiled["scoring"] = _compile_scoring(self._model, bos_id)
            return self._compiled["scoring"]


class _SearchKind(NamedTuple):
    """What a search is compiled for; all else is given to it at each call."""

    sampled: bool
    beam_size: int
    n_best: int
    top_k: int


class _SearchInputs(NamedTuple):
    """What a compiled search is given.

    Attributes:
        source: `[B, S]` int32.
        source_lengths: `[B]` int32.
        max_lengths: `[B]` int32, most ids of each translation.
        numbers: `[B]` int64, the place of each sentence in the input: its share of random numbers.
        length_penalty: A number, as are the rest.
        temperature: Of sampling.
        top_p: Of sampling.
        seed: Of sampling, int64.
    """

    source: Any
    source_lengths: Any
    max_lengths: Any
    numbers: Any
    length_penalty: Any
    temperature: Any
    top_p: Any
    seed: Any


class _Found(NamedTuple):
    """What a compiled search returns: see `seq2seq.search.Hypotheses`; scores `[B, K]`."""

    ids: Any
    lengths: Any
    log_probs: Any
    scores: Any


def _compile_search(
    model: "TranslationModel", tokenizer: Tokenizer, kind: _SearchKind
) -> Callable[..., Any]:
    """`_SearchInputs` to `_Found`, traced once for all batch sizes and lengths."""
    import tensorflow as tf

    from seq2seq.search import Limits, Start, ranking_score

    # None of these is text. A tokenizer without padding has the end id for it.
    forbidden = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id} - {tokenizer.eos_id}
    signature = _SearchInputs(
        source=tf.TensorSpec([None, None], tf.int32),
        source_lengths=tf.TensorSpec([None], tf.int32),
        max_lengths=tf.TensorSpec([None], tf.int32),
        numbers=tf.TensorSpec([None], tf.int64),
        length_penalty=tf.TensorSpec([], tf.float32),
        temperature=tf.TensorSpec([], tf.float32),
        top_p=tf.TensorSpec([], tf.float32),
        seed=tf.TensorSpec([], tf.int64),
    )

    # There is no Python control flow to rewrite, and without autograph tracing is much faster.
    @tf.function(input_signature=[signature], autograph=False)
    def search(inputs: _SearchInputs) -> _Found:
        state, memory = model.begin(inputs.source, inputs.source_lengths)
        start = Start(tf.fill(tf.shape(inputs.numbers), tokenizer.bos_id), state, memory)
        limits = Limits(tokenizer.eos_id, inputs.max_lengths, tuple(sorted(forbidden)))
        found = _searched(model.stepper(), start, limits, kind=kind, inputs=inputs)
        scores = ranking_score(found.log_probs, found.lengths, inputs.length_penalty)
        return _Found(found.ids, found.lengths, found.log_probs, scores)

    search.get_concrete_function()  # traced now, while the caller holds the lock
    return search


def _searched(
    step: Any, start: "Start", limits: "Limits", *, kind: _SearchKind, inputs: _SearchInputs
) -> "Hypotheses":
    from seq2seq.search import beam_search, greedy_search, sample

    if kind.sampled:
        return sample(
            step,
            start,
            limits,
            seed=inputs.seed,
            temperature=inputs.temperature,
            top_k=kind.top_k,
            top_p=inputs.top_p,
            rows=inputs.numbers,
        )
    if kind.beam_size == 1:
        return greedy_search(step, start, limits)
    return beam_search(
        step,
        start,
        limits,
        beam_size=kind.beam_size,
        length_penalty=inputs.length_penalty,
        n_best=kind.n_best,
    )


def _compile_scoring(model: "TranslationModel", bos_id: int) -> Callable[..., Any]:
    """(source `[B, S]`, its lengths `[B]`, target `[B, T]`, its lengths) to log-probs `[B]`."""
    import tensorflow as tf

    from seq2seq.models import shift_right

    ids, lengths = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)

    @tf.function(input_signature=[ids, lengths, ids, lengths], autograph=False)
    def score(source, source_lengths, target, target_lengths):  # type: ignore[no-untyped-def]
        logits = model.logits(source, source_lengths, shift_right(target, bos_id))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
        real = tf.sequence_mask(target_lengths, tf.shape(target)[1], dtype=losses.dtype)
        return -tf.reduce_sum(losses * real, axis=1)

    score.get_concrete_function()
    return score


def _windows(
    texts: Iterable[str], *, size: int, ready: Callable[[], bool] | None
) -> Iterator[list[str]]:
    """`texts` in lists of at most `size`; what reading raises comes after what was read before."""
    window: list[str] = []
    numbered = enumerate(texts)
    while True:
        try:
            index, text = next(numbered)
            _check_text("texts", index, text)
        except StopIteration:
            if window:
                yield window
            return
        except Exception:
            if window:
                yield window
            raise
        window.append(text)
        if len(window) == size or (ready is not None and not ready()):
            yield window
            window = []


def _padded(
    sequences: Sequence[Sequence[int]], rows: int, end_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ids `[rows, longest]` int32 and lengths `[rows]` int32; surplus rows are one end id long."""
    lengths = np.ones(rows, np.int32)
    lengths[: len(sequences)] = [len(sequence) for sequence in sequences]
    ids = np.full((rows, lengths.max()), end_id, np.int32)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    return ids, lengths


def _batch_rows(sentences: int) -> int:
    """Rows of a batch, some of them to fill it up: 1, 2, 4, 8, or a multiple of 16.

    Parts of the model are compiled anew for each number of rows, so there are few.
    """
    if sentences <= 8:
        return 1 << (sentences - 1).bit_length()
    return -(-sentences // 16) * 16


def _checked_texts(name: str, texts: Iterable[str]) -> list[str]:
    _check_not_one_text(name, texts)
    checked = list(texts)
    for index, text in enumerate(checked):
        _check_text(name, index, text)
    return checked


def _check_not_one_text(name: str, texts: object) -> None:
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise UsageError(
            f"{name}: got {type(texts).__name__}, expected a list of str; put one text in a list "
            "as well"
        )


def _check_text(name: str, index: int, text: object) -> None:
    if not isinstance(text, str):
        raise UsageError(f"{name}[{index}]: got {type(text).__name__}, expected str")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as err:
        raise DataError(
            f"{name}[{index}]: not valid Unicode: a lone surrogate at character {err.start}"
        ) from err


def _check_whole_number(name: str, value: object, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise UsageError(f"{name}: got {value!r}, expected a whole number of {at_least} or more")


def _check_probability(log_prob: float, sentence: _Sentence) -> None:
    if not math.isfinite(log_prob):
        raise FloatingPointError(
            f"sentence {sentence.number}: the model's output is not a number; its weights are "
            "damaged"
        )
