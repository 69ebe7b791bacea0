"""The folder before a training: what is refused, what is deleted, what a resumed run may change."""

import errno
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_fixtures import Killed, config_for

from seq2seq.checkpoint import load_checkpoint
from seq2seq.config import Config, TokenizerConfig
from seq2seq.config_file import dump_config
from seq2seq.errors import ModelError, StorageError, UsageError
from seq2seq.fine_tuning import InitialModel
from seq2seq.pairs import Pair
from seq2seq.tokenizer import TokenizerPair, train_tokenizers
from seq2seq.training_folder import check_room, new_start, resumes, size_of_model

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
def test_in_an_empty_folder_training_begins(
    resume: bool, overwrite: bool, config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    assert not resumes(folder, config, resume=resume, overwrite=overwrite, init=None)
    assert files_in(folder) == []


def test_a_model_is_kept_unless_one_says_what_to_do_with_it(config: Config, tmp_path: Path) -> None:
    folder = model_of(config, tmp_path / "model")
    message = "model: holds a model already; --resume goes on with it, --overwrite deletes it"
    with pytest.raises(UsageError, match=message):
        resumes(folder, config, resume=False, overwrite=False, init=None)
    assert resumes(folder, config, resume=True, overwrite=False, init=None)
    assert not resumes(folder, config, resume=False, overwrite=True, init=None)
    assert files_in(folder) == sorted([*OF_A_MODEL, "notes.txt"])


@pytest.mark.parametrize("sign", OF_A_MODEL)
def test_a_part_of_a_model_is_not_overwritten_unasked_either(
    sign: str, config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    (folder / sign).parent.mkdir(parents=True)
    (folder / sign).write_text(dump_config(config))
    with pytest.raises(UsageError, match="holds a model already"):
        resumes(folder, config, resume=False, overwrite=False, init=None)
    if sign != "config.toml":
        with pytest.raises(ModelError, match=r"not a model folder: no config\.toml"):
            resumes(folder, config, resume=True, overwrite=False, init=None)


@pytest.fixture(params=[False, True], ids=["empty", "model"])
def any_folder(request: pytest.FixtureRequest, config: Config, tmp_path: Path) -> Path:
    """A folder that training may begin in: there is a model in it, or nothing."""
    folder = tmp_path / "model"
    folder.mkdir()
    return model_of(config, folder) if request.param else folder


def test_a_start_takes_the_place_of_the_model_and_of_nothing_else(
    any_folder: Path, config: Config
) -> None:
    folder, before = any_folder, files_in(any_folder)
    with new_start(folder, config, None) as staging:
        for name in ("tokenizer/source.model", "encoded/target.bin", "config.toml"):
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text("new")
        assert set(before) <= set(files_in(folder))  # all is there until the block ends
    found = ["config.toml", "encoded/target.bin", "tokenizer/source.model"]
    assert files_in(folder) == sorted([*found, *({"notes.txt"} & set(before))])
    assert {(folder / name).read_text() for name in found} == {"new"}
    assert resumes(folder, config, resume=False, overwrite=True, init=None) is False


def test_a_start_that_fails_leaves_the_model_as_it_was(any_folder: Path, config: Config) -> None:
    folder, before = any_folder, files_in(any_folder)
    with pytest.raises(FileNotFoundError), new_start(folder, config, None) as staging:
        (staging / "missing" / "config.toml").write_text("new")
    assert files_in(folder) == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".tmp")] == []


@pytest.mark.parametrize("place", ["tokenizer", "checkpoints", "config.toml"])
def test_a_start_that_was_killed_as_it_took_its_place_is_begun_again(
    place: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_of(config, tmp_path / "model")
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name == place:
            raise Killed
        return rename(path, target)

    def laid_out(staging: Path) -> None:
        for name in ("tokenizer", "checkpoints"):
            (staging / name).mkdir()
        (staging / "config.toml").write_text("new")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(Killed), new_start(folder, config, None) as staging:
            laid_out(staging)
    for resume in (False, True):
        assert not resumes(folder, config, resume=resume, overwrite=False, init=None)
    with new_start(folder, config, None) as staging:
        laid_out(staging)
    assert files_in(folder) == ["config.toml", "notes.txt"]


def test_a_start_with_other_weights_that_is_cut_short_is_not_gone_on_with(
    config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizers = train_tokenizers(
        [Pair(1, "abcd", "dcba")], TokenizerConfig(type="char", vocabulary_size=270)
    )
    start = InitialModel(tokenizers, {"kernel": np.array([1.5, -2.0], np.float32)})
    with pytest.raises(FileNotFoundError), new_start(folder, config, start) as staging:
        (staging / "missing" / "config.toml").write_text("new")
    message = r"model: cannot be resumed: its start with --init was cut short.*delete .*\.tmp-init "
    with pytest.raises(UsageError, match=message):
        resumes(folder, config, resume=True, overwrite=False, init=None)
    with new_start(folder, config, start):
        pass
    assert resumes(folder, config, resume=True, overwrite=False, init=None)
    np.testing.assert_array_equal(load_checkpoint(folder, 0).weights["kernel"], [1.5, -2.0])
    assert TokenizerPair.load(folder / "tokenizer").same_as(tokenizers)


def test_what_cannot_be_deleted_is_a_storage_error(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_of(config, tmp_path / "model")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refused)
    message = "model/checkpoints: cannot be deleted: Permission denied"
    with (
        pytest.raises(StorageError, match=message),
        new_start(folder, config, None),
    ):
        pass


def test_a_model_is_not_deleted_to_begin_with_it(config: Config, tmp_path: Path) -> None:
    folder = model_of(config, tmp_path / "model")
    (tmp_path / "alias").symlink_to(folder)
    with pytest.raises(UsageError, match="is the folder to write, whose model would be lost"):
        resumes(folder, config, resume=False, overwrite=True, init=tmp_path / "alias")


def test_a_resumed_run_may_change_how_long_it_lasts_but_not_what_it_learns(
    config: Config, tmp_path: Path
) -> None:
    folder, text = model_of(config, tmp_path / "model"), tmp_path / "words"
    longer = config_for(text, training__max_steps=99, validation={"patience": 3})
    assert resumes(folder, longer, resume=True, overwrite=False, init=None)
    other = config_for(text, seed=7, model__dropout=0.5, training__max_steps=99)
    message = r"another experiment: model\.dropout was 0\.2, is 0\.5; seed was 1, is 7; set them"
    with pytest.raises(UsageError, match=message):
        resumes(folder, other, resume=True, overwrite=False, init=None)


@pytest.mark.parametrize("changed", [{"bleu_tokenizer": "char"}, {"beam_size": 3}])
def test_a_resumed_run_measures_bleu_as_before(
    changed: dict[str, Any], config: Config, tmp_path: Path
) -> None:
    """Else it would take another way of counting for better or worse weights."""
    folder = model_of(config, tmp_path / "model")
    other = config_for(tmp_path / "words", validation=changed)
    with pytest.raises(UsageError, match=rf"validation\.{next(iter(changed))} was .*, is "):
        resumes(folder, other, resume=True, overwrite=False, init=None)


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


def test_what_is_deleted_before_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    (folder / "checkpoints" / "step-1" / "weights").write_bytes(b"x" * 1_500_000)
    (folder / "config.toml").write_bytes(b"x" * 500_000)
    (folder / "other").write_bytes(b"x" * 500_000)
    assert size_of_model(folder) == 2_000_000
    monkeypatch.setattr(Disk, "written", 0)
    monkeypatch.setattr(Path, "open", lambda *_: Disk())
    check_room(folder, 10_000_000, kept=2, freed=2_000_000)
    assert 8_000_000 < Disk.written <= 8_000_000 + 2**20
    check_room(folder, 1_000_000, kept=2, freed=2_000_000)


def test_a_disk_without_room_is_told_with_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - check_room closes it
    monkeypatch.setattr(Path, "open", lambda *_: full)
    message = (
        r"cannot be written: No space left on device; a checkpoint needs 2\.5 MB, and up to 2 are"
    )
    with pytest.raises(StorageError, match=message):
        check_room(tmp_path, 2_500_000, kept=2)
