"""F17: model folders made to do harm, and files that are no model files at all."""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from commands import started
from model_fixtures import STEP, tiny_config, write_model_folder
from verdicts import Verdict, two_at_a_time

from seq2seq.errors import ModelError

COMMANDS = ["translate", "inspect"]
MOST_MEMORY = 2  # times what the same command needs of a model without fault
HUGE = 1 << 40
SPARSE = 2 << 30  # bytes of a file without content; takes none of the disk


class Canary:
    """Runs a shell command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._command = f"touch {path}"

    def __reduce__(self) -> Any:
        return os.system, (self._command,)


Attack = Callable[[Path, Path], None]
"""Makes of a model folder, with a checkpoint in it, one that harms; the path is the canary's."""


def refused(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F17: case n is attack n: `translate` and `inspect` must refuse the folder with exit code 4.

    In one line, without a canary having been made, and in less than twice the memory that a good
    model takes. There is nothing random.
    """
    del seed
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_model_folder(work / "good", tiny_config(work))
        usual = {command: _memory(_translating(work / "good", command)) for command in COMMANDS}

        def attacked(case: int) -> list[Verdict]:
            if case >= len(ATTACKS):
                return []
            attack, folder, canary = ATTACKS[case], work / f"case-{case}", work / f"canary-{case}"
            shutil.copytree(work / "good", folder)
            attack(folder, canary)
            ended = [_memory(_translating(folder, command)) for command in COMMANDS]
            faults = []
            for command, (exit_code, errors, memory) in zip(COMMANDS, ended, strict=True):
                refused = exit_code == ModelError.exit_code and errors.count("\n") == 1
                if not refused and not (command == "inspect" and attack in SHOWN):
                    faults.append(f"{command}: exit code {exit_code}: {errors[-300:]}")
                if "\x1b" in errors:
                    faults.append(f"{command}: an escape sequence is shown")
                if memory > MOST_MEMORY * usual[command][2]:
                    faults.append(f"{command}: took {memory >> 20} MB")
            if canary.exists():
                faults.append("code was run")
            return [Verdict(case, "; ".join(faults), attack.__name__.replace("_", " "))]

        yield from two_at_a_time(attacked, cases)


def _translating(folder: Path, command: str) -> "subprocess.Popen[bytes]":
    text = [str(folder.parent / "sentences.txt")] if command == "translate" else []
    return started([command, str(folder), *text])


def _memory(process: "subprocess.Popen[bytes]") -> tuple[int, str, int]:
    """Exit code, standard error, and the most bytes that the process had in memory."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        process.stdout.read()
        errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, errors, usage.ru_maxrss << 10


def _checkpoint(folder: Path) -> Path:
    return folder / "checkpoints" / f"step-{STEP}"


def _put_weights(folder: Path, content: bytes) -> None:
    """Puts bytes in the place of the weights, with a manifest that says they are right."""
    (_checkpoint(folder) / "weights.safetensors").write_bytes(content)
    about = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    _put_in_manifest(folder, {"weights.safetensors": about})


def _put_in_manifest(folder: Path, files: dict[str, Any]) -> None:
    path = _checkpoint(folder) / "MANIFEST.json"
    manifest = json.loads(path.read_bytes())
    manifest["files"] |= files
    path.write_text(json.dumps(manifest), encoding="utf-8")


def _safetensors(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _replace(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _sparse(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, SPARSE)


def _set(folder: Path, old: str, new: str) -> None:
    path = folder / "config.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def pickled_weights(folder: Path, canary: Path) -> None:
    """A pickle that runs a command."""
    _put_weights(folder, pickle.dumps(Canary(canary)))


def pickled_weights_in_a_zip(folder: Path, canary: Path) -> None:
    """As PyTorch saves them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary(canary)))
    _put_weights(folder, content.getvalue())


def an_npz_of_objects(folder: Path, canary: Path) -> None:
    """NumPy unpickles them if it is let."""
    content = io.BytesIO()
    np.savez(content, kernel=np.array([Canary(canary)], object))
    _put_weights(folder, content.getvalue())


def an_hdf5_file(folder: Path, canary: Path) -> None:
    """With a dataset whose bytes lie in another file."""
    del canary
    path = folder / "weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kernel", (8,), "u1", external=[("/etc/passwd", 0, 8)])
    _put_weights(folder, path.read_bytes())


def a_keras_file_with_a_lambda(folder: Path, canary: Path) -> None:
    """Keras runs its code if it is let."""
    command = f"touch {canary}"
    harm = keras.layers.Lambda(lambda x: (__import__("os").system(command), x)[1])
    path = folder / "model.keras"
    keras.Sequential([keras.Input((1,)), harm]).save(path)
    canary.unlink(missing_ok=True)  # it was run when the model was made
    _put_weights(folder, path.read_bytes())


def a_zip_bomb(folder: Path, canary: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    del canary
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kernel.npy", bytes(1 << 30))
    _put_weights(folder, content.getvalue())


def a_header_longer_than_the_file(folder: Path, canary: Path) -> None:
    """Its length is the largest number there is."""
    del canary
    _put_weights(folder, b"\xff" * 8 + b"{}")


def a_header_of_100_megabytes(folder: Path, canary: Path) -> None:
    """Valid, with a million arrays without content."""
    del canary
    about = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    _put_weights(folder, _safetensors({f"array-{i:025}": about for i in range(1_000_000)}))


def a_shape_without_bytes(folder: Path, canary: Path) -> None:
    """A terabyte is declared, and four bytes are there."""
    del canary
    about = {"dtype": "F32", "shape": [HUGE // 4], "data_offsets": [0, HUGE]}
    _put_weights(folder, _safetensors({"kernel": about}, bytes(4)))


def a_shape_that_overflows(folder: Path, canary: Path) -> None:
    """The product of the sizes is 0 in 64 bits."""
    del canary
    about = {"dtype": "F32", "shape": [HUGE, HUGE], "data_offsets": [0, 0]}
    _put_weights(folder, _safetensors({"kernel": about}))


def weights_that_are_no_floats(folder: Path, canary: Path) -> None:
    """Of the same size, but whole numbers."""
    del canary
    content = (_checkpoint(folder) / "weights.safetensors").read_bytes()
    _put_weights(folder, content.replace(b'"F32"', b'"I32"'))


def arrays_over_each_other(folder: Path, canary: Path) -> None:
    """Each alone is right."""
    del canary
    about = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    _put_weights(folder, _safetensors({"one": about, "other": about}, bytes(8)))


def weights_of_two_gigabytes(folder: Path, canary: Path) -> None:
    """All is as it should be, but that the configuration has no place for them."""
    del canary
    header = {"kernel": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, HUGE]}}
    length = len(_safetensors(header))
    size = (SPARSE - length) // 4
    header["kernel"] |= {"shape": [size], "data_offsets": [0, 4 * size]}
    start = _safetensors(header)
    path = _checkpoint(folder) / "weights.safetensors"
    path.write_bytes(start)
    os.truncate(path, len(start) + 4 * size)
    about = {"bytes": len(start) + 4 * size, "sha256": "0" * 64}
    _put_in_manifest(folder, {"weights.safetensors": about})


def weights_that_are_a_link(folder: Path, canary: Path) -> None:
    """To a file that has nothing to do with the model."""
    del canary
    _replace(_checkpoint(folder) / "weights.safetensors", "/etc/passwd")


def weights_that_are_a_pipe(folder: Path, canary: Path) -> None:
    """Which nobody writes to."""
    del canary
    path = _checkpoint(folder) / "weights.safetensors"
    path.unlink()
    os.mkfifo(path)


def a_checkpoint_that_is_a_link(folder: Path, canary: Path) -> None:
    """To a folder elsewhere."""
    del canary
    elsewhere = folder / "elsewhere"
    _checkpoint(folder).rename(elsewhere)
    _checkpoint(folder).symlink_to(elsewhere)


def a_manifest_with_a_path_upwards(folder: Path, canary: Path) -> None:
    """It names a file outside of the checkpoint."""
    del canary
    _put_in_manifest(folder, {"../../config.toml": {"bytes": 1, "sha256": "0" * 64}})


def a_manifest_with_an_absolute_path(folder: Path, canary: Path) -> None:
    """It names a file of the system."""
    del canary
    _put_in_manifest(folder, {"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}})


def a_tokenizer_elsewhere(folder: Path, canary: Path) -> None:
    """The manifest names a file outside of its folder."""
    del canary
    path = _checkpoint(folder) / "MANIFEST.json"
    manifest = json.loads(path.read_bytes())
    manifest["tokenizer"] = {"../config.toml": {"bytes": 1, "sha256": "0" * 64}}
    path.write_text(json.dumps(manifest), encoding="utf-8")


def a_manifest_without_end(folder: Path, canary: Path) -> None:
    """It is a link to a device."""
    del canary
    _replace(_checkpoint(folder) / "MANIFEST.json", "/dev/zero")


def a_manifest_of_two_gigabytes(folder: Path, canary: Path) -> None:
    """Of zeros."""
    del canary
    _sparse(_checkpoint(folder) / "MANIFEST.json")


def a_manifest_of_brackets(folder: Path, canary: Path) -> None:
    """Deeper than Python recurses."""
    del canary
    (_checkpoint(folder) / "MANIFEST.json").write_text("[" * 100_000)


def a_manifest_with_huge_sizes(folder: Path, canary: Path) -> None:
    """The files have other ones."""
    del canary
    _put_in_manifest(folder, {"weights.safetensors": {"bytes": HUGE, "sha256": "0" * 64}})


def best_scores_without_end(folder: Path, canary: Path) -> None:
    """They are a link to a device."""
    del canary
    _replace(folder / "best.json", "/dev/zero")


def a_best_step_with_a_path(folder: Path, canary: Path) -> None:
    """It names a folder elsewhere."""
    del canary
    (folder / "best.json").write_text('{"step": "/../../../elsewhere"}')


def a_best_step_that_is_infinite(folder: Path, canary: Path) -> None:
    """No whole number."""
    del canary
    (folder / "best.json").write_text('{"step": 1e400}')


def a_tokenizer_that_is_a_link(folder: Path, canary: Path) -> None:
    """To a file of the system."""
    del canary
    _replace(folder / "tokenizer" / "joint.model", "/etc/passwd")


def a_tokenizer_of_two_gigabytes(folder: Path, canary: Path) -> None:
    """Of zeros."""
    del canary
    _sparse(folder / "tokenizer" / "joint.model")


def a_pickled_tokenizer(folder: Path, canary: Path) -> None:
    """It runs a command."""
    (folder / "tokenizer" / "joint.model").write_bytes(pickle.dumps(Canary(canary)))


def another_tokenizer(folder: Path, canary: Path) -> None:
    """One byte of it is another, and SentencePiece may not see it."""
    del canary
    path = folder / "tokenizer" / "joint.model"
    content = bytearray(path.read_bytes())
    place = content.index(b"d", 100)
    content[place] = ord("e")
    path.write_bytes(content)


def a_configuration_of_two_gigabytes(folder: Path, canary: Path) -> None:
    """Of zeros."""
    del canary
    _sparse(folder / "config.toml")


def a_configuration_that_is_a_link(folder: Path, canary: Path) -> None:
    """To a file of the system."""
    del canary
    _replace(folder / "config.toml", "/etc/passwd")


def a_configuration_with_code(folder: Path, canary: Path) -> None:
    """YAML that makes a Python object, where it is let."""
    text = f"!!python/object/apply:os.system ['touch {canary}']\n"
    (folder / "config.toml").write_text(text, encoding="utf-8")


def a_configuration_of_a_huge_model(folder: Path, canary: Path) -> None:
    """It asks for a terabyte of weights."""
    del canary
    _set(folder, "decoder_units = 12", f"decoder_units = {1 << 20}")


def a_configuration_of_many_layers(folder: Path, canary: Path) -> None:
    """It would take for ever to make them."""
    del canary
    _set(folder, "decoder_layers = 1", "decoder_layers = 1000000000")


def a_configuration_with_escapes(folder: Path, canary: Path) -> None:
    """A message with its text would clear the terminal."""
    del canary
    _set(folder, "[model]", '[model]\n"\\u001b[2J" = 1')


ATTACKS: list[Attack] = [
    *(pickled_weights, pickled_weights_in_a_zip, an_npz_of_objects, an_hdf5_file),
    *(a_keras_file_with_a_lambda, a_zip_bomb, a_header_longer_than_the_file),
    *(a_header_of_100_megabytes, a_shape_without_bytes, a_shape_that_overflows),
    *(arrays_over_each_other, weights_of_two_gigabytes, weights_that_are_a_link),
    *(weights_that_are_a_pipe, a_checkpoint_that_is_a_link, a_manifest_with_a_path_upwards),
    *(a_manifest_with_an_absolute_path, a_manifest_without_end, a_manifest_of_two_gigabytes),
    *(a_manifest_of_brackets, a_manifest_with_huge_sizes, best_scores_without_end),
    *(a_best_step_with_a_path, a_best_step_that_is_infinite, a_tokenizer_that_is_a_link),
    *(a_tokenizer_of_two_gigabytes, a_pickled_tokenizer, another_tokenizer),
    *(a_configuration_of_two_gigabytes, a_configuration_that_is_a_link),
    *(a_configuration_with_code, a_configuration_of_a_huge_model, a_configuration_of_many_layers),
    *(a_configuration_with_escapes, weights_that_are_no_floats, a_tokenizer_elsewhere),
]

SHOWN = {a_configuration_of_a_huge_model}  # `inspect` makes no model, and may tell what it is
