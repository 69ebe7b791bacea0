"""Training: from a configuration to a model folder."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from seq2seq.config import AnyConfig, LanguageModelConfig
from seq2seq.config_file import dump_config, flat_config, with_absolute_paths
from seq2seq.durable_files import file_sha256, locked, write_whole
from seq2seq.errors import UsageError
from seq2seq.experiment import Experiment
from seq2seq.fine_tuning import check_start, load_start
from seq2seq.language_model_experiment import LanguageModelExperiment
from seq2seq.model_files import CONFIG_FILE, ENCODED_FOLDER, TOKENIZER_FOLDER, WORKERS_FOLDER
from seq2seq.new_model import load_any_tokenizer
from seq2seq.precision import resolve_precision
from seq2seq.runtime import memory_for
from seq2seq.training_folder import new_start, resumes, size_of_model
from seq2seq.training_loop import (
    TrainingLoop,
    TrainingResult,
    check_room_to_save,
    trained_text,
)
from seq2seq.translation_experiment import TranslationExperiment
from seq2seq.worker_place import Place
from seq2seq.workers import Workers, check_shared, reporting_lost_workers, start_workers


def train(
    config: AnyConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    init: Path | None = None,
    place: Place | None = None,
) -> TrainingResult:
    """Trains a translator or a language model, or goes on with a training that was stopped.

    Args:
        config: The experiment.
        folder: The model folder to write; of workers other than the chief, that of the chief if
            they have the same disk, else any: they keep what they need in `workers/INDEX` in it.
        resume: Go on from the newest checkpoint in `folder`.
        overwrite: Train in place of the model that is in `folder`; that is deleted only when the
            new one is ready for its first update.
        init: Another model folder, to begin with its best weights and its tokenizer; it is not
            needed any more once training has begun.
        place: This process among several that train together; alone if left out. Then TensorFlow
            must not have been used in this process.

    Raises:
        UsageError: `folder` holds a model and neither flag is given, or both are, or the
            configuration or the text differs from that of the run to resume in what shapes the
            weights; or the weights of `init` are of no use for it; or memory does not suffice for
            the batches; or several workers cannot share the batches of an update, or have not been
            given the same.
        DataError: The corpus cannot be trained on.
        ModelError: The tokenizer, or the checkpoint to resume from, cannot be used.
        StorageError: A file cannot be read or written.
        DivergenceError: Loss or gradient is no longer finite; no such weights were saved.
        LockedError: Another process is training in `folder`.
        Interrupted: SIGINT or SIGTERM came; the last finished update is saved.
        WorkerLostError: Another process that trains with this one is gone.
    """
    if place and isinstance(config, LanguageModelConfig):
        raise UsageError(
            "a language model is trained by one process, as each window of text goes on where the "
            "one before ended; leave --workers and TF_CONFIG out"
        )
    check_start(init, config, resume=resume, overwrite=overwrite)
    config = with_absolute_paths(config)
    experiment = _experiment(config)
    check_shared(place, experiment.batches_per_update)
    chief = folder
    if place and place.index:
        folder = chief / WORKERS_FOLDER / str(place.index)
    with locked(folder):
        goes_on = resumes(folder, config, resume=resume, overwrite=overwrite, init=init)
        if goes_on:
            notes, workers = _lay_out(experiment, folder, place, text=trained_text(folder))
        else:
            joins = chief if resume and folder != chief else None
            notes, workers = _begin(experiment, folder, place, init=init, joins=joins)
        with reporting_lost_workers():
            loop = TrainingLoop(experiment, folder, workers)
            notes += loop.restore()
            if goes_on:
                loop.check_room()
                write_whole(folder / CONFIG_FILE, dump_config(config))
            with loop.reporter() as reporter:
                for line in (*notes, *loop.cautions(), loop.summary()):
                    reporter.note(line)
                return loop.finish(reporter)


def _lay_out(
    experiment: Experiment, folder: Path, place: Place | None, *, text: str = ""
) -> tuple[list[str], Workers]:
    """Lays out in `folder` what a training needs and makes its model; what to tell, and who trains.

    After that nothing is missing but updates. `text` is what `trained_text` says.
    """
    notes = experiment.prepare(folder, text=text)
    workers = start_workers(place, experiment.batches_per_update)
    with reporting_lost_workers():
        workers.check_same(_fingerprints(experiment.config, folder))
        with memory_for("the model", advice="make it smaller (the sizes in [model])"):
            experiment.build(folder, workers)
    return notes, workers


def _begin(
    experiment: Experiment,
    folder: Path,
    place: Place | None,
    *,
    init: Path | None,
    joins: Path | None,
) -> tuple[list[str], Workers]:
    """`_lay_out` in place of what was in `folder`, which is there until it is done.

    `joins` is the folder of a run under way that this worker is new to: it may have begun with
    another model's tokenizer.
    """
    config = experiment.config
    start = load_start(init, config) if init else None
    with new_start(folder, config, start) as staging:
        if joins and (joins / CONFIG_FILE).exists():
            load_any_tokenizer(joins, config).save(staging / TOKENIZER_FOLDER)
            write_whole(staging / CONFIG_FILE, dump_config(config))
        notes, workers = _lay_out(experiment, staging, place)
        write_whole(staging / CONFIG_FILE, dump_config(config))
        if workers.is_chief:
            check_room_to_save(experiment, folder, freed=size_of_model(folder))
    if init:
        notes.append(f"starting with weights and tokenizer of {init}")
    return notes, workers


def _experiment(config: AnyConfig) -> Experiment:
    if isinstance(config, LanguageModelConfig):
        return LanguageModelExperiment(config)
    return TranslationExperiment(config)


def _fingerprints(config: AnyConfig, folder: Path) -> dict[str, str]:
    """The sha256 of each thing that workers must have in common, by what it is."""
    # Where the text lies may differ from machine to machine; what was made of it may not.
    settings = {
        key: value for key, value in flat_config(config).items() if not key.startswith("data.")
    }
    settings["precision"] = resolve_precision(config.precision)
    tokenizer = sorted((folder / TOKENIZER_FOLDER).iterdir())
    encoded = sorted((folder / ENCODED_FOLDER).glob("*.bin"))
    return {
        "configuration": sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "tokenizer": _sha256_of_files(tokenizer),
        "corpus": _sha256_of_files(encoded),
    }


def _sha256_of_files(paths: Sequence[Path]) -> str:
    return sha256("".join(file_sha256(path) for path in paths).encode()).hexdigest()
