"""Reporting: one JSON object a line, records of steps to come dropped, stdout left alone."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seq2seq.errors import StorageError
from seq2seq.reporting import Onlooker, Reporter


def training_record(step: int, **changes: Any) -> dict[str, Any]:
    return {
        "step": step,
        "epoch": 1,
        "split": "train",
        "loss": 2.25,
        "accuracy": 0.5,
        "gradient_norm": 0.75,
        "learning_rate": 1e-3,
        "target_tokens_per_second": 12_345.6,
        "seconds": 8.5,
        **changes,
    }


def validation_record(step: int, **changes: Any) -> dict[str, Any]:
    scores = {"split": "validation", "bleu": 31.25, "signature": "nrefs:1", "perplexity": 9.5}
    return training_record(step, **{**scores, **changes})


def records_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def report(folder: Path, *steps: int, first_step: int = 0) -> None:
    with Reporter(folder, total_steps=100, first_step=first_step) as reporter:
        for step in steps:
            reporter.training(training_record(step))


def test_every_record_is_a_line_of_json_just_as_given(tmp_path: Path) -> None:
    given: list[Mapping[str, Any]] = [
        training_record(3, loss=0.1 + 0.2),
        validation_record(3, signature='a "quoted" né\u2028'),
        training_record(6),
    ]
    with Reporter(tmp_path, total_steps=6) as reporter:
        reporter.training(given[0])
        reporter.validation(given[1], [], "(best)")
        reporter.training(given[2])
    assert records_of(tmp_path) == given


def test_a_record_is_on_disk_as_soon_as_it_is_made(tmp_path: Path) -> None:
    with Reporter(tmp_path, total_steps=6) as reporter:
        reporter.training(training_record(1))
        assert len(records_of(tmp_path)) == 1


def test_a_resumed_run_goes_on_after_its_first_step(tmp_path: Path) -> None:
    report(tmp_path, 2, 4, 6, 8)
    report(tmp_path, 6, first_step=5)
    assert [record["step"] for record in records_of(tmp_path)] == [2, 4, 6]
    report(tmp_path, first_step=4)  # the record of the step resumed from is not made again
    assert [record["step"] for record in records_of(tmp_path)] == [2, 4]
    report(tmp_path, 1)
    assert [record["step"] for record in records_of(tmp_path)] == [1]


@pytest.mark.parametrize(
    "torn",
    [
        b'{"step": 4, "epo',
        b'{"step": 4, "epo\n',
        bytes(100),
        b"\xff\xfe\n",
        b'{"epoch": 4}\n',
        b"[1]\n",
        b'4\n{"step": "x"}\n',
        b"\n\n",
    ],
    ids=["half", "half, ended", "zeros", "no text", "no step", "list", "other types", "blank"],
)
def test_what_is_no_whole_record_is_dropped(tmp_path: Path, torn: bytes) -> None:
    report(tmp_path, 2)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    report(tmp_path, 4, first_step=3)
    assert [record["step"] for record in records_of(tmp_path)] == [2, 4]
    assert not list(tmp_path.glob(".tmp*"))


def test_a_whole_record_without_its_line_end_is_kept(tmp_path: Path) -> None:
    report(tmp_path, 2, 4)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    report(tmp_path, 5, first_step=4)
    assert [record["step"] for record in records_of(tmp_path)] == [2, 4, 5]


def test_metrics_that_cannot_be_written_are_written_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.FileIO):
        """A file that takes ten bytes more and then no others."""

        def write(self, data: Any) -> int:
            return super().write(data[:10])

    real = Path.open

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return Full(path, "ab") if mode == "ab" else real(path, mode, *arguments, **options)

    given = [training_record(step) for step in (1, 2, 3, 4)]
    with Reporter(tmp_path, total_steps=6) as reporter:
        reporter.training(given[0])
        with monkeypatch.context() as full:
            full.setattr(Path, "open", opened)
            reporter.training(given[1])
            reporter.training(given[2])
        assert records_of(tmp_path) == given[:1]
        reporter.training(given[3])
        assert records_of(tmp_path) == given
    warnings = [line for line in capfd.readouterr().err.splitlines() if line[:7] == "warning"]
    assert warnings == [
        f"warning: {tmp_path / 'metrics.jsonl'}: cannot be written: No space left on device; what "
        "is missing is written later if it can be"
    ]


def test_metrics_that_cannot_be_written_to_the_end_are_a_storage_error(tmp_path: Path) -> None:
    def report_into_a_folder() -> None:
        with Reporter(tmp_path, total_steps=6) as reporter:
            (tmp_path / "metrics.jsonl").mkdir()
            reporter.training(training_record(1))

    with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written: Is a directory"):
        report_into_a_folder()


def test_curves_that_cannot_be_written_are_told_once_and_training_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "events; No space left on device")

    with Reporter(tmp_path, total_steps=6) as reporter:
        monkeypatch.setattr(reporter._writer, "flush", full)
        monkeypatch.setattr(reporter._writer, "close", full)
        for step in (1, 2):
            reporter.training(training_record(step))
    assert len(records_of(tmp_path)) == 2
    warnings = [line for line in capfd.readouterr().err.splitlines() if line[:7] == "warning"]
    assert warnings == [
        f"warning: {tmp_path / 'tensorboard'}: cannot be written: ResourceExhaustedError; "
        "metrics.jsonl has the same curves"
    ]


def test_no_text_is_a_command_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Reporter(tmp_path, total_steps=6) as reporter:
        reporter.note("warning: a\x1b]0;owned\x07.en:\n2: odd\x9b31m")
        sample = {"sample": "one\x1b[2J\ntwo\rthree\n"}
        reporter.validation(validation_record(1), [sample], "")
    lines = capfd.readouterr().err.split("\n")
    assert lines[0] == "warning: a ]0;owned .en: 2: odd 31m"
    assert lines[2:] == ["    sample      one [2J", " " * 16 + "two three", " " * 16, ""]


def test_tensorboard_has_the_same_curves(tmp_path: Path) -> None:
    with Reporter(tmp_path, total_steps=6) as reporter:
        for step, loss in [(3, 2.5), (6, 1.5)]:
            reporter.training(training_record(step, loss=loss))
            reporter.validation(validation_record(step, bleu=10.0 * step), [], "")
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()

    def curve(name: str) -> list[tuple[int, float]]:
        return [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(name)]

    assert curve("loss/train") == [(3, 2.5), (6, 1.5)]
    assert curve("bleu/validation") == [(3, 30.0), (6, 60.0)]


def test_off_a_terminal_each_record_is_a_plain_line_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    long = "word " * 60 + "end"
    sample = {"source": "ein [bold]Hund[/bold] :dog:", "hypothesis": long, "reference": "a dog"}
    with Reporter(tmp_path, total_steps=12_000) as reporter:
        reporter.note("60 pairs [kept] :smile:")
        reporter.training(training_record(1500))
        reporter.validation(validation_record(1500), [sample], "(best)")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "60 pairs [kept] :smile:\n"
        "step 1,500/12,000  epoch 1  loss 2.250  accuracy 50.0%  12,346 tokens/s\n"
        "validation at step 1,500: "
        "BLEU 31.25  loss 2.250  perplexity 9.50  accuracy 50.0%  (best)\n"
        "    source      ein [bold]Hund[/bold] :dog:\n"
        f"    hypothesis  {long}\n"
        "    reference   a dog\n"
    )


def test_on_a_terminal_a_bar_takes_the_place_of_lines(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich then takes stderr for a terminal
    with Reporter(tmp_path, total_steps=4) as reporter:
        for step in (1, 2):
            reporter.training(training_record(step))
        reporter.validation(validation_record(2), [], "(best)")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "\x1b[" in captured.err
    assert "step 2/4" in captured.err
    assert "validation at step 2: BLEU 31.25" in captured.err
    assert "━" in captured.err


def test_leaving_by_an_exception_passes_it_on(tmp_path: Path) -> None:
    def failing(reporter: Reporter) -> None:
        with reporter:
            reporter.training(training_record(1))
            raise KeyError

    with pytest.raises(KeyError):
        failing(Reporter(tmp_path, total_steps=4))
    assert len(records_of(tmp_path)) == 1


def test_an_onlooker_tells_notes_and_records_nothing(tmp_path: Path, capsys: Any) -> None:
    with Onlooker() as onlooker:
        onlooker.note("a note")
        onlooker.training({"step": 1})
        onlooker.validation({"step": 1}, [{"source": "a"}], "(best)")
    assert capsys.readouterr() == ("", "a note\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BrokenPipeError()])
def test_a_training_goes_on_when_stderr_is_gone(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr("sys.stderr", Gone())
    report(tmp_path, 3, 6)
    assert [record["step"] for record in records_of(tmp_path)] == [3, 6]


def test_records_nested_without_end_are_dropped_like_other_damage(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": ' + "[" * 100_000 + "\n")
    report(tmp_path, 3, first_step=1)
    assert [record["step"] for record in records_of(tmp_path)] == [1, 3]
