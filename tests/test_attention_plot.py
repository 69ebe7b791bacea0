from pathlib import Path

import numpy as np
import pytest

from seq2seq.attention_plot import draw_attention, picture_kind
from seq2seq.errors import UsageError
from seq2seq.translation import END, Details

DETAILS = Details(
    ["\u2581a", "\u2581dog", END],
    ["\u2581ein", "\u2581Hund", END],
    [-0.1] * 3,
    np.eye(3, dtype="f4"),
)


def test_a_picture_is_of_the_kind_that_is_asked_for():
    assert draw_attention(DETAILS, "png").startswith(b"\x89PNG")
    assert draw_attention(DETAILS, "pdf").startswith(b"%PDF")
    assert b"<svg" in draw_attention(DETAILS, "svg")


def test_dark_is_where_the_model_looked():
    from matplotlib.figure import Figure

    drawn = []
    show = Figure.savefig

    def savefig(figure, *arguments, **options):
        drawn.append(figure.axes[0])
        show(figure, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        draw_attention(DETAILS, "png")
    (axes,) = drawn
    np.testing.assert_array_equal(axes.images[0].get_array(), DETAILS.attention)
    assert [label.get_text() for label in axes.get_xticklabels()] == DETAILS.source
    assert [label.get_text() for label in axes.get_yticklabels()] == DETAILS.target


def test_pieces_are_drawn_as_they_are_and_not_as_formulas():
    pieces = ["$$", "$\\foo$", "$5-$10"]
    details = Details(pieces, pieces, DETAILS.log_probs, DETAILS.attention)
    assert draw_attention(details, "png").startswith(b"\x89PNG")


def test_a_model_without_attention_is_an_error():
    plain = Details(DETAILS.source, DETAILS.target, DETAILS.log_probs, None)
    with pytest.raises(UsageError, match=r"attention: the model has none \(model\.attention\)"):
        draw_attention(plain, "png")


def test_other_kinds_of_picture_are_refused():
    assert picture_kind(Path("a/b.PNG")) == "png"
    with pytest.raises(UsageError, match=r"b\.gif: expected a name that ends in \.png, \.svg"):
        picture_kind(Path("b.gif"))
