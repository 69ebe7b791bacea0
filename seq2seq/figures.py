"""Figures by matplotlib, which is an extra."""

import io
from typing import TYPE_CHECKING, Any

from seq2seq.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_can_draw() -> None:
    """Checks for matplotlib before anything is done that would be lost without it.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as err:
        raise UsageError("pictures need matplotlib: pip install 'lstm-seq2seq[plot]'") from err


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, its size in inches.

    Raises:
        UsageError: matplotlib is not installed.
    """
    check_can_draw()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def rendered(figure: "Figure", kind: str) -> bytes:
    """A figure as a file of type `kind`; the same bytes whenever it is drawn."""
    from matplotlib import rc_context

    picture = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with rc_context({"svg.hashsalt": "seq2seq"}):
        figure.savefig(picture, format=kind, metadata=metadata)
    return picture.getvalue()
