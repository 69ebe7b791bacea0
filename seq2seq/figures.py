"""Figures by matplotlib, which is an extra."""

import io
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from seq2seq.console import say
from seq2seq.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 5  # characters that a message names


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


def fonts_for(texts: Iterable[str]) -> list[str]:
    """The default font and, where it lacks characters of `texts`, installed ones that have them.

    matplotlib's own font has no Chinese, Japanese, Korean or Indic scripts. What no font has is
    told, and drawn as boxes.
    """
    from matplotlib import font_manager

    default = font_manager.FontProperties()
    missing = {ord(each) for each in "".join(texts)} - _characters(font_manager.findfont(default))
    chosen = list(default.get_family())
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: font.name):
        # That one, which is matplotlib's own, has boxes for all characters.
        found = set() if "Last Resort" in font.name else missing & _characters(font.fname)
        if found:
            chosen.append(font.name)
            missing -= found
    if missing:
        shown = " ".join(repr(chr(each)) for each in sorted(missing)[:_SHOWN])
        say(f"warning: no installed font has {shown}; drawn as boxes")
    return chosen


def _characters(font: str) -> set[int]:
    from matplotlib.font_manager import get_font

    try:
        return set(get_font(font).get_charmap())
    except (OSError, RuntimeError):  # one of bitmaps, as for emoji, that matplotlib cannot draw
        return set()


def rendered(figure: "Figure", kind: str) -> bytes:
    """A figure as a file of type `kind`; the same bytes whenever it is drawn."""
    from matplotlib import rc_context

    picture = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with rc_context({"svg.hashsalt": "seq2seq"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # see `fonts_for`
        figure.savefig(picture, format=kind, metadata=metadata)
    return picture.getvalue()
