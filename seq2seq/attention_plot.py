"""A picture of where the model looked: the attention of one translation."""

from pathlib import Path
from typing import Any

from seq2seq.errors import UsageError
from seq2seq.figures import fonts_for, new_figure, rendered
from seq2seq.translation import Details

FORMATS = ("png", "svg", "pdf")


def draw_attention(details: Details, kind: str) -> bytes:
    """The attention matrix as a picture: source pieces to the right, the translation downwards.

    Args:
        details: Of a hypothesis.
        kind: One of `FORMATS`.

    Raises:
        UsageError: The model has no attention, or matplotlib is not installed.
    """
    if details.attention is None:
        raise UsageError("attention: the model has none (model.attention)")
    attention = details.attention
    rows, columns = attention.shape
    figure = new_figure(2.0 + 0.4 * columns, 1.4 + 0.32 * rows)
    axes = figure.add_subplot()
    image = axes.imshow(attention, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    text: dict[str, Any] = {
        "family": fonts_for((*details.source, *details.target)),
        "parse_math": False,
    }
    axes.set_xticks(range(columns), details.source, rotation=60, ha="left", **text)
    axes.xaxis.tick_top()
    axes.set_yticks(range(rows), details.target, **text)
    figure.colorbar(image, label="attention weight")
    return rendered(figure, kind)


def picture_kind(path: Path) -> str:
    """What kind of picture `path` names.

    Raises:
        UsageError: None that can be drawn.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        known = ", ".join(f".{each}" for each in FORMATS)
        raise UsageError(f"{path}: expected a name that ends in {known}")
    return kind
