"""F7: checkpoints whose bytes are not those that were written."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from commands import difference
from rehearsal import SAVED, Rehearsal, run, script
from verdicts import Verdict, drawing

from seq2seq.checkpoint import load_newest_checkpoint
from seq2seq.errors import ModelError
from seq2seq.model_files import CHECKPOINTS_FOLDER

Draw = random.Random


def corrupted(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    """F7: a random damage to one file, or two, of the newest checkpoint, and then to all of them.

    Damage must be found and the training go on from the checkpoint before to the same bits, saying
    so; with all damaged it must end with exit code 4 and never start anew.
    """
    with tempfile.TemporaryDirectory() as name:
        rehearsal = Rehearsal(Path(name))
        for case in cases:
            draw = drawing("corruption", seed=seed, case=case)
            damage = DAMAGES[case % len(DAMAGES)]
            fault = _fault(rehearsal, damage, draw)
            yield Verdict(case, fault, damage.__name__.replace("_", " "))
            shutil.rmtree(rehearsal.work / "model")


def _fault(rehearsal: Rehearsal, damage: Callable[[Path, Draw], None], draw: Draw) -> str:
    folder = rehearsal.work / "model"
    shutil.copytree(rehearsal.unbroken, folder)
    newest = folder / CHECKPOINTS_FOLDER / f"step-{SAVED[-1]}"
    damage(newest, draw)
    checkpoint, damaged = load_newest_checkpoint(folder)
    if checkpoint.step != SAVED[-2] or len(damaged) != 1 or newest.name not in damaged[0]:
        return f"not found: step {checkpoint.step} is the newest, damaged are {damaged}"
    with script():
        resumed = run(*rehearsal.training(folder))
    if resumed.exit_code or f"going on from step {SAVED[-2]}" not in resumed.errors:
        return f"exit code {resumed.exit_code}: {resumed.errors}"
    if different := difference(folder, rehearsal.unbroken):
        return different
    for checkpoint_folder in (folder / CHECKPOINTS_FOLDER).glob("step-*"):
        damage(checkpoint_folder, draw)
    with script() as updates:
        resumed = run(*rehearsal.training(folder))
    if resumed.exit_code != ModelError.exit_code or "no usable checkpoint" not in resumed.errors:
        return f"all damaged, and exit code {resumed.exit_code}: {resumed.errors}"
    return "started anew" if updates.updates else ""


def _file(checkpoint: Path, draw: Draw) -> Path:
    return draw.choice(sorted(checkpoint.iterdir()))


def _cut_to(share: float) -> Callable[[Path, Draw], None]:
    def cut(checkpoint: Path, draw: Draw) -> None:
        path = _file(checkpoint, draw)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    cut.__name__ = f"cut to {share:.0%}"
    return cut


def a_flipped_byte(checkpoint: Path, draw: Draw) -> None:
    """One byte is another one."""
    path = _file(checkpoint, draw)
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    path.write_bytes(content)


def a_deleted_file(checkpoint: Path, draw: Draw) -> None:
    """A file is missing."""
    _file(checkpoint, draw).unlink()


def two_swapped_files(checkpoint: Path, draw: Draw) -> None:
    """Two files have each other's names."""
    one, other = draw.sample(sorted(checkpoint.iterdir()), 2)
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)


def a_file_of_another_step(checkpoint: Path, draw: Draw) -> None:
    """A file is that of another checkpoint."""
    undamaged = checkpoint.parents[2] / "unbroken" / CHECKPOINTS_FOLDER
    others = [each for each in sorted(undamaged.iterdir()) if each.name != checkpoint.name]
    path, other = _file(checkpoint, draw), draw.choice(others)
    path.write_bytes((other / path.name).read_bytes())


def zeros(checkpoint: Path, draw: Draw) -> None:
    """A file has its length, and zeros in place of its bytes."""
    path = _file(checkpoint, draw)
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = [
    *(_cut_to(share) for share in (0.0, 0.01, 0.5, 0.99)),
    *(a_flipped_byte, a_deleted_file, two_swapped_files, a_file_of_another_step, zeros),
]
