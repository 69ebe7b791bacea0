"""For every test: no network, a quiet TensorFlow, repeatable random numbers, a GPU if it needs one.

Nothing in the package asks another machine unasked; where a test does, it fails.
"""

import math
import os
import random
import sys
from typing import Any

import hypothesis
import numpy as np
import pytest

# What is imported by another one comes before it.
pytest_plugins = (
    "model_fixtures",
    "language_model_fixtures",
    "training_fixtures",
    "cli_fixtures",
    "config_fixtures",
)

_THIS_MACHINE = ("127.0.0.1", "::1", "localhost", "")


def _shut_the_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuses connections and look-ups; a hook cannot be removed, nor passed by."""
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else ""  # no tuple: a socket in a file
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] or ""
    else:
        return
    if host not in _THIS_MACHINE:
        raise PermissionError(f"no network in tests, and {host!r} was asked for")


sys.addaudithook(_shut_the_network)

# Read when TensorFlow is first imported, which is after this file.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as `start_tensorflow` has it

# The same examples in every run; no time limit, which only a busy machine would miss.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


_LONGEST_FILES = (
    "test_benchmarks",
    "test_language_model_experiment",
    "test_faults",
    "test_training",
    "test_translator",
    "test_updates",
    "test_workers",
    "test_resume",
    "test_examples",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: a long file that begins last would keep one process alone."""
    rank = {name: number for number, name in enumerate(_LONGEST_FILES)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked `gpu` without a GPU; starts the random numbers of a test afresh.

    Keras takes the seeds of its initial weights from Python's. TensorFlow's own generator is left
    alone: its `set_seed` throws away what was compiled, and deletes tensorflow-text's tokenizers.
    """
    if item.get_closest_marker("gpu"):
        from seq2seq.errors import UsageError
        from seq2seq.runtime import start_tensorflow

        try:
            start_tensorflow("gpu")
        except UsageError:
            pytest.skip("needs a GPU")
    random.seed(1)
    np.random.seed(1)


@pytest.fixture
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power fails in most tests, and fsync takes long; what is synced has tests of its own."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told depends on time nowhere else: no lines that only a busy machine would show."""
    monkeypatch.setattr("seq2seq.console._LINE_SECONDS", math.inf)
