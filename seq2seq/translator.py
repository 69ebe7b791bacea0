"""Strings in, strings out: a trained model that translates texts and scores translations.

    translator = Translator.load("runs/multi30k")
    for translation in translator.translate(["A dog runs."]):
        print(translation.text, translation.score)

TensorFlow is imported when a model is loaded, not before. Shapes: B sentences, S source length,
T target length, K beam, V vocabulary.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from seq2seq.config import Config, Precision
from seq2seq.config_file import dump_config, load_model_config
from seq2seq.errors import DataError, ModelError, UsageError
from seq2seq.forced_decoding import ForcedDecoding, check_probability
from seq2seq.model_files import TOKENIZER_FOLDER
from seq2seq.search_options import (
    Options,
    Sampling,
    SearchOptions,
    search_options,
)
from seq2seq.sentences import (
    Request,
    Sentence,
    batch_of,
    batches_of,
    check_not_one_text,
    checked_texts,
    encoded,
    requests_of,
    windows,
)
from seq2seq.side_by_side import side_by_side
from seq2seq.tokenizer import TokenizerPair
from seq2seq.translation import Details, Hypothesis, Translation

if TYPE_CHECKING:
    from seq2seq.decoding import CompiledSearch, Layouts, SearchKind
    from seq2seq.models import TranslationModel
    from seq2seq.runtime import Device
    from seq2seq.search import Hypotheses

__all__ = ["Details", "Hypothesis", "Options", "Sampling", "Translation", "Translator"]

# Kinds of search that are kept: what is banned, for one, makes kinds without end.
_MOST_COMPILED = 32


class Translator:
    """A trained model, loaded once; any number of threads may use it at a time.

    Attributes:
        config: Of the model.
        tokenizers: Source and target.
        models: One, or an ensemble.
    """

    def __init__(
        self,
        config: Config,
        tokenizers: TokenizerPair,
        model: "TranslationModel",
        *,
        ensemble: Sequence["TranslationModel"] = (),
    ) -> None:
        """For models already in memory; `load` reads a model folder.

        Args:
            config: Of the model: lengths and decoding defaults are taken from it.
            tokenizers: Source and target.
            model: With its weights set; if they are changed later, call `take_up_weights`.
            ensemble: Further models of the same tokenizers, to average probabilities with.
        """
        self.config = config
        self.tokenizers = tokenizers
        self.models = [model, *ensemble]
        self._compiled: dict[SearchKind, CompiledSearch] = {}
        self._forced = ForcedDecoding(self.models, tokenizers)
        self._layouts: Layouts | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        ensemble: Sequence[Path | str] = (),
        device: "Device" = "auto",
        precision: Precision | None = None,
    ) -> "Translator":
        """The best model of a model folder.

        Args:
            folder: What `seq2seq train` wrote.
            ensemble: Further model folders: the probabilities of all are averaged at each step.
            device: Where to run; `auto` takes a GPU if there is one.
            precision: Of the matrix products; None takes the configuration's.

        Raises:
            ModelError: `folder` is no model folder, or something in it is missing or damaged; or
                models of an ensemble have different tokenizers.
            StorageError: A file cannot be read.
            UsageError: A GPU is asked for and there is none.
        """
        if isinstance(ensemble, str | Path):
            raise UsageError(f"ensemble: got {str(ensemble)!r}, expected a list of model folders")
        folders = [Path(folder), *(Path(each) for each in ensemble)]
        configs = [load_model_config(each) for each in folders]
        tokenizers = [TokenizerPair.load(each / TOKENIZER_FOLDER) for each in folders]
        for other, pair in zip(folders[1:], tokenizers[1:], strict=True):
            if not pair.same_as(tokenizers[0]):
                raise ModelError(
                    f"{other}: its tokenizer is not that of {folder}; models of an ensemble need "
                    "the same one (tokenizer.source_model and target_model in the configuration)"
                )

        from seq2seq.checkpoint import best_weight_shapes
        from seq2seq.runtime import start_tensorflow

        shapes = [best_weight_shapes(each) for each in folders]  # damage is told of at once
        start_tensorflow(device)
        first, *others = [
            _loaded(
                each, config, tokenizers[0], precision or config.precision, each_shapes.values()
            )
            for each, config, each_shapes in zip(folders, configs, shapes, strict=True)
        ]
        return cls(configs[0], tokenizers[0], first, ensemble=others)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hashes of `weights`, `tokenizer` and `configuration`, and the products' `precision`."""
        tokenizers = f"{self.tokenizers.source.fingerprint} {self.tokenizers.target.fingerprint}"
        weights = hashlib.sha256()
        for model in self.models:
            for name, weight in sorted(model.named_weights().items()):
                weights.update(name.encode())
                weights.update(weight.numpy().tobytes())
        return {
            "weights": weights.hexdigest(),
            "tokenizer": hashlib.sha256(tokenizers.encode()).hexdigest(),
            "configuration": hashlib.sha256(dump_config(self.config).encode()).hexdigest(),
            "precision": self.models[0].compute_dtype,  # "auto" is another one on another machine
        }

    @property
    def most_source_pieces(self) -> int:
        """Pieces of a text that are translated; the end of sentence, not counted, follows them."""
        return max(1, self.config.data.max_source_length - 1)

    def take_up_weights(self) -> None:
        """Takes up the weights of the models as they are now, after they have been changed."""
        with self._lock:
            if self._layouts is not None:
                self._layouts.lay_out()

    def translate(
        self,
        texts: Iterable[str],
        *,
        prefixes: Iterable[str] | None = None,
        constraints: Iterable[Sequence[str]] | None = None,
        **options: Unpack[Options],
    ) -> list[Translation]:
        """Translates every text, in order.

        A blank text has the empty translation. The result for a text depends on that text, its
        prefix, its constraints and the options alone, not on its neighbours.

        Args:
            texts: One sentence each; a list even if it is one.
            prefixes: What each translation begins with; "" leaves a text free.
            constraints: Words and phrases that each translation contains, anywhere and in any
                order; [] leaves a text free. They go before banned pieces, and need a beam: best
                one more than they have pieces (see `seq2seq.constraints`).
            **options: See `Options`.

        Raises:
            UsageError: `texts` is not an iterable of str, or an option is out of range, or options
                leave nothing that can be said.
            DataError: A text is not valid Unicode, there are not as many prefixes or constraints as
                texts, or the target vocabulary cannot write one of them.
            NotANumberError: The model's output is not a number.
        """
        return list(
            self.translate_iter(texts, prefixes=prefixes, constraints=constraints, **options)
        )

    def translate_iter(
        self,
        texts: Iterable[str],
        *,
        prefixes: Iterable[str] | None = None,
        constraints: Iterable[Sequence[str]] | None = None,
        ready: Callable[[], bool] | None = None,
        first_number: int = 1,
        **options: Unpack[Options],
    ) -> Iterator[Translation]:
        """Translates a stream of any length as it is read, in order; see `translate`.

        Some batches of texts are read ahead, so that sentences of like length can share a batch.
        A fault in reading `texts`, or an item that is no text, is raised after the translations of
        all texts before it; any other fault before those of the texts that were read ahead with
        the one at fault.

        Args:
            texts: Any iterable, such as a file being read.
            prefixes: What each translation begins with.
            constraints: What each translation contains.
            ready: Says whether the next text can be had without waiting for it. Where it cannot,
                the texts read so far are translated first, so that whoever sends them one by one
                has each answered before sending the next.
            first_number: The number of the first text, from 1: errors name a text by its number,
                or its index, one less; and sampling draws by it.
            **options: See `Options`.
        """
        check_not_one_text("texts", texts)
        checked = search_options(self.config.decoding, **options)
        if prefixes is not None:
            check_not_one_text("prefixes", prefixes)
        if constraints is not None:
            check_not_one_text("constraints", constraints)
            checked.check_can_constrain()
        if options.get("banned") is not None:
            check_not_one_text("banned", options["banned"])
        vocabulary = self.tokenizers.target.vocabulary_size
        if checked.beam_size > vocabulary:
            raise UsageError(
                f"beam size: got {checked.beam_size}, more than the {vocabulary} pieces of the "
                "target vocabulary"
            )
        self._banned_ids(checked)
        requests = requests_of(texts, prefixes, constraints, first=first_number - 1)
        return self._stream(requests, checked, ready, first_number=first_number)

    def score(
        self, sources: Iterable[str], targets: Iterable[str], *, batch_size: int = 64
    ) -> list[float]:
        """The log-probability of each target as the translation of its source (forced decoding).

        Natural logarithms, end of sentence included: what `Hypothesis.log_prob` is. A source is cut
        to `most_source_pieces`, as it is for a translation. A blank one is scored like any other,
        though `translate` leaves it blank, with a log-probability of 0.

        Raises:
            UsageError: `sources` or `targets` is not an iterable of str.
            DataError: Not as many targets as sources, or a text that is not valid Unicode.
            NotANumberError: The model's output is not a number.
        """
        explained = self._forced.explain(*self._given(sources, targets), batch_size=batch_size)
        scores = {row: math.fsum(details.log_probs) for row, details in explained}
        return [scores[row] for row in range(len(scores))]

    def count_truncated(self, sources: Iterable[str]) -> int:
        """How many texts have more than `most_source_pieces`.

        Raises:
            UsageError: `sources` is not an iterable of str.
            DataError: A text that is not valid Unicode.
        """
        ids = self.tokenizers.source.encode_batch(checked_texts("sources", sources))
        return sum(len(each) > self.most_source_pieces for each in ids)

    def explain(
        self, sources: Iterable[str], targets: Iterable[str], *, batch_size: int = 64
    ) -> list[Details]:
        """What the model makes of each target as the translation of its source: see `Details`.

        A source is cut as in `score`.

        Raises:
            UsageError: `sources` or `targets` is not an iterable of str.
            DataError: Not as many targets as sources, or a text that is not valid Unicode.
            NotANumberError: The model's output is not a number.
        """
        given = self._given(sources, targets)
        explained = dict(self._forced.explain(*given, batch_size=batch_size))
        return [explained[row] for row in range(len(explained))]

    def _given(
        self, sources: Iterable[str], targets: Iterable[str]
    ) -> tuple[list[Sentence], list[list[int]]]:
        """Sources and targets as forced decoding is given them."""
        source_texts = checked_texts("sources", sources)
        target_texts = checked_texts("targets", targets)
        if len(source_texts) != len(target_texts):
            raise DataError(
                f"{len(source_texts)} sources, but {len(target_texts)} targets; each source needs "
                "its own target"
            )
        sentences = self._encoded([Request(text) for text in source_texts], first_number=1)
        end = self.tokenizers.target.eos_id
        return sentences, [[*ids, end] for ids in self.tokenizers.target.encode_batch(target_texts)]

    def _stream(
        self,
        requests: Iterable[Request],
        options: SearchOptions,
        ready: Callable[[], bool] | None,
        *,
        first_number: int,
    ) -> Iterator[Translation]:
        number = first_number
        for window in windows(requests, size=options.window_size, ready=ready):
            yield from self._translate_window(window, options, first_number=number)
            number += len(window)

    def _translate_window(
        self, requests: Sequence[Request], options: SearchOptions, *, first_number: int
    ) -> list[Translation]:
        """The translations of texts held in memory, in their order."""
        from seq2seq.runtime import batches_at_a_time

        sentences = self._encoded(requests, first_number=first_number)
        nothing = Hypothesis("", 0.0, 0.0, [], truncated=False, explain=self._forced.nothing)
        if options.details:
            nothing.keep_details(self._forced.nothing())
        found = [[nothing] for _ in sentences]
        batches = list(batches_of(sentences, options))
        searched = side_by_side(
            lambda batch: self._search([sentences[row] for row in batch], options),
            batches,
            threads=batches_at_a_time(),
        )
        for batch, hypotheses in zip(batches, searched, strict=True):
            for row, row_hypotheses in zip(batch, hypotheses, strict=True):
                found[row] = row_hypotheses
        return [
            Translation(
                source=request.text,
                hypotheses=hypotheses,
                source_pieces=sentence.pieces,
                source_unknown=sentence.unknown,
                source_truncated=sentence.kept < sentence.pieces,
            )
            for request, hypotheses, sentence in zip(requests, found, sentences, strict=True)
        ]

    def _encoded(self, requests: Sequence[Request], *, first_number: int) -> list[Sentence]:
        return encoded(
            requests,
            self.tokenizers,
            most_pieces=self.most_source_pieces,
            first_number=first_number,
        )

    def _search(
        self, sentences: Sequence[Sentence], options: SearchOptions
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each sentence of one batch."""
        from seq2seq.runtime import memory_for

        what = f"{len(sentences)} sentences and a beam of {options.beam_size} in a batch"
        with memory_for(what, advice="lower the batch size or batch tokens"):
            found = self._compiled_search(options, sentences)(self._inputs(sentences, options))
        arrays = type(found)(*(array.numpy() for array in found))
        hypotheses = []
        for row, sentence in enumerate(sentences):
            log_prob = float(arrays.log_probs[row, 0])
            if log_prob == -math.inf:
                raise UsageError(
                    f"sentence {sentence.number}: nothing can be said of the length that is asked "
                    "for: all else is banned, or would be said again; ask for less"
                )
            check_probability(log_prob, sentence)
            hypotheses.append(self._hypotheses(arrays, row, sentence))
        if options.details:
            self._find_details(sentences, hypotheses)
        return hypotheses

    def _inputs(self, sentences: Sequence[Sentence], options: SearchOptions) -> Any:
        from seq2seq.decoding import SearchInputs

        sampling = options.sampling or Sampling()
        return SearchInputs(
            **batch_of(sentences, options, end_id=self.tokenizers.source.eos_id),
            length_penalty=np.float32(options.length_penalty),
            coverage_penalty=np.float32(options.coverage_penalty),
            repetition_penalty=np.float32(options.repetition_penalty),
            temperature=np.float32(sampling.temperature),
            top_p=np.float32(sampling.top_p),
            seed=np.int64(sampling.seed),
        )

    def _hypotheses(self, found: "Hypotheses", row: int, sentence: Sentence) -> list[Hypothesis]:
        """Those of one row, best first."""
        tokenizer = self.tokenizers.target
        hypotheses: list[Hypothesis] = []
        for k, length in enumerate(found.lengths[row].tolist()):
            if not length:  # fewer exist than were asked for
                break
            said = found.ids[row, k, :length].tolist()
            ended = said[-1] == tokenizer.eos_id
            ids = said[:-1] if ended else said
            text = tokenizer.decode(ids)
            hypotheses.append(
                Hypothesis(
                    text=text,
                    score=float(found.scores[row, k]),
                    log_prob=float(found.log_probs[row, k]),
                    pieces=tokenizer.pieces(ids),
                    truncated=not ended,
                    duplicate=any(better.text == text for better in hypotheses),
                    ids=tuple(said),
                    explain=self._explainer(sentence, said),
                )
            )
        return hypotheses

    def _explainer(self, sentence: Sentence, said: list[int]) -> Callable[[], Details]:
        return lambda: dict(self._forced.explain([sentence], [said], batch_size=1))[0]

    def _find_details(
        self, sentences: Sequence[Sentence], hypotheses: Sequence[list[Hypothesis]]
    ) -> None:
        """Finds the details of the `hypotheses` of each sentence, many at a time."""
        said = [
            (sentence, each)
            for sentence, found in zip(sentences, hypotheses, strict=True)
            for each in found
        ]
        sources, targets = [sentence for sentence, _ in said], [each.ids for _, each in said]
        for row, details in self._forced.explain(sources, targets, batch_size=len(sentences)):
            said[row][1].keep_details(details)

    def _banned_ids(self, options: SearchOptions) -> tuple[int, ...]:
        ids = []
        for piece in options.banned:
            found = self.tokenizers.target.id_of(piece)
            if found is None:
                raise UsageError(
                    f"banned: {piece!r} is no piece of the target vocabulary; pieces are as "
                    "`translate` shows them, with \u2581 for a space"
                )
            ids.append(found)
        return tuple(sorted(ids))

    def _compiled_search(
        self, options: SearchOptions, sentences: Sequence[Sentence]
    ) -> "CompiledSearch":
        from seq2seq.decoding import CompiledSearch, Layouts, SearchKind

        sampling = options.sampling
        kind = SearchKind(
            sampled=sampling is not None,
            beam_size=options.beam_size,
            n_best=options.n_best,
            top_k=sampling.top_k if sampling else 0,
            length_formula=options.length_formula,
            covers=options.coverage_penalty > 0,
            forbidden_ids=self._banned_ids(options),
            no_repeat_ngram=options.no_repeat_ngram,
            penalises_repetition=options.repetition_penalty != 1.0,
            has_least_length=options.has_least_length,
            has_prefix=any(sentence.prefix for sentence in sentences),
            has_constraints=any(sentence.constraints for sentence in sentences),
        )

        with self._lock:  # else threads that meet here would all compile
            if kind not in self._compiled:
                if len(self._compiled) == _MOST_COMPILED:
                    del self._compiled[next(iter(self._compiled))]  # the oldest
                self._layouts = self._layouts or Layouts(self.models)
                target = self.tokenizers.target
                self._compiled[kind] = CompiledSearch(self._layouts, target, kind)
            return self._compiled[kind]


def _loaded(
    folder: Path,
    config: Config,
    tokenizers: TokenizerPair,
    precision: Precision,
    shapes: Iterable[tuple[int, ...]],
) -> "TranslationModel":
    """The model of a folder with its best weights, which have these shapes."""
    from seq2seq.checkpoint import with_best_weights  # heavy, like models
    from seq2seq.models import build_model
    from seq2seq.precision import resolve_precision

    def make() -> "TranslationModel":
        return build_model(
            config.model,
            source_vocabulary=tokenizers.source.vocabulary_size,
            target_vocabulary=tokenizers.target.vocabulary_size,
            precision=resolve_precision(precision),
        )

    return with_best_weights(folder, shapes, make)
