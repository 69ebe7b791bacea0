"""Anna Karenina in Constance Garnett's translation, a text for character language models.

    python data_scripts/anna_karenina.py [--output data/anna_karenina] [--from DIR]

Writes all.txt (1,985,223 characters, 83 distinct, 40,263 lines: the novel and the Project Gutenberg
footer), and the novel alone (1,966,151 characters, 77 distinct) cut in two at the end of a line:
train.txt (the first 90 %) and validation.txt (the rest). The published file has CR LF line ends;
here only LF ends a line, and the sha256 is checked after that change.

Licence: public domain in the US (Project Gutenberg ebook 1399). The footer must stay with the text
wherever that carries the Project Gutenberg name.
"""

from collections.abc import Sequence

import fetching

URL = (
    "https://raw.githubusercontent.com/udacity/deep-learning/"
    "6d8bdf6596a1243cf95981ccc815e4ab49bf5cc8/intro-to-rnns"
)
NAME = "anna.txt"
SUM = "a21483849a464568c05997147edb994e40023b9d87c299974169abb68230da48"  # with LF line ends
FOOTER = b"*** END OF THIS PROJECT GUTENBERG EBOOK"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetches, checks and writes the text.

    Raises:
        fetching.DataError: The file is not the published one.
        fetching.StorageError: A file cannot be fetched, read or written.
    """
    options = fetching.parser(__doc__, output="data/anna_karenina", url=URL).parse_args(arguments)
    content = fetching.Source(options.url, options.folder).read(NAME).replace(b"\r\n", b"\n")
    fetching.check_sum(NAME, content, SUM)
    train, validation = fetching.cut(content[: content.index(FOOTER)], 0.9)
    contents = {"all.txt": content, "train.txt": train, "validation.txt": validation}
    fetching.write_files(options.output, contents)


if __name__ == "__main__":
    fetching.run(main)
