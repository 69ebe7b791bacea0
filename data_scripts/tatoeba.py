"""Tatoeba sentence pairs of English and another language, from manythings.org/anki.

    python data_scripts/tatoeba.py en-de [--output data/tatoeba_en_de] [--from DIR]

Writes train, dev and test, one file a language (`train.en`, `train.de`), and the publisher's
_about.txt. Pairs that share a sentence, compared after NFKC, in lower case and without punctuation,
form one group. Groups are in the order of a sha1; test, then dev, take the first pair of each group
of at most 8 pairs, and the other pairs of those groups are dropped: no sentence of dev or test is
in train. train is in the order of the sha1 of its pairs, so its first N lines are a fair sample.

The publisher replaces the file from time to time, so no sum can be demanded. Of the en-de edition
of 2018-05-13 the sums are known: 164,505 train, 2,000 dev, 2,000 test, and the split is checked
against them. Any other edition is split in the same way; its counts differ and are printed.
--from DIR reads DIR/deu-eng.zip, its deu.txt, or raw.tsv.gz (the same text, gzipped).

Licence: CC BY 2.0 FR; attribution: www.manythings.org/anki and tatoeba.org (_about.txt).
"""

import argparse
import functools
import hashlib
import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import fetching

URL = "https://www.manythings.org/anki"
ABOUT = "_about.txt"
MOST_PAIRS = 8  # a larger group is left to train whole: dropping it would cost too much
# fmt: off
CODES = {
    "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "es": "spa", "fi": "fin", "fr": "fra",
    "he": "heb", "hu": "hun", "it": "ita", "ja": "jpn", "nl": "nld", "pl": "pol", "pt": "por",
    "ru": "rus", "sv": "swe", "tr": "tur", "uk": "ukr", "vi": "vie", "zh": "cmn",
}
# fmt: on
KNOWN_EDITION = "a79c90b3cd3102decffa49cc00fb6f20023974f2ae5c4782515bebe133fcc07b"  # 2018-05-13
SUMS = {  # of that edition's split
    "dev.de": "b72859450795190987a5ce4cbe3bf61f163c7a3a4f26dfa7292aeb4f603199f3",
    "dev.en": "29276abf9b8b4387e608d9610bf8d46e030ce01c6fdd0c33637fe1af0ad4fa7c",
    "test.de": "03d392f8eff2720f239b263b7c968077321a5bb37f096aeeff00b34981c63704",
    "test.en": "00d91603445d89008b70af02a4c4ad5446bf23b7680bc723e409cf108ad06c0b",
    "train.de": "2ca682fdbfd8888ed2322d974dd7d92defcfe3899573b7cce70b7d818d2c0584",
    "train.en": "1f129ddc0e5f6a5e148415b6c2282300408f9569507735a4669210f7c3667618",
}
Pair = tuple[str, str]  # English, the other language


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetches, splits, checks and writes the corpus.

    Raises:
        fetching.DataError: The file is not what it must be, or too small for the split.
        fetching.StorageError: A file cannot be fetched, read or written.
    """
    parser = fetching.parser(__doc__, output="data/tatoeba_en_XX", url=URL)
    parser.add_argument("pair", type=_other_language, help=f"en-XX, XX of {' '.join(CODES)}")
    parser.add_argument("--held-out", type=int, default=2000, help="pairs of dev, and of test")
    parser.set_defaults(output=None)
    options = parser.parse_args(arguments)
    if options.held_out < 1:
        parser.error(f"--held-out {options.held_out}: expected 1 or more")
    language = options.pair
    contents = _read(fetching.Source(options.url, options.folder), CODES[language])
    text = contents.pop("text")
    groups = group_pairs(parse_pairs(f"{CODES[language]}.txt", text))
    for split, pairs in split_groups(groups, held_out=options.held_out).items():
        for side, suffix in enumerate(("en", language)):
            contents[f"{split}.{suffix}"] = "".join(f"{pair[side]}\n" for pair in pairs).encode()
    if hashlib.sha256(text).hexdigest() == KNOWN_EDITION and options.held_out == 2000:
        for name, expected in SUMS.items():
            fetching.check_sum(name, contents[name], expected)
    fetching.write_files(options.output or Path(f"data/tatoeba_en_{language}"), contents)


def parse_pairs(name: str, content: bytes) -> list[Pair]:
    """The distinct pairs of `content`: English, TAB, the other language, perhaps TAB and a credit.

    Raises:
        fetching.DataError: Not UTF-8, or a line with fewer columns.
    """
    pairs: dict[Pair, None] = {}
    for number, line in enumerate(fetching.decode(name, content).split("\n"), start=1):
        columns = line.removesuffix("\r").split("\t")
        if columns == [""]:
            continue
        if len(columns) < 2:
            raise fetching.DataError(f"{name}:{number}: 1 column, expected English, TAB, the other")
        pairs[columns[0], columns[1]] = None
    return list(pairs)


def group_pairs(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """`pairs` in groups that share no sentence, in the order of a sha1; each in its first order."""
    parents: dict[str, str] = {}

    def root(sentence: str) -> str:
        node = _comparable(sentence)
        while (parent := parents.setdefault(node, node)) != node:
            parents[node] = parents[parent]  # halves the path for the next search
            node = parent
        return node

    for english, other in pairs:
        parents[root(english)] = root(other)
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(root(pair[0]), []).append(pair)
    return sorted(groups.values(), key=_group_order)


def split_groups(groups: Sequence[Sequence[Pair]], *, held_out: int) -> dict[str, list[Pair]]:
    """train, dev and test; dev and test have `held_out` pairs each.

    Raises:
        fetching.DataError: There are too few groups.
    """
    small = [index for index, group in enumerate(groups) if len(group) <= MOST_PAIRS]
    if len(small) <= 2 * held_out:
        raise fetching.DataError(
            f"{len(small)} groups of sentences, expected more than {2 * held_out}; "
            "use a smaller --held-out"
        )
    test, dev = small[:held_out], small[held_out : 2 * held_out]
    taken = {*test, *dev}
    train = [pair for index, group in enumerate(groups) if index not in taken for pair in group]
    return {
        "train": sorted(train, key=lambda pair: _sha1("\t".join(pair))),
        "dev": [groups[index][0] for index in dev],
        "test": [groups[index][0] for index in test],
    }


def _read(source: fetching.Source, code: str) -> dict[str, bytes]:
    """The pairs under the name `text`, and the publisher's notes where there are any."""
    name = f"{code}-eng.zip"
    content = source.read(name, f"{code}.txt", "raw.tsv.gz")
    if not content.startswith(b"PK"):
        about = source.folder and source.folder / ABOUT
        found = {ABOUT: fetching.read_file(about)} if about and about.is_file() else {}
        return {"text": content} | found
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {ABOUT: archive.read(ABOUT)} if ABOUT in archive.namelist() else {}
            return {"text": archive.read(f"{code}.txt")} | found
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as err:
        raise fetching.DataError(f"{name}: no whole zip file with {code}.txt: {err}") from err


def _group_order(group: Sequence[Pair]) -> str:
    # The 0 marks the English side; it is part of what the known split was made with.
    return _sha1(min(_comparable(english) for english, _ in group) + "0")


@functools.cache
def _comparable(sentence: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", sentence).lower()).strip()


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _other_language(pair: str) -> str:
    first, _, second = pair.partition("-")
    if first != "en" or second not in CODES:
        raise argparse.ArgumentTypeError(f"{pair}: expected en-XX, XX one of {' '.join(CODES)}")
    return second


if __name__ == "__main__":
    fetching.run(main)
