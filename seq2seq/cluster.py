"""Files through a translator on a cluster, by Ray Data; the same bytes as by the local engine.

    INPUT... --blocks of lines--> workers, each with the model --shards--> DIR/NAME of each INPUT

A block is what the local engine translates together (`SearchOptions.window_size`), so neither the
number of workers nor their order decides anything. Model, inputs and DIR have to be reachable under
the same names from all machines. A worker that dies is replaced and its block translated again;
a shard appears whole or not at all. When all are there, each output is put together of its own and
appears under its name.
"""

import json
import logging
import os
import shutil
import socket
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq import errors
from seq2seq.durable_files import locked, publish_file, write_whole
from seq2seq.errors import ModelError, Seq2SeqError, StorageError, UsageError, writing
from seq2seq.file_translation import Job, Summary, counts_of
from seq2seq.lines import LineBlock, LineCounts, line_blocks, read_block
from seq2seq.runtime import quiet_stderr
from seq2seq.signals import handlers_kept
from seq2seq.streams import check_new, opened_output
from seq2seq.translator import Translator
from seq2seq.worker_place import host_and_port

_TEMPORARY = ".tmp-shards"
_MOST_TASKS = 1000  # that Ray is given; what is lost with a worker is done again task by task
# Ray Data stops for good where its workers take every processor that Ray counts, real or not.
_SPARE_PROCESSORS = 1
_PATIENCE_SECONDS = 10.0


class _Block(NamedTuple):
    """A part of the work, as it is sent: plain values.

    Attributes:
        job: Its place among the jobs.
        first: As in `LineBlock`, like the next two.
        lines: How many.
        offset: In bytes.
        shard: File of its translations.
    """

    job: int
    first: int
    lines: int
    offset: int
    shard: str


def jobs_of(job: Job, sources: Sequence[str]) -> list[Job]:
    """`job` for each of `sources`, checked, into the folder that its output names.

    Raises:
        UsageError: There is no folder or no file, a file is no regular one, or an output is there.
        StorageError: A file cannot be read.
    """
    if job.output is None or not sources or "-" in sources:
        raise UsageError(
            "--engine ray: translates files into a folder: name the files, and the folder with "
            "--output"
        )
    # Absolute: workers have their own working folder.
    folder, models = job.output.resolve(), [path.resolve() for path in job.models]
    jobs = []
    for source in map(Path, sources):
        each = job._replace(
            models=models, source=str(source.resolve()), output=folder / source.name
        )
        each.check(resume=False)
        if not each.can_resume:
            raise UsageError(
                f"--engine ray: {source}: is no regular file, of which each worker could read a "
                "part; write it to one first"
            )
        jobs.append(each)
    return jobs


def translate_files(
    jobs: Sequence[Job], *, window_size: int, workers: int | None, address: str | None
) -> None:
    """Does jobs from file to file, all outputs in one folder, on a Ray cluster.

    Args:
        jobs: What `jobs_of` gives.
        window_size: Of `SearchOptions`.
        workers: Processes that translate; None is one for each machine of the cluster.
        address: Of the cluster; None starts one on this machine, for as long as it is needed.

    Raises:
        UsageError: Ray is missing, or has too few processors for the workers; or `address` is none.
        StorageError: There is no cluster at `address`; or an input cannot be read, or the folder
            of the outputs not be written.
        LockedError: Another process writes to that folder.
        Seq2SeqError: As reading and translating do.
    """
    folder = _folder_of(jobs)
    with locked(folder), _shards_folder(folder) as shards:
        blocks = [
            _Block(place, *block, str(shards / f"{place}-{block.first}"))
            for place, job in enumerate(jobs)
            for block in line_blocks(Path(job.source), window_size)
        ]
        summary = Summary(total=sum(block.lines for block in blocks))
        if blocks:
            with _cluster(address, workers) as size:
                summary.watch_blocks(_raising(_results(jobs, blocks, workers=size)))
        merged = [shards / f"output-{place}" for place, _ in enumerate(jobs)]
        for place, path in enumerate(merged):
            _merge([Path(block.shard) for block in blocks if block.job == place], path)
        for job, path in zip(jobs, merged, strict=True):
            _publish(path, job)
    summary.report()


def _folder_of(jobs: Sequence[Job]) -> Path:
    outputs = [job.output for job in jobs if job.output is not None]
    for output in outputs:
        if outputs.count(output) > 1:
            raise UsageError(
                f"{output}: is the output of two inputs, which have the same name; rename one"
            )
    return outputs[0].parent


@contextmanager
def _shards_folder(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, deleted in the end; what a killed run left goes before."""
    shards = folder / _TEMPORARY
    with writing(folder):
        shutil.rmtree(shards, ignore_errors=True)
        shards.mkdir()
    try:
        yield shards
    finally:
        shutil.rmtree(shards, ignore_errors=True)


def _merge(shards: Iterable[Path], path: Path) -> None:
    """Writes what is in `shards` to `path`; they are deleted."""
    with opened_output(path) as stream:
        for shard in shards:
            stream.write(shard.read_bytes().decode("utf-8"))
            shard.unlink()


def _publish(path: Path, job: Job) -> None:
    """Gives a file the name of the job's output, which nothing had when the job was checked."""
    if job.output is not None:
        check_new(job.output)
        with writing(job.output):
            publish_file(path, job.output)


# --- Ray ------------------------------------------------------------------------------------------


@contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[int]:
    """Connected to a cluster, or with one on this machine; how many workers it has to run."""
    place = None if address in (None, "auto") else host_and_port(address, "--address")
    ray = _quiet_ray()
    options: dict[str, Any] = {"address": address}
    if address is None:
        processors = (workers or 1) + _SPARE_PROCESSORS
        options = {"address": "local", "num_cpus": processors, "include_dashboard": False}
    failure: Exception | None = None
    with quiet_stderr():  # which would tell all that was tried, were an error to leave the block
        try:
            if place:  # does anybody listen there? Ray itself would try for minutes
                socket.create_connection(place, timeout=_PATIENCE_SECONDS).close()
            with handlers_kept():
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as err:  # Ray raises all kinds, also plain ones
            failure = err
    if failure is not None:
        where = f"--address {address}: cannot be reached" if address else "Ray: cannot be started"
        raise StorageError(f"{where}: {failure}") from failure
    # Ray prints there what befalls its workers, from a thread of its own; its logs have it, too.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        try:
            yield _workers(ray, workers)
        finally:
            ray.shutdown()


def _workers(ray: Any, workers: int | None) -> int:
    """How many the cluster it is connected to has to run."""
    wanted = workers or len([node for node in ray.nodes() if node["Alive"]])
    processors = int(ray.cluster_resources().get("CPU", 0))
    if wanted > processors - _SPARE_PROCESSORS:
        given = f"got {wanted}" if workers else f"would be {wanted}, one for each machine"
        raise UsageError(
            f"--workers: {given}, but the cluster has {processors} processors, of which Ray's own "
            f"tasks need {_SPARE_PROCESSORS}; give fewer"
        )
    return wanted


def _quiet_ray() -> Any:
    """Ray, which tells nobody that it is used and leaves stderr to us."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with warnings.catch_warnings(action="ignore"):  # it warns of what is old in itself
        try:
            import ray
            import ray.data
        except ImportError as err:
            raise UsageError("--engine ray: needs Ray: pip install 'lstm-seq2seq[ray]'") from err
        ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def _results(
    jobs: Sequence[Job], blocks: Sequence[_Block], *, workers: int
) -> Iterator[Mapping[str, str]]:
    """What workers say of each block, as they finish it."""
    import ray.data

    rows = ray.data.from_items(
        [block._asdict() for block in blocks], override_num_blocks=min(len(blocks), _MOST_TASKS)
    )
    translated = rows.map(
        BlockTranslator,
        fn_constructor_args=[jobs],
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    yield from translated.iter_rows()


def _raising(rows: Iterable[Mapping[str, str]]) -> Iterator[Counter[str]]:
    """The counts in `rows`; what went wrong on a worker is raised here.

    Workers load the model at different times, and training that goes on in its folder may replace
    it in between.
    """
    models = set()
    for row in rows:
        if row["error"]:
            raise getattr(errors, row["error"])(row["message"])
        models.add(row["model"])
        if len(models) > 1:
            raise ModelError(
                "workers have not loaded the same model: it was changed meanwhile, or some of the "
                "machines multiply bfloat16 and others do not; translate with a copy of its folder "
                "on machines of one kind"
            )
        yield Counter(json.loads(row["counts"]))


# --- on the workers -------------------------------------------------------------------------------


class BlockTranslator:
    """Translates blocks, one after the other; loads the model at the first."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._translator: Translator | None = None
        self._model = ""

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The counts of a block whose shard is written now, as JSON, and hashes of the model that
        translated it; or an error and its message.

        What a user caused is not raised: Ray would try again for nothing.
        """
        try:
            counts = json.dumps(self._translate(_Block(**row)))
        except Seq2SeqError as err:
            return {"counts": "", "model": "", "error": type(err).__name__, "message": str(err)}
        return {"counts": counts, "model": self._model, "error": "", "message": ""}

    def _translate(self, block: _Block) -> Counter[str]:
        job = self._jobs[block.job]
        if self._translator is None:
            self._translator = job.load()
            self._model = " ".join(self._translator.fingerprints.values())
        read = LineCounts(job.source)
        texts = read_block(
            Path(job.source),
            LineBlock(block.first, block.lines, block.offset),
            on_bad_utf8=job.on_bad_utf8,
            counts=read,
        )
        translations = self._translator.translate_iter(
            texts, first_number=block.first + 1, **job.options
        )
        counts: Counter[str] = Counter()
        render, written = job.render, []
        for number, translation in enumerate(translations, start=block.first):
            counts += counts_of(translation)
            written.append(render(number, translation))
        counts["bad_utf8"] = read.bad_utf8
        write_whole(Path(block.shard), "".join(written))
        return counts
