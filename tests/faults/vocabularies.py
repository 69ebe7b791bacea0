"""F16: every character there is, through a vocabulary on disk and back."""

import itertools
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from verdicts import Verdict, drawing

from seq2seq.text_tokenizer import (
    CharacterTokenizer,
    TextTokenizer,
    WordTokenizer,
    load_text_tokenizer,
)

PLANE = 1 << 16
PLANES = (sys.maxunicode + 1) // PLANE
SURROGATES = range(0xD800, 0xE000)


def round_trips(cases: Iterable[int], seed: int) -> Iterator[Verdict]:
    r"""F16: case n is Unicode's plane n, in a vocabulary of all characters of these planes.

    And of the plane after each, so that there always are more than 16 bits can number. They are in
    random order and so are their ids. Each character must keep its id, encoded and
    decoded alone and together, in a vocabulary of characters and in one of words; "\n", "\r", tab
    and NUL are of plane 0, and with each plane goes the empty text.
    """
    cases = list(cases)
    planes = {(case + further) % PLANES for case in cases for further in (0, 1)}
    points = itertools.chain.from_iterable(
        range(plane * PLANE, (plane + 1) * PLANE) for plane in sorted(planes)
    )
    characters = [chr(point) for point in points if point not in SURROGATES]
    drawing("vocabularies", seed=seed, case=0).shuffle(characters)
    with tempfile.TemporaryDirectory() as name:
        tokenizers: list[TextTokenizer] = []
        for kind in (CharacterTokenizer, WordTokenizer):
            folder = Path(name) / kind.file_name
            kind(characters).save(folder)
            tokenizers.append(load_text_tokenizer(folder))
        ids = {character: number for number, character in enumerate(characters, start=1)}
        for case in cases:
            plane = [character for character in characters if ord(character) // PLANE == case]
            yield Verdict(case, "; ".join(_faults(plane, ids, tokenizers)))


def _faults(
    plane: list[str], ids: Mapping[str, int], tokenizers: list[TextTokenizer]
) -> Iterator[str]:
    by_characters, by_words = tokenizers
    expected, text = [ids[character] for character in plane], "".join(plane)
    if by_characters.encode(text).tolist() != expected:
        yield "not the ids of the characters"
    for character, number in zip(plane, expected, strict=True):
        if by_words.encode(character).tolist() != [number]:
            yield f"U+{ord(character):04X} is not the word it is"
    for tokenizer in tokenizers:
        if tokenizer.decode(expected) != text:
            yield "not the text of the ids"
        if tokenizer.encode("").tolist() or tokenizer.decode([]):
            yield "not the empty text"
