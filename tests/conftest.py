"""For every test: a quiet TensorFlow, repeatable random numbers, GPU tests where there is a GPU."""

import os
import sys

import hypothesis
import pytest

# Read when TensorFlow is first imported, which is after this file.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as `start_tensorflow` has it

# The same examples in every run; no time limit, which only a busy machine would miss.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked `gpu` without a GPU; starts all random numbers of a test afresh."""
    if item.get_closest_marker("gpu"):
        from seq2seq.errors import UsageError
        from seq2seq.runtime import start_tensorflow

        try:
            start_tensorflow("gpu")
        except UsageError:
            pytest.skip("needs a GPU")
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(1)
