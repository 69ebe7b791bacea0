"""A training of a scripted model, which takes no time: all that reaches the disk is as ever."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from commands import difference
from training_fixtures import Script, config_for, scripted, write_corpus

from seq2seq.checkpoint import checkpoint_steps, load_checkpoint
from seq2seq.cli import main
from seq2seq.config_file import dump_config
from seq2seq.errors import ModelError

SAVED = (2, 4, 6)  # the steps that are saved, of which the best is the first and the last two stay


class Command(NamedTuple):
    """How a command that ran in this process ended."""

    exit_code: int
    errors: str


class Rehearsal:
    """The experiment, and the folder of its unbroken training."""

    def __init__(self, work: Path) -> None:
        self.work = work
        config = config_for(
            write_corpus(work),
            training__max_steps=6,
            training__keep_checkpoints=2,
            validation__every_steps=2,
        )
        self.config = work / "config.toml"
        self.config.write_text(dump_config(config), encoding="utf-8")
        self.unbroken = work / "unbroken"
        with script():
            first = run(*self.training(self.unbroken))
        assert first.exit_code == 0, first.errors

    def training(self, folder: Path) -> list[str]:
        """Arguments that train into `folder`, or go on with what is there."""
        return ["train", str(self.config), "--output", str(folder), "--resume"]

    def fault_after(self, folder: Path) -> str:
        """What is wrong with a folder that a training left, and with how it goes on from there."""
        try:
            for step in checkpoint_steps(folder):
                load_checkpoint(folder, step)
        except ModelError as err:
            return f"visible, but not whole: {err}"
        with script():
            resumed = run(*self.training(folder))
        if resumed.exit_code:
            return f"cannot be resumed: {resumed.errors}"
        return difference(folder, self.unbroken)


@contextlib.contextmanager
def script() -> Iterator[Script]:
    """Within it translators are trained in no time; the first validation is the best."""
    with scripted(Script(bleus=[5.0, 1.0])) as one:
        yield one


def run(*arguments: str) -> Command:
    """Runs a command in this process."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        exit_code = main(arguments)
    return Command(exit_code, errors.getvalue())
