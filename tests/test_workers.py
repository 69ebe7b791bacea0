"""Training by several devices and processes: the same updates as one makes alone.

Two virtual CPU devices stand in for two GPUs, and two processes on loopback for two machines.
"""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from safetensors.numpy import load_file
from test_training import config_for, write_corpus

from seq2seq.config_file import dump_config
from seq2seq.errors import UsageError, WorkerLostError
from seq2seq.worker_place import Place
from seq2seq.workers import Workers, check_shared, reporting_lost_workers, start_workers


class Told(Workers):
    """Two processes, of which the other gives what it is told to."""

    def __init__(self, index: int, other: Sequence[float]) -> None:
        super().__init__(tf.distribute.get_strategy(), count=1, index=index)
        self.count, self.other = 2, other

    def gather(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        rows = [list(numbers), list(self.other)]
        return np.array(rows if self.index == 0 else rows[::-1], np.float64)


@pytest.mark.parametrize(("count", "batches"), [(1, 1), (1, 3), (2, 2), (2, 6), (3, 3)])
def test_the_batches_of_an_update_are_shared_out_evenly_in_order(count: int, batches: int) -> None:
    alone = Workers(tf.distribute.get_strategy())
    shares = []
    for index in range(count):
        alone.count, alone.index = count, index
        shares.append(alone.share(batches))
    assert [place for share in shares for place in share] == list(range(batches))
    assert len({len(share) for share in shares}) == 1


def test_one_process_gives_itself_what_it_has() -> None:
    alone = Workers(tf.distribute.get_strategy())
    np.testing.assert_array_equal(alone.gather([3.0, 4.0]), [[3.0, 4.0]])
    arrays = {"a": np.arange(6, dtype=np.int64).reshape(2, 3), "b": np.float32(0.1)}
    found = alone.from_chief(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_a_worker_with_other_things_than_the_chief_is_named_with_them() -> None:
    one, other = "0" * 63 + "1", "0" * 63 + "2"  # they differ in the last bits only
    numbers = [0.0] * 7 + [1.0]
    workers = Told(0, [*numbers, *numbers])
    workers.check_same({"configuration": one, "corpus": one})
    with pytest.raises(
        UsageError,
        match=r"^worker 1 has another corpus than the chief, worker 0; give all workers the same .*"
        r"; what a worker keeps of an earlier run is in workers/INDEX of its model folder$",
    ):
        workers.check_same({"configuration": one, "corpus": other})


def test_an_update_that_cannot_be_shared_evenly_is_refused_before_anybody_is_waited_for() -> None:
    with pytest.raises(
        UsageError,
        match=r"^2 workers: an update has 3 batches, which 2 devices cannot share evenly; expected "
        r"training.accumulate_batches to be a multiple of 2$",
    ):
        check_shared(Place(("a:1", "b:2"), 0), 3)
    check_shared(Place(("a:1", "b:2"), 0), 4)
    check_shared(None, 3)


@pytest.mark.parametrize("error", [tf.errors.UnavailableError, tf.errors.AbortedError])
def test_a_lost_worker_is_told_in_one_line(error: type[Exception]) -> None:
    with (
        pytest.raises(WorkerLostError, match=r"another worker is gone.*again with --resume"),
        reporting_lost_workers(),
    ):
        raise error(None, None, "Connection reset by peer")


DEVICES = """
import sys
import numpy as np
from seq2seq.runtime import start_tensorflow
start_tensorflow("cpu")
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

sys.path.insert(0, sys.argv[1])
from seq2seq.updates import Updater
from seq2seq.config import TrainingConfig
from seq2seq.objectives import TranslationObjective
from seq2seq.workers import Workers
from test_updates import LEFT, RIGHT, batch_of, real_model, weights_of
if sys.argv[2] == "as on GPUs":
    from seq2seq import lstm
    made = lstm._keras_lstm
    lstm.has_gpu = lambda: True
    lstm._keras_lstm = lambda *sizes, cudnn: made(*sizes, cudnn=False)

def updated(workers):
    model = real_model(dropout=0.5)
    config = TrainingConfig(accumulate_batches=4, gradient_norm=0.05, label_smoothing=0.1)
    objective = TranslationObjective(model, bos_id=2, label_smoothing=0.1)
    updater = Updater(config, objective, seed=1, batches_per_update=4, workers=workers)
    batches = [batch_of(LEFT), batch_of(RIGHT), batch_of(RIGHT[:2]), batch_of(LEFT[1:])]
    sums = [
        [float(each) for each in updater.update(batches, number=4 * step, learning_rate=0.1)]
        for step in range(3)
    ]
    return sums, weights_of(model)

two = Workers(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
assert two.local_replicas == 2
np.testing.assert_array_equal(two.gather([3.0]), [[3.0]])
np.testing.assert_array_equal(two._sum(np.array([3.0, 4.0])), [3.0, 4.0])  # given by one device
sums, weights = updated(two)
expected_sums, expected = updated(Workers(tf.distribute.get_strategy()))
np.testing.assert_allclose(sums, expected_sums, rtol=1e-5)
for name, array in expected.items():
    np.testing.assert_allclose(weights[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
"""


@pytest.mark.parametrize("way", ["as on processors", "as on GPUs"])
def test_two_devices_make_the_updates_of_one_dropout_included(way: str) -> None:
    command = [sys.executable, "-c", DEVICES, str(Path(__file__).parent), way]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.gpu
def test_the_gpus_of_a_machine_share_an_update() -> None:
    gpus = len(tf.config.list_physical_devices("GPU"))
    if gpus < 2:
        pytest.skip("needs two GPUs")
    assert start_workers(None, gpus).local_replicas == gpus
    assert start_workers(None, 1).local_replicas == 1


# Processes


def write_experiment(folder: Path, **changes: Any) -> Path:
    """The configuration file of a small experiment whose updates have two batches."""
    options: dict[str, Any] = {
        "training__accumulate_batches": 2,
        "training__max_epochs": 100,
        "validation__patience": 100,
        **changes,
    }
    path = folder / "config.toml"
    path.write_text(dump_config(config_for(write_corpus(folder), **options)), encoding="utf-8")
    return path


def start(config: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "seq2seq",
        "train",
        str(config),
        "--output",
        str(folder),
        *options,
    ]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def start_pair(configs: Sequence[Path], folder: Path, *options: str) -> list[subprocess.Popen[str]]:
    """Two workers on loopback, the chief first."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (first, second)]
    return [
        start(
            config, folder, "--workers", ",".join(addresses), "--worker-index", str(index), *options
        )
        for index, config in enumerate(configs)
    ]


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and stderr of each."""
    told = [process.communicate(timeout=300)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


def assert_same_training(folder: Path, expected: Path, *, last_step: int) -> None:
    """Losses and weights equal to 1e-5."""

    def losses(of: Path) -> list[float]:
        lines = (of / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["loss"] for line in lines]

    def weights(of: Path) -> dict[str, Any]:
        return load_file(of / "checkpoints" / f"step-{last_step}" / "weights.safetensors")

    np.testing.assert_allclose(losses(folder), losses(expected), rtol=1e-5)
    found = weights(folder)
    for name, array in weights(expected).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_two_processes_train_the_model_of_one(tmp_path: Path) -> None:
    config = write_experiment(tmp_path, validation__every_steps=4)
    assert ended([start(config, tmp_path / "one")])[0][0] == 0
    (chief, told), (other, _) = ended(start_pair([config, config], tmp_path / "two"))
    assert (chief, other) == (0, 0), told
    assert_same_training(tmp_path / "two", tmp_path / "one", last_step=6)
    own = tmp_path / "two" / "workers" / "1"
    assert not (own / "checkpoints").exists()
    assert not (own / "metrics.jsonl").exists()


@pytest.mark.slow
def test_workers_that_disagree_are_told_so(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    configs = [write_experiment(tmp_path), write_experiment(tmp_path / "other", seed=2)]
    for code, told in ended(start_pair(configs, tmp_path / "model")):
        assert code == 2
        assert "worker 1 has another configuration than the chief, worker 0" in told


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_worker_ends_the_others_and_all_resume_to_the_same_weights(
    lost: int, tmp_path: Path
) -> None:
    config = write_experiment(
        tmp_path,
        training__max_steps=100,
        training__checkpoint_every_minutes=1e-9,
        training__schedule="linear",
        training__ema_decay=0.9,
        validation__every_steps=40,
    )
    assert ended([start(config, tmp_path / "one")])[0][0] == 0
    folder = tmp_path / "two"
    pair = start_pair([config, config], folder)
    at = random.Random(lost).randint(2, 60)
    while not any((folder / "checkpoints").glob(f"step-{at}*")):
        assert all(process.poll() is None for process in pair)
        time.sleep(0.01)
    pair[lost].send_signal(signal.SIGKILL)
    (code, told) = ended(pair)[1 - lost]
    assert (code, "another worker is gone" in told) == (5, True), told
    # By two again, or by one alone: how many there are is no part of the experiment.
    if lost:
        resumed = start_pair([config, config], folder, "--resume")
    else:
        resumed = [start(config, folder, "--resume")]
    assert {code for code, _ in ended(resumed)} == {0}
    assert_same_training(folder, tmp_path / "one", last_step=100)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_after_the_same_step(tmp_path: Path) -> None:
    config = write_experiment(tmp_path, training__max_steps=400)
    folder = tmp_path / "two"
    pair = start_pair([config, config], folder)
    while not (folder / "metrics.jsonl").exists():
        assert all(process.poll() is None for process in pair)
        time.sleep(0.01)
    pair[1].send_signal(signal.SIGTERM)
    for code, told in ended(pair):
        assert code == 143
        assert "stopped by signal 15 after step" in told
    steps = [path.name for path in (folder / "checkpoints").iterdir()]
    assert len(steps) == 1
