"""TensorFlow's start: quiet unless it fails, on the device asked for."""

import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from fake_devices import Devices

from seq2seq import runtime
from seq2seq.errors import UsageError
from seq2seq.runtime import batches_at_a_time, shards_of_a_batch, start_tensorflow


def run_python(script: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`script` in a fresh process with few environment variables, so that none can hide noise."""
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": "/usr/bin:/bin", **changes},
    )


def test_tensorflow_starts_and_compiles_without_a_word() -> None:
    finished = run_python(
        "import os, sys\n"
        "from seq2seq.runtime import start_tensorflow\n"
        "start_tensorflow('cpu')\n"
        "import tensorflow as tf\n"
        "compiled = tf.function(lambda x: 2 * x, jit_compile=True)\n"
        "print(int(compiled(tf.constant(21))))\n"
        "print('to stderr', file=sys.stderr)\n"
        "os.write(2, b'to descriptor 2')\n"
    )
    assert finished.returncode == 0
    assert finished.stdout == "42\n"
    assert finished.stderr == "to stderr\nto descriptor 2"  # which are as they were before


def test_a_failing_import_shows_what_was_kept_back(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'libfoo.so: wrong version\\n')\nraise ImportError('no libfoo')\n"
    )
    finished = run_python(
        "from seq2seq.runtime import start_tensorflow\nstart_tensorflow()",
        PYTHONPATH=str(tmp_path),
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("libfoo.so: wrong version\n")
    assert finished.stderr.endswith("ImportError: no libfoo\n")


def test_a_log_level_of_the_user_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "class config:\n    get_visible_devices = staticmethod(lambda kind: [])\n"
    )
    script = (
        "import os\nfrom seq2seq.runtime import start_tensorflow\nstart_tensorflow()\n"
        "print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    )
    path = str(tmp_path)
    assert run_python(script, PYTHONPATH=path).stdout == "3\n"
    assert run_python(script, PYTHONPATH=path, TF_CPP_MIN_LOG_LEVEL="0").stdout == "0\n"


def test_a_gpu_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Devices([], monkeypatch)
    message = "--device gpu: TensorFlow sees no GPU; use --device cpu, or install the extra `gpu`"
    with pytest.raises(UsageError, match=message) as caught:
        start_tensorflow("gpu")
    assert caught.value.exit_code == 2
    start_tensorflow("auto")
    start_tensorflow("cpu")


@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_gpus_take_memory_as_they_need_it(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(["gpu 0", "gpu 1"], monkeypatch)
    start_tensorflow(device)
    assert devices.growing == devices.visible == ["gpu 0", "gpu 1"]


def test_on_the_cpu_gpus_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(["gpu 0"], monkeypatch)
    start_tensorflow("cpu")
    assert devices.visible == devices.growing == []


def test_a_process_that_uses_its_gpu_already_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Devices(["gpu 0"], monkeypatch)

    def too_late(*_: object) -> None:
        raise RuntimeError("cannot be modified once initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", too_late)
    start_tensorflow("auto")
    with pytest.raises(UsageError, match="device cpu: this process uses TensorFlow on a GPU alre"):
        start_tensorflow("cpu")


@pytest.mark.parametrize(
    ("cores", "shards", "given", "expected"),
    [
        (2, 2, None, [1, 2]),  # each of the two has a core of its own
        (1, 2, None, [1, 2]),
        (3, 2, None, []),  # more cores than these could keep busy
        (2, 1, None, []),
        (2, 2, "2", []),  # the user's own choice
    ],
)
def test_operations_are_not_shared_out_where_all_cores_are_busy(
    cores: int,
    shards: int,
    given: str | None,
    expected: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Devices([], monkeypatch)
    threads: list[int] = []
    for name in ("intra", "inter"):
        setter = f"set_{name}_op_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, setter, threads.append)
    monkeypatch.setattr(runtime, "cores", lambda: cores)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if given:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", given)
    start_tensorflow("cpu", shards=shards)
    assert threads == expected
    threads.clear()
    Devices(["gpu 0"], monkeypatch)
    start_tensorflow("auto", shards=shards)
    assert threads == []  # on a GPU there are no shards


def test_a_process_that_uses_tensorflow_already_keeps_its_threads() -> None:
    tf.constant(1).numpy()
    before = tf.config.threading.get_intra_op_parallelism_threads()
    start_tensorflow("cpu", shards=runtime.cores())
    assert tf.config.threading.get_intra_op_parallelism_threads() == before


def test_the_cores_are_those_that_the_process_may_use() -> None:
    script = "from seq2seq.runtime import cores\nprint(cores())"
    one = min(os.sched_getaffinity(0))
    limited = f"import os\nos.sched_setaffinity(0, {{{one}}})\n{script}"
    assert run_python(limited).stdout == "1\n"
    here = f"{script}\nfrom pathlib import Path\nruntime._CPU_QUOTA = Path('none')\nprint(cores())"
    assert run_python(f"from seq2seq import runtime\n{here}").stdout.splitlines()[1] == str(
        len(os.sched_getaffinity(0))
    )


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("", 64)],
)
def test_the_cores_are_those_that_the_container_has(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(f"{quota}\n")
    monkeypatch.setattr(runtime, "_CPU_QUOTA", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert runtime.cores() == expected


def test_where_standard_error_is_closed_nothing_else_gets_its_place(tmp_path: Path) -> None:
    code = """
import os, sys
os.close(2)
sys.stderr = None
from seq2seq.streams import occupy_standard_streams
occupy_standard_streams()
with open(sys.argv[1], "wb") as file:
    assert file.fileno() > 2
    from seq2seq.runtime import quiet_stderr
    with quiet_stderr():
        os.write(2, b"noise")
    os.write(2, b"noise")
"""
    path = tmp_path / "file"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert (done.returncode, path.read_bytes()) == (0, b"")


QUIET = """
import os, sys, threading
from seq2seq.runtime import quiet_stderr
"""


def test_two_threads_that_are_quiet_leave_stderr_where_it_was() -> None:
    code = (
        QUIET
        + """
first_in, second_in, first_out = (threading.Event() for _ in range(3))
def first():
    with quiet_stderr():
        first_in.set()
        second_in.wait(0.5)  # in vain: one thread at a time
    first_out.set()
def second():
    first_in.wait()
    with quiet_stderr():
        second_in.set()
        first_out.wait()
threads = [threading.Thread(target=each) for each in (first, second)]
[each.start() for each in threads]
[each.join() for each in threads]
os.write(2, b"heard")
"""
    )
    assert run_python(code).stderr == "heard"


def test_a_signal_does_not_show_what_was_kept_quiet() -> None:
    code = (
        QUIET
        + """
try:
    with quiet_stderr():
        os.write(2, b"noise")
        raise KeyboardInterrupt
except KeyboardInterrupt:
    os.write(2, b"heard")
"""
    )
    assert run_python(code).stderr == "heard"


@pytest.mark.parametrize("lacking", ["os.close(2)", "import tempfile; tempfile.tempdir = '/none'"])
def test_it_is_quiet_without_stderr_or_temporary_files(lacking: str) -> None:
    code = QUIET + f"{lacking}\nwith quiet_stderr():\n    print('done')\n"
    assert run_python(code).stdout == "done\n"


def test_a_gpu_has_a_whole_batch_at_a_time_and_cores_have_shards_and_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Devices(["gpu 0"], monkeypatch)
    assert (shards_of_a_batch(), batches_at_a_time()) == (1, 1)
    Devices([], monkeypatch)
    for cores, batches in ((1, 1), (2, 2), (64, 8)):
        monkeypatch.setattr(runtime, "cores", lambda cores=cores: cores)
        assert (shards_of_a_batch(), batches_at_a_time()) == (2, batches)


def test_a_gpu_that_was_hidden_before_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Devices(["gpu 0"], monkeypatch)
    start_tensorflow("cpu")
    with pytest.raises(UsageError, match="--device gpu: TensorFlow sees no GPU"):
        start_tensorflow("gpu")


def test_devices_of_other_names_are_refused() -> None:
    device = typing.cast(Any, "cuda")
    with pytest.raises(UsageError, match="device: got 'cuda', expected auto, cpu or gpu"):
        start_tensorflow(device)


def test_another_backend_of_keras_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UsageError, match=r"^KERAS_BACKEND: got 'jax', expected 'tensorflow'"):
        start_tensorflow("cpu")
