import json

import numpy as np
import pytest

from seq2seq.output_formats import renderer
from seq2seq.translation import END, Details, Hypothesis, Translation

ATTENTION = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0, 0, 1]], np.float32)
DETAILS = Details(
    source=["▁two", "▁birds", END],
    target=["▁zwei", "▁V", "ögel", END],
    log_probs=[-0.25, -0.5, -0.125, -0.0625],
    attention=ATTENTION,
)
BEST = Hypothesis(
    "zwei Vögel", -0.75, -0.9375, ["▁zwei", "▁V", "ögel"], False, explain=lambda: DETAILS
)
PLAIN = Details(source=["▁two", "▁birds", END], target=["▁x"], log_probs=[-3.0], attention=None)
OTHER = Hypothesis("x\u2028", -2.5, -3.0, ["▁x"], True, duplicate=True, explain=lambda: PLAIN)
TRANSLATION = Translation("two birds", [BEST, OTHER], source_pieces=2)


@pytest.mark.parametrize(
    ("alignment", "line"),
    [
        (None, "zwei Vögel\n"),
        ("pieces", "zwei Vögel ||| 0-0 1-1 1-2\n"),
        ("words", "zwei Vögel ||| 0-0 1-1\n"),
    ],
)
def test_text_is_the_best_translation(alignment, line):
    assert renderer("text", n_best=1, alignment=alignment)(7, TRANSLATION) == line


@pytest.mark.parametrize(
    ("alignment", "first", "second"), [(None, "", ""), ("pieces", " ||| 0-0 1-1 1-2", " ||| ")]
)
def test_n_best_lists_are_as_moses_writes_them(alignment, first, second):
    assert renderer("text", n_best=2, alignment=alignment)(7, TRANSLATION) == (
        f"7 ||| zwei Vögel ||| LogProb= -0.937500 ||| -0.750000{first}\n"
        f"7 ||| x\u2028 ||| LogProb= -3.000000 ||| -2.500000{second}\n"
    )


@pytest.mark.parametrize(
    ("alignment", "pairs"),
    [
        (None, [[0, 0], [1, 1], [1, 2]]),
        ("pieces", [[0, 0], [1, 1], [1, 2]]),
        ("words", [[0, 0], [1, 1]]),
    ],
)
def test_json_has_all_there_is(alignment, pairs):
    line = renderer("jsonl", n_best=2, alignment=alignment)(7, TRANSLATION)
    assert line.splitlines(keepends=True) == [line]  # U+2028 is escaped
    assert json.loads(line) == {
        "source": "two birds",
        "source_truncated": False,
        "source_pieces": ["▁two", "▁birds"],
        "hypotheses": [
            {
                "text": "zwei Vögel",
                "score": -0.75,
                "log_prob": -0.9375,
                "pieces": ["▁zwei", "▁V", "ögel"],
                "truncated": False,
                "duplicate": False,
                "piece_log_probs": [-0.25, -0.5, -0.125, -0.0625],
                "alignment": pairs,
                "attention": [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]],
            },
            {
                "text": "x\u2028",
                "score": -2.5,
                "log_prob": -3.0,
                "pieces": ["▁x"],
                "truncated": True,
                "duplicate": True,
                "piece_log_probs": [-3.0],
                "alignment": None,
                "attention": None,
            },
        ],
    }
