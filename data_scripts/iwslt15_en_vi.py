"""IWSLT 2015 English-Vietnamese: TED talks as Stanford prepared them (Luong & Manning 2015).

    python data_scripts/iwslt15_en_vi.py [--small] [--output data/iwslt15_en_vi] [--from DIR]

Writes these, .en and .vi, and the published vocabularies vocab.en and vocab.vi (17,191 and 7,709):

    train 133,317 (with --small the first 10,000)   tst2012 1,553   tst2013 1,268

tst2012 is the development set, tst2013 the test set. The text is Moses-tokenised and HTML-escaped
(`&apos;`), and some pairs of train have an empty side: it is written as published.

Checked by sha256: tst2012, tst2013, the vocabularies, and the first 10,000 lines of train. No sum
of the whole of train is known here: beyond line 10,000 only its encoding and number of lines are
checked. The sums were taken from copies that agree with each other, not at Stanford, whose server
refuses some clients: then copy the files with a browser and use --from.

Licence: TED talks through WIT3, CC BY-NC-ND: not commercial, no derivatives, not to be shipped.
"""

import io
import itertools
from collections.abc import Sequence

import fetching

URL = "https://nlp.stanford.edu/projects/nmt/data/iwslt15.en-vi"
SMALL = 10_000
LINES = {
    "train.en": 133_317,
    "train.vi": 133_317,
    "tst2012.en": 1_553,
    "tst2012.vi": 1_553,
    "tst2013.en": 1_268,
    "tst2013.vi": 1_268,
    "vocab.en": 17_191,
    "vocab.vi": 7_709,
}
SUMS = {  # sha256; for train, of its first 10,000 lines
    "train.en": "878c70687c18755bdca98721d28597db0d89b7b87a953933c96a34ee6aa16485",
    "train.vi": "31b0547ce7f786b1b26719b131b01e0432626b0e46102c854a8c88e111022c97",
    "tst2012.en": "b8fbcd0d4199d41276421d1f7228298df67dd9e2c5c134c2ee8cdf3ec27801e2",
    "tst2012.vi": "01004078b3f36b0c46e81b65fc6851230b3c823405c76d1d82ef3b786b512ff0",
    "tst2013.en": "3860ce60bc5b85d96cc2d3d580cf1bc9d62440e939c1b964676d3607c4e8f1df",
    "tst2013.vi": "29af16842808da2812b8fd4d47fc05d082ba870e60ab7755090ad04b380994cd",
    "vocab.en": "827ac2c6d51c50014376cefc1d7b6b01c412f227c4dfbc6dbcb0e88891c0b759",
    "vocab.vi": "383628b92b1dcbce472fa9857724add8b2976c2ed2bbe1d76ea8dca108c3396a",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetches, checks and writes the corpus.

    Raises:
        fetching.DataError: A file is not the published one.
        fetching.StorageError: A file cannot be fetched, read or written.
    """
    parser = fetching.parser(__doc__, output="data/iwslt15_en_vi", url=URL)
    parser.add_argument("--small", action="store_true", help="the first 10,000 pairs of train")
    options = parser.parse_args(arguments)
    source = fetching.Source(options.url, options.folder)
    contents: dict[str, bytes] = {}
    for name, lines in LINES.items():
        stem, language = name.split(".")
        if stem != "train":
            content = beginning = source.read(name)
        else:
            other_names = [f"train.10k.{language}"] if options.small else []
            content = source.read(name, *other_names)
            beginning = first_lines(content, SMALL)
            if options.small:
                content, lines = beginning, SMALL
        fetching.check_lines(name, content, lines)
        fetching.check_sum(name, beginning, SUMS[name])
        contents[name] = content
    fetching.write_files(options.output, contents)


def first_lines(content: bytes, count: int) -> bytes:
    """The first `count` lines of `content`, or all where there are fewer."""
    return b"".join(itertools.islice(io.BytesIO(content), count))


if __name__ == "__main__":
    fetching.run(main)
