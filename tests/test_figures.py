"""Figures: the same file for the same figure, and a word where matplotlib is missing."""

import sys

import pytest
from matplotlib import font_manager

from seq2seq.errors import UsageError
from seq2seq.figures import check_can_draw, fonts_for, new_figure, rendered

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


def characters_of(family: str) -> set[int]:
    return set(font_manager.get_font(font_manager.findfont(family)).get_charmap())


def test_fonts_are_those_that_have_the_characters(capsys):
    assert fonts_for(["a", "é"]) == ["sans-serif"]
    ours, others = characters_of("DejaVu Sans"), characters_of("STIXGeneral")
    rare = chr(min(others - ours))
    default, *more = fonts_for([f"a{rare}", "b"])
    assert default == "sans-serif"
    assert any(ord(rare) in characters_of(each) for each in more)
    assert capsys.readouterr().err == ""


def test_characters_that_no_font_has_are_told_once_and_drawn(capsys, recwarn):
    nobodys = "\U00050000"  # a plane without characters
    family = fonts_for(["a", f"{nobodys}b"])
    assert family == ["sans-serif"]
    assert capsys.readouterr().err == (
        "warning: no installed font has '\\U00050000'; drawn as boxes\n"
    )
    figure = new_figure(2.0, 1.0)
    figure.add_subplot().set_xticks([0.0], [nobodys], family=family)
    assert rendered(figure, "png").startswith(KINDS["png"])
    assert not recwarn.list
    assert capsys.readouterr().err == ""


def test_without_matplotlib_the_message_names_the_extra(monkeypatch):
    check_can_draw()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (check_can_draw, lambda: new_figure(1.0, 1.0)):
        with pytest.raises(UsageError, match=r"pictures need matplotlib: pip install '.*\[plot\]'"):
            draw()
