"""The folder before a training: what is refused, what is deleted, what a resumed run may change."""

import io
from pathlib import Path

import pytest
from training_fixtures import config_for

from seq2seq.config import Config, dump_config
from seq2seq.errors import StorageError, UsageError
from seq2seq.training_folder import check_room, make_ready

OF_A_MODEL = [
    "best.json",
    "checkpoints/step-6/weights.safetensors",
    "config.toml",
    "encoded/source.bin",
    "metrics.jsonl",
    "tensorboard/events",
    "tokenizer/joint.model",
]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_for(tmp_path / "words")


def model_of(config: Config, folder: Path) -> Path:
    """A folder that looks like a model, with a file of its owner in it."""
    for name in [*OF_A_MODEL, "notes.txt"]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump_config(config) if name == "config.toml" else name)
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (True, False), (False, True)])
def test_an_empty_folder_is_ready_for_anything(
    resume: bool, overwrite: bool, config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    make_ready(folder, config, resume=resume, overwrite=overwrite, init=None)
    assert files_in(folder) == []


def test_a_model_is_kept_unless_one_says_what_to_do_with_it(config: Config, tmp_path: Path) -> None:
    folder = model_of(config, tmp_path / "model")
    message = "model: holds a model already; --resume goes on with it, --overwrite deletes it"
    with pytest.raises(UsageError, match=message):
        make_ready(folder, config, resume=False, overwrite=False, init=None)
    with pytest.raises(UsageError, match="--resume and --overwrite exclude each other; give one"):
        make_ready(folder, config, resume=True, overwrite=True, init=None)
    make_ready(folder, config, resume=True, overwrite=False, init=None)
    assert files_in(folder) == sorted([*OF_A_MODEL, "notes.txt"])


@pytest.mark.parametrize("sign", ["config.toml", "checkpoints/step-6/weights.safetensors"])
def test_a_part_of_a_model_is_not_overwritten_unasked_either(
    sign: str, config: Config, tmp_path: Path
) -> None:
    folder = model_of(config, tmp_path / "model")
    for name in OF_A_MODEL:
        if name != sign:
            (folder / name).unlink()
    if not sign.startswith("checkpoints"):
        (folder / "checkpoints" / "step-6").rmdir()
    with pytest.raises(UsageError, match="holds a model already"):
        make_ready(folder, config, resume=False, overwrite=False, init=None)


def test_overwriting_deletes_the_model_and_nothing_else(config: Config, tmp_path: Path) -> None:
    folder = model_of(config, tmp_path / "model")
    make_ready(folder, config, resume=False, overwrite=True, init=None)
    assert files_in(folder) == ["notes.txt"]


def test_a_model_is_not_deleted_to_begin_with_it(config: Config, tmp_path: Path) -> None:
    folder = model_of(config, tmp_path / "model")
    (tmp_path / "alias").symlink_to(folder)
    with pytest.raises(UsageError, match="is the folder to write, whose model would be lost"):
        make_ready(folder, config, resume=False, overwrite=True, init=tmp_path / "alias")
    assert files_in(folder) == sorted([*OF_A_MODEL, "notes.txt"])


def test_a_resumed_run_may_change_how_long_it_lasts_but_not_what_it_learns(
    config: Config, tmp_path: Path
) -> None:
    folder, text = model_of(config, tmp_path / "model"), tmp_path / "words"
    longer = config_for(text, training__max_steps=99, validation={"beam_size": 3})
    make_ready(folder, longer, resume=True, overwrite=False, init=None)
    other = config_for(text, seed=7, model__dropout=0.5, training__max_steps=99)
    message = r"another experiment: model\.dropout was 0\.2, is 0\.5; seed was 1, is 7; set them"
    with pytest.raises(UsageError, match=message):
        make_ready(folder, other, resume=True, overwrite=False, init=None)


class Disk(io.BytesIO):
    """A file of which only the size is of interest."""

    written = 0

    def write(self, content: object) -> int:
        Disk.written += len(content)  # type: ignore[arg-type]
        return len(content)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 2_500_000])
def test_the_room_looked_for_is_that_of_a_checkpoint(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_room(tmp_path, size, kept=2)
    assert files_in(tmp_path) == []
    monkeypatch.setattr(Disk, "written", 0)
    monkeypatch.setattr(Path, "open", lambda *_: Disk())
    check_room(tmp_path, size, kept=2)
    assert size < Disk.written <= size + 2**20


def test_a_disk_without_room_is_told_with_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - check_room closes it
    monkeypatch.setattr(Path, "open", lambda *_: full)
    message = r"cannot be written: No space left on device; a checkpoint needs 2\.5 MB, and 2 are"
    with pytest.raises(StorageError, match=message):
        check_room(tmp_path, 2_500_000, kept=2)
