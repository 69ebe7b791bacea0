"""Which of several processes this one is."""

import json
from typing import Any

import pytest

from seq2seq.errors import UsageError
from seq2seq.worker_place import Place, place_of


def tf_config(cluster: dict[str, list[str]], kind: str, index: int) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), None),
        (("a:1,b:2", 1, None), Place(("a:1", "b:2"), 1)),
        (("[::1]:1,b:2", 0, "not looked at"), Place(("[::1]:1", "b:2"), 0)),
        (("a:1", 0, None), None),  # one process is no cluster
        (
            (None, None, tf_config({"worker": ["a:1", "b:2"]}, "worker", 1)),
            Place(("a:1", "b:2"), 1),
        ),
        (
            (None, None, tf_config({"worker": ["b:2"], "chief": ["a:1"]}, "worker", 0)),
            Place(("a:1", "b:2"), 1),
        ),
        (
            (None, None, tf_config({"worker": ["b:2"], "chief": ["a:1"]}, "chief", 0)),
            Place(("a:1", "b:2"), 0),
        ),
    ],
)
def test_the_place_of_a_worker_is_read_from_options_or_tf_config(
    given: tuple[Any, Any, Any], expected: Place | None
) -> None:
    assert place_of(*given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a:1,b:2", None, None), "--workers and --worker-index: give both, or none"),
        ((None, 1, None), "--workers and --worker-index: give both, or none"),
        (("a:1,b", 0, None), "--workers: got 'b', expected host:port"),
        (("a:1,:2", 0, None), "--workers: got ':2', expected host:port"),
        (("a:1,b:99999", 0, None), "--workers: got 'b:99999', expected host:port"),
        (("a:1,a:1", 0, None), "--workers: an address is there twice; expected one for each"),
        (("a:1,b:2", 2, None), "--workers: index 2 of 2 workers; expected 0 to 1"),
        (("a:1,b:2", -1, None), "--workers: index -1 of 2 workers; expected 0 to 1"),
        ((None, None, "{"), "TF_CONFIG: JSONDecodeError: .*; expected {"),
        ((None, None, "[]"), "TF_CONFIG: TypeError: .*; expected {"),
        ((None, None, "{}"), "TF_CONFIG: KeyError: 'cluster'; expected {"),
        (
            (None, None, tf_config({"worker": ["a:1"], "ps": ["b:2"]}, "ps", 0)),
            "TF_CONFIG: ValueError: only chief and worker can train; expected {",
        ),
        (
            (None, None, tf_config({"worker": ["a:1", "b:2"]}, "worker", 2)),
            "TF_CONFIG: ValueError: there is no worker 2; expected {",
        ),
        (
            (None, None, tf_config({"chief": ["a:1"], "worker": ["b:2"]}, "worker", -1)),
            "TF_CONFIG: ValueError: there is no worker -1; expected {",
        ),
        (
            (None, None, tf_config({"chief": ["a:1"], "worker": ["b:2"]}, "chief", 1)),
            "TF_CONFIG: ValueError: there is no chief 1; expected {",
        ),
        ((None, None, "[" * 100_000), "TF_CONFIG: RecursionError: .*; expected {"),
    ],
)
def test_a_place_that_cannot_be_made_out_is_refused(
    given: tuple[Any, Any, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        place_of(*given)
