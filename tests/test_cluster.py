"""What a cluster writes is, byte for byte, what the local engine writes."""

import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_fixtures import error_of, output_of
from model_fixtures import SENTENCES

from seq2seq import cluster
from seq2seq.cli import main
from seq2seq.errors import StorageError, UsageError
from seq2seq.streams import opened_output
from seq2seq.translator import Translator

pytestmark = pytest.mark.usefixtures("no_lines_of_progress")

LINES = [*SENTENCES, "", "a dog\r", " ", "two birds sing in the park", "\tcats"]


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """Three files: 70 lines of which the last has no end, none, one."""
    draw = random.Random(0)
    texts = {"long.txt": "\n".join(draw.choices(LINES, k=70)), "none.txt": "", "one.txt": "a dog\n"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode())
    return [str(tmp_path / name) for name in texts]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No Ray: two workers in this process, whose results come in no order; the sizes of blocks."""
    sizes: list[int] = []

    @contextmanager
    def two_workers(address: str | None, workers: int | None) -> Iterator[int]:
        yield 2

    def results(
        jobs: Sequence[cluster.Job], blocks: Sequence[cluster._Block], *, workers: int
    ) -> Iterator[Mapping[str, str]]:
        sizes.extend(block.lines for block in blocks)
        pool = [cluster.BlockTranslator(jobs) for _ in range(workers)]
        for place in random.Random(1).sample(range(len(blocks)), len(blocks)):
            yield pool[place % workers](blocks[place]._asdict())

    monkeypatch.setattr(cluster, "_cluster", two_workers)
    monkeypatch.setattr(cluster, "_results", results)
    return sizes


def with_bad_utf8(file: str) -> Path:
    """`file`, of which line 41 is not UTF-8 any more."""
    path = Path(file)
    lines = path.read_bytes().split(b"\n")
    lines[40] = b"two \xff birds"
    path.write_bytes(b"\n".join(lines))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="beam"),
        pytest.param(["--sample", "--seed=3"], id="sample"),
        pytest.param(["--beam-size=2", "--n-best=2"], id="n-best"),
        pytest.param(["--format=jsonl"], id="jsonl"),
    ],
)
def test_each_input_has_the_output_of_the_local_engine(
    loaded, in_process, inputs, tmp_path, capsysbinary, options
):
    options = [*options, "--batch-size=1"]  # blocks of 16 lines
    output = tmp_path / "output"
    assert main(["translate", loaded, *inputs, "-o", str(output), "--engine=ray", *options]) == 0
    lines, told = output_of(capsysbinary)
    assert lines == []
    assert "71 lines translated" in told
    assert in_process == [16, 16, 16, 16, 6, 1]
    for path in map(Path, inputs):
        local = tmp_path / f"local-{path.name}"
        assert main(["translate", loaded, str(path), "-o", str(local), *options]) == 0
        assert (output / path.name).read_bytes() == local.read_bytes()
    assert names(output) == [".lock", "long.txt", "none.txt", "one.txt"]


def test_the_summary_is_that_of_the_local_engine(
    loaded, in_process, inputs, tmp_path, capsysbinary
):
    assert main(["translate", loaded, inputs[0], "-o", str(tmp_path / "local")]) == 0
    local = output_of(capsysbinary)[1].rpartition(";")[0]
    ray = ["-o", str(tmp_path / "output"), "--engine=ray", "--batch-size=1"]
    assert main(["translate", loaded, inputs[0], *ray]) == 0
    assert output_of(capsysbinary)[1].rpartition(";")[0] == local
    assert "of them blank; truncated: " in local


def test_bad_utf8_is_replaced_and_told_as_by_the_local_engine(
    loaded, in_process, inputs, tmp_path, capsysbinary
):
    path = with_bad_utf8(inputs[0])
    local, output = tmp_path / "local", tmp_path / "output"
    options = ["translate", loaded, str(path), "--on-bad-utf8=replace", "--batch-size=1"]
    assert main([*options, "-o", str(local)]) == 0
    warnings = output_of(capsysbinary)[1].splitlines()[1:]
    assert main([*options, "-o", str(output), "--engine=ray"]) == 0
    assert (output / path.name).read_bytes() == local.read_bytes()
    assert output_of(capsysbinary)[1].splitlines()[1:] == warnings
    assert warnings[0].startswith("warning: 1 lines were not UTF-8")


def test_what_a_user_caused_is_told_as_by_the_local_engine_and_nothing_is_written(
    loaded, in_process, inputs, tmp_path, capsysbinary
):
    path = with_bad_utf8(inputs[0])
    output = tmp_path / "output"
    options = [loaded, *inputs, "-o", str(output), "--engine=ray", "--batch-size=1"]
    assert main(["translate", *options]) == 3
    told = output_of(capsysbinary)[1].split("\n")[-2]
    assert told.startswith(f"error: {path}:41: invalid UTF-8 at byte 5 (0xff)")
    assert names(output) == [".lock"]


def test_workers_with_different_models_are_an_error_and_nothing_is_written(
    loaded, in_process, inputs, tmp_path, monkeypatch, translator, capsysbinary
):
    models = iter("ab")
    prints = property(lambda translator: {"weights": next(models)})
    monkeypatch.setattr(Translator, "fingerprints", prints)
    output = tmp_path / "output"
    options = [loaded, *inputs, "-o", str(output), "--engine=ray", "--batch-size=1"]
    assert main(["translate", *options]) == 4
    assert "error: workers have not loaded the same model: it " in output_of(capsysbinary)[1]
    assert names(output) == [".lock"]


def test_what_a_killed_run_left_goes(loaded, in_process, inputs, tmp_path):
    left = tmp_path / "output" / ".tmp-shards"
    left.mkdir(parents=True)
    (left / "0-0").write_bytes(b"of another model\n")
    output = ["-o", str(tmp_path / "output"), "--engine=ray"]
    assert main(["translate", loaded, inputs[2], *output]) == 0
    assert names(tmp_path / "output") == [".lock", "one.txt"]
    assert (tmp_path / "output" / "one.txt").read_bytes() != b"of another model\n"


def test_no_output_has_its_name_before_all_are_written(
    loaded, in_process, inputs, tmp_path, monkeypatch, capsysbinary
):
    def opened(path):
        if path.name == "output-1":
            raise StorageError("no room")
        return opened_output(path)

    monkeypatch.setattr(cluster, "opened_output", opened)
    output = tmp_path / "output"
    options = ["translate", loaded, *inputs, "-o", str(output), "--engine=ray"]
    assert main(options) == 5
    assert names(output) == [".lock"]
    monkeypatch.setattr(cluster, "opened_output", opened_output)
    assert main(options) == 0
    assert names(output) == [".lock", "long.txt", "none.txt", "one.txt"]


@pytest.mark.parametrize(("workers", "told"), [(3, "got 3"), (None, "would be 2, one for each")])
def test_more_workers_than_processors_are_refused(workers, told):
    ray = SimpleNamespace(
        nodes=lambda: [{"Alive": True}, {"Alive": False}, {"Alive": True}],
        cluster_resources=lambda: {"CPU": 2.0},
    )
    with pytest.raises(UsageError, match=f"--workers: {told}.*has 2 processors, of which Ray"):
        cluster._workers(ray, workers)
    assert cluster._workers(ray, 1) == 1


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:x"])
def test_an_address_that_is_none_is_wrong_usage(loaded, inputs, tmp_path, address, capsysbinary):
    options = ["-o", str(tmp_path / "output"), "--engine=ray", "--address", address]
    assert main(["translate", loaded, *inputs, *options]) == 2
    assert f"error: --address: got '{address}', expected host:port" in error_of(capsysbinary)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["one.txt", "--engine=ray"], "name the files, and the folder"),
        (["-o", "output", "--engine=ray"], "name the files, and the folder"),
        (["-", "-o", "output", "--engine=ray"], "name the files, and the folder"),
        (["one.txt", "-o", "output", "--engine=ray", "--resume"], "cannot be used with --resume"),
        (["one.txt", "-o", "output", "--engine=ray", "--prefix=one.txt"], "--resume, --prefix or"),
        (["one.txt", "long.txt", "-o", "output"], "several inputs: need --engine ray"),
        (["one.txt", "--workers=2"], "--workers and several inputs: need --engine ray"),
        (["one.txt", "../{here}/one.txt", "-o", "output", "--engine=ray"], "of two inputs, which"),
        (["one.txt", "-o", ".", "--engine=ray"], "one.txt: is the input itself"),
        (["one.txt", "-o", "full", "--engine=ray"], "full/one.txt: exists already"),
        (["pipe", "-o", "output", "--engine=ray"], "pipe: is no regular file, of which each wor"),
    ],
)
def test_wrong_usage_is_found_before_anything_is_done(
    not_loaded_here, inputs, tmp_path, monkeypatch, capsysbinary, options, message
):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "one.txt").write_bytes(b"")
    options = [each.format(here=tmp_path.name) for each in options]
    assert main(["translate", not_loaded_here, *options]) == 2
    assert message in error_of(capsysbinary)
    assert not (tmp_path / "output").exists() or names(tmp_path / "output") == []


@pytest.fixture
def not_loaded_here(monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> str:
    """The model folder's name; a test fails that starts Ray or loads it."""
    monkeypatch.setattr(Translator, "load", None)
    monkeypatch.setattr(cluster, "_cluster", None)
    return str(model_folder)


def test_without_ray_the_message_says_how_to_install_it(
    monkeypatch, loaded, inputs, tmp_path, capsysbinary
):
    monkeypatch.setitem(sys.modules, "ray", None)
    output = ["-o", str(tmp_path / "output"), "--engine=ray"]
    assert main(["translate", loaded, *inputs, *output]) == 2
    assert "needs Ray: pip install 'lstm-seq2seq[ray]'" in error_of(capsysbinary)


def test_no_cluster_at_the_address_is_told_at_once(loaded, inputs, tmp_path, capsysbinary):
    pytest.importorskip("ray")
    options = ["-o", str(tmp_path / "output"), "--engine=ray", "--address=127.0.0.1:1"]
    assert main(["translate", loaded, *inputs, *options]) == 5
    assert "--address 127.0.0.1:1: cannot be reached: " in error_of(capsysbinary)


# --- with Ray -------------------------------------------------------------------------------------


OPTIONS = ["--beam-size=2", "--batch-size=16"]  # 40 blocks of 256 lines


def lines_of(path: Path, count: int) -> Path:
    draw = random.Random(0)
    words = " ".join(SENTENCES).split()
    path.write_text(
        "".join(" ".join(draw.choices(words, k=draw.randrange(8))) + "\n" for _ in range(count))
    )
    return path


def start(arguments: Sequence[str], mark: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "seq2seq"]
    return subprocess.Popen(
        [*command, "translate", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SEQ2SEQ_TEST": mark},
    )


def workers_of(mark: str) -> list[int]:
    """The processes with `mark` in their environment that Ray calls workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark.encode() in (folder / "environ").read_bytes()
            if marked and b"ray::MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # of another user, or gone
            continue
    return found


@pytest.fixture(scope="module")
def translated(model_folder, tmp_path_factory) -> list[Path]:
    """A file of 10,000 lines, and what the local engine makes of it."""
    folder = tmp_path_factory.mktemp("translated")
    source, output = lines_of(folder / "source.txt", 10_000), folder / "local.txt"
    process = start([str(model_folder), str(source), *OPTIONS, "-o", str(output)], "")
    process.communicate(timeout=600)
    assert process.returncode == 0
    return [source, output]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_two_workers_write_what_one_process_writes_even_if_one_is_killed(
    model_folder, translated, tmp_path, killed
):
    pytest.importorskip("ray")
    source, local = translated
    mark = uuid.uuid4().hex
    output = tmp_path / "output"
    options = [*OPTIONS, "-o", str(output), "--engine=ray", "--workers=2"]
    process = start([str(model_folder), str(source), *options], mark)
    if killed:
        while len(list(output.glob(".tmp-shards/*"))) < 5 and process.poll() is None:
            time.sleep(0.02)
        workers = workers_of(mark)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        assert len(list(output.glob(".tmp-shards/*"))) < 35
    told, errors = process.communicate(timeout=600)
    assert (process.returncode, told) == (0, ""), errors
    assert re.fullmatch(r"([\d,]+ of 10,000 lines .*\n)*10,000 lines translated, .*\n", errors)
    assert (output / "source.txt").read_bytes() == local.read_bytes()
    assert names(output) == [".lock", "source.txt"]


CLUSTER = """
import ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""


@pytest.mark.slow
def test_a_cluster_that_is_there_is_used(monkeypatch, model_folder, inputs, tmp_path):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # its token is known to that process alone
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", CLUSTER], text=True, **pipes) as head:
        address = head.stdout.readline().strip()
        command = [str(model_folder), inputs[0], "--engine=ray", f"--address={address}"]
        many = start([*command, "-o", str(tmp_path / "many"), "--workers=2"], "")
        one = start([*command, "-o", str(tmp_path / "one")], "")
        assert many.communicate(timeout=300) == (
            "",
            "error: --workers: got 2, but the cluster has 2 processors, of which Ray's own tasks "
            "need 1; give fewer\n",
        )
        assert one.communicate(timeout=300)[0] == ""
        head.communicate("\n", timeout=60)
    assert (many.returncode, one.returncode) == (2, 0)
    local = start([str(model_folder), inputs[0], "-o", str(tmp_path / "local")], "")
    local.communicate(timeout=300)
    assert (tmp_path / "one" / "long.txt").read_bytes() == (tmp_path / "local").read_bytes()
