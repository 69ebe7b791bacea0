"""Which of the processes that train together this one is: from options, or from TF_CONFIG."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from seq2seq.errors import UsageError


@dataclass(frozen=True)
class Place:
    """Which of the processes that train together this one is.

    Attributes:
        addresses: `host:port` of every process, the chief's first; the same for all.
        index: Of this one.
    """

    addresses: tuple[str, ...]
    index: int


def place_of(workers: str | None, index: int | None, tf_config: str | None) -> Place | None:
    """This process among several, from options or else from TensorFlow's variable.

    Args:
        workers: `host:port,host:port,...`.
        index: Of this process among `workers`.
        tf_config: What the variable `TF_CONFIG` says, JSON: `cluster`, with the addresses of
            `chief` and `worker`, and `task`, with `type` and `index`.

    Returns:
        None if there is no other process.

    Raises:
        UsageError: It cannot be made out.
    """
    if workers is None and index is None:
        return _place_of_tf_config(tf_config) if tf_config else None
    if workers is None or index is None:
        raise UsageError("--workers and --worker-index: give both, or none")
    return _checked_place(workers.split(","), index, "--workers")


def _place_of_tf_config(text: str) -> Place | None:
    try:
        given = json.loads(text)
        cluster, task = given["cluster"], given["task"]
        chiefs, others = list(cluster.get("chief", [])), list(cluster.get("worker", []))
        index = int(task["index"]) + (0 if task["type"] == "chief" else len(chiefs))
        if task["type"] not in ("chief", "worker") or set(cluster) - {"chief", "worker"}:
            raise ValueError("only chief and worker can train")
        if not 0 <= int(task["index"]) < len(chiefs if task["type"] == "chief" else others):
            raise ValueError(f"there is no {task['type']} {task['index']}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise UsageError(
            f"TF_CONFIG: {type(err).__name__}: {err}; expected "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from err
    return _checked_place([*chiefs, *others], index, "TF_CONFIG")


def host_and_port(address: str, where: str) -> tuple[str, int]:
    """The parts of an address that was given at `where`.

    Raises:
        UsageError: It is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{where}: got {address!r}, expected host:port")
    return host, int(port)


def _checked_place(addresses: Sequence[str], index: int, where: str) -> Place | None:
    for address in addresses:
        host_and_port(address, where)
    if len(set(addresses)) < len(addresses):
        raise UsageError(f"{where}: an address is there twice; expected one for each process")
    if not 0 <= index < len(addresses):
        raise UsageError(
            f"{where}: index {index} of {len(addresses)} workers; expected 0 to "
            f"{len(addresses) - 1}"
        )
    return Place(tuple(addresses), index) if len(addresses) > 1 else None
