"""Figures: the same file for the same figure, and a word where matplotlib is missing."""

import sys

import pytest

from seq2seq.errors import UsageError
from seq2seq.figures import check_can_draw, new_figure, rendered

KINDS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize(("kind", "start"), KINDS.items())
def test_the_same_figure_is_the_same_file(kind, start):
    files = []
    for _ in range(2):
        figure = new_figure(2.0, 1.0)
        figure.add_subplot().bar(["a", "b"], [1.0, 2.0])
        files.append(rendered(figure, kind))
    assert files[0].startswith(start)
    assert files[0] == files[1]


def test_without_matplotlib_the_message_names_the_extra(monkeypatch):
    check_can_draw()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (check_can_draw, lambda: new_figure(1.0, 1.0)):
        with pytest.raises(UsageError, match=r"pictures need matplotlib: pip install '.*\[plot\]'"):
            draw()
