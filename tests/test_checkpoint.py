"""Checkpoints: whole or not there, damage found and named, one trainer at a time."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from limited_files import largest_file
from safetensors import SafetensorError

from seq2seq.checkpoint import (
    Checkpoint,
    best_weight_shapes,
    check_best_weights,
    checkpoint_steps,
    load_best_weights,
    load_checkpoint,
    load_newest_checkpoint,
    load_step_weights,
    prune_checkpoints,
    read_best,
    save_checkpoint,
    set_aside_after,
    validated_steps,
    write_best,
)
from seq2seq.durable_files import write_whole
from seq2seq.errors import ModelError, StorageError

FILES = ["MANIFEST.json", "optimizer.safetensors", "training.json", "weights.safetensors"]
EVERY_FILE = pytest.mark.parametrize("name", FILES)


pytestmark = pytest.mark.usefixtures("no_wait_for_the_disk")


def checkpoint_at(step: int, *, size: int = 10) -> Checkpoint:
    """One whose arrays all tell the step."""
    return Checkpoint(
        step=step,
        weights={"encoder/kernel": np.full([2, size], step, np.float32)},
        optimizer={"iteration": np.array(step, np.int64), "rate": np.array(0.5, np.float32)},
        state={"best": {"step": step, "bleu": 1.5}, "seconds": 0.25},
    )


def save_steps(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, checkpoint_at(step))


def file_of(folder: Path, step: int, name: str) -> Path:
    return folder / "checkpoints" / f"step-{step}" / name


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def cut(at: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(at * path.stat().st_size))


def cut_last_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def fill_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def append_a_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES = {
    "missing": Path.unlink,
    "empty": cut(0.0),
    "cut at half": cut(0.5),
    "cut by a byte": cut_last_byte,
    "a bit flipped": flip_one_bit,
    "zeros": fill_with_zeros,
    "a byte too long": append_a_byte,
}
EVERY_DAMAGE = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {
        "encoder/kernel": random.normal(size=[3, 5]).astype(np.float32),
        "transposed": random.normal(size=[4, 2]).astype(np.float32).T,
        "empty": np.zeros([0, 3], np.float32),
        "extremes": np.array([1e-45, -0.0, 3.4e38], np.float32),
    }
    optimizer = {"iteration": np.array(2**40, np.int64), "rate": np.array(0.1, np.float32)}
    state = {"best": {"step": 3, "bleu": 0.1 + 0.2, "signature": "né"}, "plateaus": 2}
    save_checkpoint(tmp_path, Checkpoint(12, weights, optimizer, state))
    loaded = load_checkpoint(tmp_path, 12)
    assert loaded.step == 12
    assert loaded.state == state
    for saved, found in [(weights, loaded.weights), (optimizer, loaded.optimizer)]:
        assert found.keys() == saved.keys()
        for name, array in saved.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes(), name


def test_manifest_tells_the_size_and_hash_of_every_other_file(tmp_path: Path) -> None:
    save_steps(tmp_path, 4)
    folder = tmp_path / "checkpoints" / "step-4"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    assert manifest["step"] == 4
    assert sorted(manifest["files"]) == FILES[1:]
    for name, promised in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert promised["bytes"] == len(content)
        assert promised["sha256"] == hashlib.sha256(content).hexdigest()


def test_objects_are_refused_rather_than_pickled(tmp_path: Path) -> None:
    objects = Checkpoint(1, {"kernel": np.array([{"a": 1}], object)}, {}, {})
    with pytest.raises(SafetensorError, match="object"):
        save_checkpoint(tmp_path, objects)
    assert checkpoint_steps(tmp_path) == []


@EVERY_FILE
@EVERY_DAMAGE
def test_damage_is_found_and_named_and_the_one_before_is_newest(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    save_steps(tmp_path, 3, 6)
    damage(file_of(tmp_path, 6, name))
    with pytest.raises(ModelError, match=rf"step-6.*{name}"):
        load_checkpoint(tmp_path, 6)
    newest, damaged = load_newest_checkpoint(tmp_path)
    assert newest.step == 3
    np.testing.assert_array_equal(newest.weights["encoder/kernel"], np.full([2, 10], 3))
    assert len(damaged) == 1
    assert "step-6" in damaged[0]
    assert name in damaged[0]
    assert "\n" not in damaged[0]


def test_messages_tell_missing_from_damaged(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    file_of(tmp_path, 1, "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors: missing; the checkpoint is dam"):
        load_checkpoint(tmp_path, 1)
    flip_one_bit(file_of(tmp_path, 2, "weights.safetensors"))
    with pytest.raises(ModelError, match="damaged: not the size and sha256 that MANIFEST"):
        load_checkpoint(tmp_path, 2)


def test_every_flipped_bit_of_the_manifest_is_found(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    path = file_of(tmp_path, 6, "MANIFEST.json")
    whole = path.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        with pytest.raises(ModelError, match="step-6"):
            load_checkpoint(tmp_path, 6)
    path.write_bytes(whole)
    assert load_checkpoint(tmp_path, 6).step == 6


@pytest.mark.parametrize("text", ["[]", "null", '{"format": 1}', '{"format":1,"step":6,"files":3}'])
def test_a_manifest_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    save_steps(tmp_path, 6)
    file_of(tmp_path, 6, "MANIFEST.json").write_text(text)
    with pytest.raises(ModelError, match=r"step-6: not a whole checkpoint: MANIFEST\.json"):
        load_checkpoint(tmp_path, 6)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    path = file_of(tmp_path, 6, "MANIFEST.json")
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(ModelError, match="step-6: format 2, expected 1"):
        load_checkpoint(tmp_path, 6)


def test_files_of_one_checkpoint_swapped_are_found(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    weights = file_of(tmp_path, 6, "weights.safetensors")
    optimizer = file_of(tmp_path, 6, "optimizer.safetensors")
    held = tmp_path / "held"
    weights.rename(held)
    optimizer.rename(weights)
    held.rename(optimizer)
    with pytest.raises(ModelError, match=r"weights\.safetensors: damaged"):
        load_checkpoint(tmp_path, 6)


def test_a_checkpoint_under_the_name_of_another_step_is_refused(tmp_path: Path) -> None:
    save_steps(tmp_path, 3, 6)
    (tmp_path / "checkpoints" / "step-6").rename(tmp_path / "checkpoints" / "step-9")
    with pytest.raises(ModelError, match=r"step-9: MANIFEST\.json is of step 6; give the folder"):
        load_checkpoint(tmp_path, 9)
    assert load_newest_checkpoint(tmp_path)[0].step == 3


def test_an_error_while_reading_counts_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_steps(tmp_path, 6)

    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(ModelError, match=r"step-6: cannot be read: .*Input/output error"):
        load_checkpoint(tmp_path, 6)


def test_newest_is_the_highest_step_whatever_the_clock_says(tmp_path: Path) -> None:
    save_steps(tmp_path, 9, 10, 8)
    os.utime(tmp_path / "checkpoints" / "step-8", (4e9, 4e9))
    assert checkpoint_steps(tmp_path) == [8, 9, 10]
    newest, damaged = load_newest_checkpoint(tmp_path)
    assert (newest.step, damaged) == (10, [])


def test_no_whole_checkpoint_is_an_error_that_names_all(tmp_path: Path) -> None:
    save_steps(tmp_path, 3, 6)
    flip_one_bit(file_of(tmp_path, 3, "training.json"))
    file_of(tmp_path, 6, "optimizer.safetensors").unlink()
    both = r"no usable checkpoint: .*step-6.optimizer\.safetensors.*; .*step-3.training\.json"
    with pytest.raises(ModelError, match=both):
        load_newest_checkpoint(tmp_path)


def test_no_checkpoint_at_all_is_an_error(tmp_path: Path) -> None:
    assert checkpoint_steps(tmp_path) == []
    with pytest.raises(ModelError, match=r"no usable checkpoint: no checkpoint in .*checkpoints"):
        load_newest_checkpoint(tmp_path)
    with pytest.raises(ModelError, match="step-1: not a whole checkpoint"):
        load_checkpoint(tmp_path, 1)


def test_what_a_crash_left_is_ignored_and_cleaned_with_the_next_checkpoint(tmp_path: Path) -> None:
    save_steps(tmp_path, 3)
    left = tmp_path / "checkpoints" / ".tmp-step-6-123"
    shutil.copytree(tmp_path / "checkpoints" / "step-3", left)
    (tmp_path / "checkpoints" / "step-next").mkdir()
    assert checkpoint_steps(tmp_path) == [3]
    assert load_newest_checkpoint(tmp_path)[0].step == 3
    prune_checkpoints(tmp_path, keep=2)
    assert entries(tmp_path) == ["step-3", "step-next"]


def test_saving_over_what_an_own_crash_left_works(tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / f".tmp-step-6-{os.getpid()}"
    left.mkdir(parents=True)
    (left / "weights.safetensors").write_bytes(b"half")
    (left / "other").write_bytes(b"")
    save_steps(tmp_path, 6)
    assert entries(tmp_path) == ["step-6"]
    assert sorted(path.name for path in file_of(tmp_path, 6, "x").parent.iterdir()) == FILES


def test_a_step_that_is_saved_stays_as_it_is(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    save_checkpoint(tmp_path, Checkpoint(6, {}, {}, {}))
    assert "encoder/kernel" in load_checkpoint(tmp_path, 6).weights


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    save_steps(tmp_path, 2, 4, 6, 8, 10)
    write_best(tmp_path, {"step": 4})
    prune_checkpoints(tmp_path, keep=2)
    assert checkpoint_steps(tmp_path) == [4, 8, 10]
    prune_checkpoints(tmp_path, keep=1)
    assert checkpoint_steps(tmp_path) == [4, 10]
    write_best(tmp_path, {"step": 10})
    prune_checkpoints(tmp_path, keep=1)
    assert checkpoint_steps(tmp_path) == [10]


def test_pruning_without_a_best_keeps_the_newest(tmp_path: Path) -> None:
    save_steps(tmp_path, 2, 4, 6)
    prune_checkpoints(tmp_path, keep=2)
    assert checkpoint_steps(tmp_path) == [4, 6]
    prune_checkpoints(tmp_path, keep=5)
    assert checkpoint_steps(tmp_path) == [4, 6]


def save_unvalidated(folder: Path, *steps: int) -> None:
    for step in steps:
        state = {**checkpoint_at(step).state, "validated": False}
        save_checkpoint(folder, dataclasses.replace(checkpoint_at(step), state=state))


def test_rounds_of_training_are_kept_whatever_the_clock_made_in_between(tmp_path: Path) -> None:
    save_steps(tmp_path, 4, 8, 12)
    save_unvalidated(tmp_path, 0, 2, 9, 13, 15)
    assert validated_steps(tmp_path) == [4, 8, 12]
    write_best(tmp_path, {"step": 4})
    prune_checkpoints(tmp_path, keep=2)
    assert checkpoint_steps(tmp_path) == [4, 8, 12, 13, 15]
    prune_checkpoints(tmp_path, keep=1)
    assert checkpoint_steps(tmp_path) == [4, 12, 15]


def test_step_0_is_no_round_and_a_damaged_state_may_be(tmp_path: Path) -> None:
    save_steps(tmp_path, 0, 4)
    save_unvalidated(tmp_path, 6)
    file_of(tmp_path, 6, "training.json").write_bytes(b"{")
    assert validated_steps(tmp_path) == [4, 6]


@pytest.mark.parametrize(
    "name", ["step-\u00b2", "step-0100", "step-", "step--1", "step-1x", "step-\u0663"]
)
def test_a_folder_of_another_name_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    save_steps(tmp_path, 0, 12)
    (tmp_path / "checkpoints" / name).mkdir()
    assert checkpoint_steps(tmp_path) == [0, 12]


def test_damaged_ones_set_aside_neither_count_nor_stand_in_the_way(tmp_path: Path) -> None:
    save_steps(tmp_path, 3, 6, 9)
    flip_one_bit(file_of(tmp_path, 6, "weights.safetensors"))
    assert set_aside_after(tmp_path, 3) == ["damaged-step-9", "damaged-step-6"]
    assert checkpoint_steps(tmp_path) == [3]
    assert entries(tmp_path) == ["damaged-step-6", "damaged-step-9", "step-3"]
    save_steps(tmp_path, 6)
    assert load_newest_checkpoint(tmp_path)[0].step == 6
    set_aside_after(tmp_path, 3)  # once more: the older damaged one makes room
    assert entries(tmp_path) == ["damaged-step-6", "damaged-step-9", "step-3"]


@contextmanager
def failing_fsync(monkeypatch: pytest.MonkeyPatch, call: int) -> Iterator[list[int]]:
    """os.fsync raises at its n-th call, from 1; gives the list of calls made."""
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield calls


# Four files and the temporary folder are synced before the checkpoint is visible.
@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
def test_a_failing_write_leaves_nothing_and_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    save_steps(tmp_path, 3)
    message = "step-6: cannot be written: No space left on device$"
    with failing_fsync(monkeypatch, call), pytest.raises(StorageError, match=message) as caught:
        save_steps(tmp_path, 6)
    assert caught.value.exit_code == 5
    assert entries(tmp_path) == ["step-3"]
    assert load_newest_checkpoint(tmp_path)[0].step == 3
    save_steps(tmp_path, 6)  # there is space again
    assert load_newest_checkpoint(tmp_path)[0].step == 6


def test_a_folder_that_cannot_be_synced_is_a_storage_error_and_what_is_visible_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_steps(tmp_path, 3)
    with failing_fsync(monkeypatch, 6) as calls, pytest.raises(StorageError, match="step-6"):
        save_steps(tmp_path, 6)
    assert len(calls) == 6
    assert all(load_checkpoint(tmp_path, step) for step in checkpoint_steps(tmp_path))
    assert not [name for name in entries(tmp_path) if name.startswith(".tmp")]


def test_every_file_is_synced_before_the_checkpoint_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def fsync(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return real(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    save_steps(tmp_path, 6)
    model, *files, temporary, renamed, parent = events
    assert model == tmp_path.name  # the folder of checkpoints is new
    assert sorted(files) == FILES
    assert temporary.startswith(".tmp-step-6")
    assert (renamed, parent) == ("rename", "checkpoints")


def test_weights_that_do_not_fit_on_the_disk_are_a_storage_error(tmp_path: Path) -> None:
    save_steps(tmp_path, 3)
    with largest_file(50_000), pytest.raises(StorageError, match=r"step-6: cannot be written: .+"):
        save_checkpoint(tmp_path, checkpoint_at(6, size=100_000))
    assert entries(tmp_path) == ["step-3"]


def test_a_failing_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(path: Path, target: Path) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        with pytest.raises(StorageError, match="step-6: cannot be written: Read-only file system"):
            save_steps(tmp_path, 6)
    assert entries(tmp_path) == []


# Children are killed in the middle of saving step 6, at each call that reaches the disk.
KILLED_AT_EVERY_CALL = """
import os, shutil, signal, sys
from pathlib import Path
import test_checkpoint
from seq2seq.checkpoint import checkpoint_steps, load_newest_checkpoint, prune_checkpoints

folder = Path(sys.argv[1])
test_checkpoint.save_steps(folder, 3)
names = ["os.fsync", "os.open", "os.rename", "os.mkdir"]
for name in names:
    for call in range(1, 20):
        child = os.fork()
        if child == 0:
            real, count = getattr(os, name[3:]), 0
            def killing(*args, **kwargs):
                global count
                count += 1
                if count == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)
            setattr(os, name[3:], killing)
            test_checkpoint.save_steps(folder, 6)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        newest, damaged = load_newest_checkpoint(folder)
        print(name, call, killed, newest.step, len(damaged))
        if not killed:
            break
        if newest.step == 6:
            shutil.rmtree(folder / "checkpoints" / "step-6")
    prune_checkpoints(folder, keep=2)
    shutil.rmtree(folder / "checkpoints" / "step-6")
    assert os.listdir(folder / "checkpoints") == ["step-3"], os.listdir(folder / "checkpoints")
"""


def test_kill_9_at_any_moment_of_a_save_leaves_whole_checkpoints(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_CALL, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent,
    )
    assert finished.returncode == 0, finished.stderr
    killed_at = dict.fromkeys(["os.fsync", "os.open", "os.rename", "os.mkdir"], 0)
    for line in finished.stdout.splitlines():
        name, _, killed, newest, damaged = line.split()
        assert damaged == "0", line
        if killed == "True":
            killed_at[name] += 1
        else:
            assert newest == "6", line
    # The sixth fsync comes after the rename; all the others before.
    assert killed_at["os.fsync"] == 6
    assert all(killed_at.values())


def test_best_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_best(tmp_path) is None
    best = {"step": 6, "bleu": 31.25, "signature": "nrefs:1|tok:13a"}
    write_best(tmp_path, {"step": 3})
    write_best(tmp_path, best)
    assert read_best(tmp_path) == best
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"step": "many"}', '{"step": null}', "\0\0"]
)
def test_an_unusable_best_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "best.json").write_text(text)
    with pytest.raises(ModelError, match=r"best\.json: not a record of the best step"):
        read_best(tmp_path)


def test_a_file_that_cannot_be_written_whole_stays_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_best(tmp_path, {"step": 3})
    message = r"best\.json: cannot be written: No space left on device"
    with failing_fsync(monkeypatch, 1), pytest.raises(StorageError, match=message):
        write_best(tmp_path, {"step": 6})
    long = tmp_path / "config.toml"
    with largest_file(1000), pytest.raises(StorageError, match=r"config\.toml: cannot be written"):
        write_whole(long, "x" * 2000)
    assert read_best(tmp_path) == {"step": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]


def test_best_weights_are_those_of_the_best_step(tmp_path: Path) -> None:
    save_steps(tmp_path, 3, 6, 9)
    assert load_best_weights(tmp_path)["encoder/kernel"][0, 0] == 9  # none validated: the newest
    write_best(tmp_path, {"step": 6})
    assert load_best_weights(tmp_path)["encoder/kernel"][0, 0] == 6
    # What only training needs is not asked for.
    file_of(tmp_path, 6, "optimizer.safetensors").unlink()
    assert load_best_weights(tmp_path)["encoder/kernel"][0, 0] == 6


def test_the_weights_that_are_checked_are_those_that_are_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no usable checkpoint: no checkpoint in "):
        check_best_weights(tmp_path)
    save_steps(tmp_path, 1, 2, 3)
    check_best_weights(tmp_path)
    flip_one_bit(file_of(tmp_path, 3, "optimizer.safetensors"))
    assert load_best_weights(tmp_path)["encoder/kernel"][0, 0] == 2
    check_best_weights(tmp_path)
    flip_one_bit(file_of(tmp_path, 1, "weights.safetensors"))
    check_best_weights(tmp_path)
    write_best(tmp_path, {"step": 1, "bleu": 9.5})
    with pytest.raises(ModelError, match=r"step-1.weights\.safetensors: damaged"):
        check_best_weights(tmp_path)


@EVERY_DAMAGE
def test_damaged_best_weights_are_an_error_not_another_model(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    save_steps(tmp_path, 3, 6)
    write_best(tmp_path, {"step": 3})
    damage(file_of(tmp_path, 3, "weights.safetensors"))
    with pytest.raises(ModelError, match=r"step-3.weights\.safetensors"):
        load_best_weights(tmp_path)


def test_a_best_step_that_is_gone_is_an_error(tmp_path: Path) -> None:
    save_steps(tmp_path, 3)
    write_best(tmp_path, {"step": 6})
    with pytest.raises(ModelError, match="step-6: not a whole checkpoint"):
        load_best_weights(tmp_path)


def put_weights(folder: Path, content: bytes) -> None:
    """Puts bytes in the place of the weights of step 6, with a manifest that promises them."""
    file_of(folder, 6, "weights.safetensors").write_bytes(content)
    path = file_of(folder, 6, "MANIFEST.json")
    manifest = json.loads(path.read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"]["weights.safetensors"] = {"bytes": len(content), "sha256": digest}
    path.write_text(json.dumps(manifest))


def test_shapes_are_known_without_reading_the_weights(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    assert best_weight_shapes(tmp_path) == {"encoder/kernel": (2, 10)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff" * 8, r"a header of 18,446,744,073,709,551,615 bytes, expected at most 1,048,576"),
        (b"\x02" + bytes(7) + b"{}" + bytes(4), "has 14 bytes, expected 10 for the weights in its"),
        (b"\x02" + bytes(7) + b"[]", "cannot be read: "),
        (b"", "cannot be read: "),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    save_steps(tmp_path, 6)
    put_weights(tmp_path, content)
    with pytest.raises(ModelError, match=rf"weights\.safetensors: {message}"):
        best_weight_shapes(tmp_path)


def test_a_header_too_long_is_refused_when_weights_are_read(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    put_weights(tmp_path, b"\xff" * 8)
    with pytest.raises(ModelError, match="a header of 18,446,744"):
        load_checkpoint(tmp_path, 6)


def test_the_weights_of_a_step_are_checked_and_nothing_else_of_it_is_read(tmp_path: Path) -> None:
    save_steps(tmp_path, 6, 8)
    file_of(tmp_path, 6, "optimizer.safetensors").unlink()
    np.testing.assert_array_equal(
        load_step_weights(tmp_path, 6)["encoder/kernel"], np.full([2, 10], 6, np.float32)
    )
    path = file_of(tmp_path, 8, "weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelError, match=r"weights\.safetensors: damaged: not the size and sha256"):
        load_step_weights(tmp_path, 8)
    with pytest.raises(ModelError, match=r"step-7: not a whole checkpoint"):
        load_step_weights(tmp_path, 7)


@pytest.mark.parametrize("name", ["../../config.toml", "/etc/passwd", "other"])
def test_a_manifest_that_names_other_files_is_refused(tmp_path: Path, name: str) -> None:
    save_steps(tmp_path, 6)
    path = file_of(tmp_path, 6, "MANIFEST.json")
    manifest = json.loads(path.read_bytes())
    manifest["files"][name] = {"bytes": 1, "sha256": ""}
    path.write_text(json.dumps(manifest))
    message = rf"step-6: MANIFEST.json names .*{name}.*; expected optimizer\.safetensors, training"
    with pytest.raises(ModelError, match=message):
        load_checkpoint(tmp_path, 6)


def test_links_are_refused(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    path = file_of(tmp_path, 6, "weights.safetensors")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"weights\.safetensors: is a symbolic link"):
        load_checkpoint(tmp_path, 6)
    path.parent.rename(tmp_path / "step-6")
    path.parent.symlink_to(tmp_path / "step-6")
    with pytest.raises(ModelError, match="step-6: is a symbolic link; expected the checkpoint"):
        load_checkpoint(tmp_path, 6)


def test_weights_are_refused_with_another_tokenizer_than_they_were_trained_with(
    tmp_path: Path,
) -> None:
    tokenizer = tmp_path / "tokenizer" / "joint.model"
    tokenizer.parent.mkdir()
    tokenizer.write_bytes(b"pieces")
    save_steps(tmp_path, 6)
    assert load_checkpoint(tmp_path, 6).step == 6
    tokenizer.write_bytes(b"peices")
    for load in (load_best_weights, load_newest_checkpoint, best_weight_shapes):
        with pytest.raises(ModelError, match=r"joint\.model: damaged: not the size and sha256"):
            load(tmp_path)
    tokenizer.unlink()
    with pytest.raises(ModelError, match=r"joint\.model: missing; the checkpoint is damaged"):
        load_best_weights(tmp_path)


def test_weights_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    content = file_of(tmp_path, 6, "weights.safetensors").read_bytes()
    put_weights(tmp_path, content.replace(b'"F32"', b'"I32"'))
    with pytest.raises(ModelError, match=r"has weights of type I32, expected F32 \(float32\)"):
        best_weight_shapes(tmp_path)


def test_a_manifest_with_a_tokenizer_elsewhere_is_refused(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    path = file_of(tmp_path, 6, "MANIFEST.json")
    manifest = json.loads(path.read_bytes())
    manifest["tokenizer"] = {"../joint.model": {"bytes": 1, "sha256": ""}}
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"a tokenizer's file is called '../joint\.model'"):
        load_checkpoint(tmp_path, 6)


def test_what_a_crash_left_beside_a_tokenizer_is_not_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "tokenizer" / "folder").mkdir(parents=True)
    left = tmp_path / "tokenizer" / ".tmp-joint.model"
    left.write_bytes(b"half")
    save_steps(tmp_path, 6)
    left.unlink()
    assert load_checkpoint(tmp_path, 6).step == 6


def test_a_manifest_of_version_0_1_0_has_no_tokenizer_to_check(tmp_path: Path) -> None:
    save_steps(tmp_path, 6)
    path = file_of(tmp_path, 6, "MANIFEST.json")
    manifest = json.loads(path.read_bytes())
    del manifest["tokenizer"]
    path.write_text(json.dumps(manifest))
    assert load_checkpoint(tmp_path, 6).step == 6
