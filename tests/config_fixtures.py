"""Small configurations, written and loaded."""

import re

import pytest

from seq2seq.config_file import load_config
from seq2seq.errors import UsageError

DATA = """
[data]
train_source = "train.en"
train_target = ["a.de", "b.de"]
validation_source = "val.en"
validation_target = "val.de"
"""


TEXT = """
task = "language-model"
[data]
text = ["a.txt", "b.txt"]
"""


BOTH = pytest.mark.parametrize("minimal", [DATA, TEXT], ids=["translation", "language model"])


@pytest.fixture
def load(tmp_path):
    """Writes text to `c.toml` and loads it."""

    def load_text(text, *overrides):
        path = tmp_path / "c.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides)

    return load_text


def faults_of(load, *arguments):
    """The faults a configuration is refused for, without the file's name."""
    with pytest.raises(UsageError) as caught:
        load(*arguments)
    faults = re.split(r"; (?=/)", str(caught.value))
    assert all(re.match(r"/.*/c\.toml: ", fault) for fault in faults)
    return [fault.partition("c.toml: ")[2] for fault in faults]
