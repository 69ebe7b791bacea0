"""Files and streams of any size through a translator, line by line and in order.

A window of lines is read ahead, so memory is bounded. A file that becomes a file is kept up to its
last finished window whatever happens, and a later run goes on from there; see `journal`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from itertools import islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq.console import Advance, say
from seq2seq.errors import UsageError, reading
from seq2seq.journal import ResumableOutput, resumable_output
from seq2seq.lines import LineCounts, OnBadUtf8, check_line_counts, count_lines, read_lines
from seq2seq.output_formats import OutputFormat, Renderer, Unit, renderer
from seq2seq.search_options import Options, search_options
from seq2seq.streams import check_new, is_special, opened_output, standard_input
from seq2seq.translation import Translation
from seq2seq.translator import Translator

_HASH_DIGITS = 16  # 64 bits tell any two files from each other that nobody made to be alike
_SEPARATOR = "|||"  # Moses's; a tab is but a space to the reader of all text files
_UNKNOWN_SHARE = 0.05  # of source pieces; more is warned about


class Job(NamedTuple):
    """What is to be translated, with what, and how it is written.

    Attributes:
        models: Model folder; further ones are an ensemble with it.
        source: File of the texts, or `-` for standard input.
        output: File to write; None is standard output.
        prefix: File of what the translations begin with.
        constraints: File of what they contain, `|||` between words and phrases.
        options: Of the search.
        output_format: How translations are written; see `renderer`.
        alignment: What is written of where the model looked; see `renderer`.
        on_bad_utf8: What to do about such a line of the source.
    """

    models: list[Path]
    source: str
    output: Path | None
    prefix: Path | None
    constraints: Path | None
    options: Options
    output_format: OutputFormat = "text"
    alignment: Unit | None = None
    on_bad_utf8: OnBadUtf8 = "error"

    @property
    def render(self) -> Renderer:
        """A translation as it is written."""
        n_best = self.options.get("n_best") or 1
        return renderer(self.output_format, n_best=n_best, alignment=self.alignment)

    @property
    def can_resume(self) -> bool:
        """Whether what is done of it can be kept: files to a file."""
        return self.output is not None and not is_special(self.output) and not self._streams

    @property
    def _inputs(self) -> list[Path]:
        """The files that are read."""
        named = [None if self.source == "-" else Path(self.source), self.prefix, self.constraints]
        return [path for path in named if path is not None]

    @property
    def _streams(self) -> list[str]:
        """The inputs that can be read but once, as a message begins with them."""
        standard = ["standard input"] if self.source == "-" else []
        return standard + [
            f"{path} is no regular file and" for path in self._inputs if is_special(path)
        ]

    def check(self, *, resume: bool) -> None:
        """Finds early what would fail only after the model is loaded, or overwrite an input.

        Raises:
            UsageError: The output is there already, or is an input; or `resume` is asked for
                where there is nothing to go on with.
            DataError: There are not as many prefixes or constraints as texts.
            StorageError: An input cannot be read.
        """
        if resume:
            self._check_can_resume()
        files = [path for path in self._inputs if not is_special(path)]
        for path in files:
            with reading(path):
                path.open("rb").close()
        if self.output is not None:
            if self.output.exists() and any(self.output.samefile(path) for path in self._inputs):
                raise UsageError(
                    f"{self.output}: is the input itself; choose another name for the output"
                )
            check_new(self.output)
        if len(files) > 1 and not self._streams:
            check_line_counts([(str(path), count_lines(path)) for path in files])

    def _check_can_resume(self) -> None:
        if self.output is None:
            raise UsageError("--resume: needs --output: standard output cannot be resumed")
        if is_special(self.output):
            raise UsageError(f"--resume: {self.output} is no regular file and cannot be resumed")
        if self._streams:
            raise UsageError(
                f"--resume: {self._streams[0]} cannot be read from the start again; name a file"
            )

    def load(self) -> Translator:
        """The translator."""
        return Translator.load(self.models[0], ensemble=self.models[1:])

    def given(self, first: int = 0) -> dict[str, Any]:
        """Prefixes and constraints of all lines from number `first` on, counted from 0."""
        prefixes, constraints = (
            islice(read_lines(path), first, None) if path else None
            for path in (self.prefix, self.constraints)
        )
        split = (line.split(_SEPARATOR) for line in constraints) if constraints else None
        return {"prefixes": prefixes, "constraints": split}

    def deciding(self, translator: Translator) -> dict[str, Any]:
        """All that decides the output but the text, as JSON values; contents as hashes.

        The hashes are those of the model in memory: what lies in its folder may be replaced, by a
        training that goes on there, between two times of reading it.

        Args:
            translator: What the texts are translated by.
        """
        hashes = {
            **translator.fingerprints,
            "prefix": _fingerprint(self.prefix),
            "constraints": _fingerprint(self.constraints),
        }
        searched = asdict(search_options(translator.config.decoding, **self.options))
        del searched["details"]  # what is written of them is in the format
        return {
            **{name: each[:_HASH_DIGITS] for name, each in hashes.items()},
            **searched,
            "format": self.output_format,
            "alignment": self.alignment,
        }


def _fingerprint(path: Path | None) -> str:
    """The hash of a text's lines; of none without a path."""
    fingerprint = hashlib.sha256()
    for line in read_lines(path) if path else ():
        fingerprint.update(f"{line}\n".encode())
    return fingerprint.hexdigest()


def counts_of(translation: Translation) -> Counter[str]:
    """What a summary counts of a translation."""
    return Counter(
        lines=1,
        blank=not translation.source_pieces,
        source_truncated=translation.source_truncated,
        truncated=translation.truncated,
        pieces=translation.source_pieces,
        unknown=translation.source_unknown,
    )


class Summary:
    """What went by while translating, shown on stderr: at work, and when all is done."""

    def __init__(
        self,
        *,
        before: int = 0,
        total: int | None = None,
        counts: Mapping[str, int] | None = None,
        to_stdout: bool = False,
    ) -> None:
        """
        Args:
            before: Lines that an earlier run translated.
            total: Lines there are, None if nobody knows.
            counts: Those of the earlier run.
            to_stdout: Whether translations are written to stdout as they come.
        """
        self._advance = Advance(
            "lines translated", unit="sentences", before=before, total=total, to_stdout=to_stdout
        )
        self.counts = Counter(counts or {})

    def watch(self, translations: Iterable[Translation]) -> Iterator[Translation]:
        """Passes `translations` on."""
        for translation in self._advance.watch(translations):
            self.counts += counts_of(translation)
            yield translation

    def watch_blocks(self, blocks: Iterable[Counter[str]]) -> None:
        """Counts what went by elsewhere: the counts of many lines at a time, `lines` among them."""

        def lines() -> Iterator[None]:
            for counts in blocks:
                self.counts += counts
                yield from repeat(None, counts["lines"])

        for _ in self._advance.watch(lines()):
            pass

    def report(self) -> None:
        """Shows the totals, and what may be wrong with the input."""
        counts, advance = self.counts, self._advance
        before = f", {advance.before:,} of them before" if advance.before else ""
        say(
            f"{advance.done:,} lines translated{before}, {counts['blank']:,} of them blank; "
            f"truncated: {counts['source_truncated']:,} lines, {counts['truncated']:,} "
            f"translations; {advance.per_second:,.1f} sentences/s"
        )
        if counts["bad_utf8"]:
            say(
                f"warning: {counts['bad_utf8']:,} lines were not UTF-8; what could not be read of "
                "them was taken for U+FFFD"
            )
        if counts["unknown"] > _UNKNOWN_SHARE * counts["pieces"]:
            say(
                f"warning: the model does not know {counts['unknown'] / counts['pieces']:.0%} of "
                "the source pieces; is the input in the language it was trained on?"
            )


def translate_file(job: Job, *, resume: bool) -> None:
    """Does a job that can be resumed.

    Args:
        job: From file to file; all in `Job.deciding` has to be the same if it is resumed.
        resume: Go on with what an earlier run left, if there is anything.

    Raises:
        Seq2SeqError: As reading, translating and `resumable_output` do.
    """
    if job.output is None:
        raise UsageError(f"{job.source}: an output is needed that can be resumed")
    read = LineCounts(job.source)
    texts = read_lines(Path(job.source), on_bad_utf8=job.on_bad_utf8, counts=read)
    loaded = cache(job.load)  # when the output is known to be free, as it takes seconds

    def deciding() -> dict[str, Any]:
        return job.deciding(loaded())

    with resumable_output(job.output, texts, settings=deciding, resume=resume) as output:
        summary = _translate_rest(job, loaded(), output)
    summary.counts["bad_utf8"] = read.bad_utf8
    summary.report()


def _translate_rest(job: Job, translator: Translator, output: ResumableOutput) -> Summary:
    """Translates the lines that are not done yet; what is written is saved after each window."""
    window_size = search_options(translator.config.decoding, **job.options).window_size
    summary = Summary(
        before=output.lines,
        total=count_lines(Path(job.source)),
        counts=output.saved.counts,
    )
    translations = translator.translate_iter(
        output.texts,
        first_number=output.lines + 1,
        **job.given(output.lines),
        **job.options,
    )
    render = job.render
    for translation in summary.watch(translations):
        output.write(translation.source, render(output.lines, translation))
        if output.lines % window_size == 0:
            output.save(summary.counts)
    return summary


def translate_stream(job: Job) -> None:
    """Does a job of which nothing can be kept: what it reads or writes is there but once.

    Raises:
        Seq2SeqError: As reading and translating do.
    """
    with opened_output(job.output) as stream:
        translator = job.load()
        ready = total = None
        read = LineCounts("standard input" if job.source == "-" else job.source)
        if job.source == "-":
            stdin = standard_input()
            texts = stdin.lines(on_bad_utf8=job.on_bad_utf8, counts=read)
            ready = stdin.line_ready
        else:
            path = Path(job.source)
            texts = read_lines(path, on_bad_utf8=job.on_bad_utf8, counts=read)
            total = None if is_special(path) else count_lines(path)
        summary = Summary(total=total, to_stdout=job.output is None)
        translations = translator.translate_iter(texts, ready=ready, **job.given(), **job.options)
        render = job.render
        for number, translation in enumerate(summary.watch(translations)):
            stream.write(render(number, translation))
    summary.counts["bad_utf8"] = read.bad_utf8
    summary.report()


def best_texts(model: Path, texts: Sequence[str]) -> list[str]:
    """The model's translations of `texts`, with progress and summary."""
    summary = Summary(total=len(texts))
    translations = Translator.load(model).translate_iter(texts)
    found = [each.text for each in summary.watch(translations)]
    summary.report()
    return found
