"""Tiny Shakespeare: 40,000 lines of the plays, a text for character language models.

    python data_scripts/tiny_shakespeare.py [--output data/tiny_shakespeare] [--from DIR]

Writes all.txt (1,115,394 characters, 65 distinct, 40,000 lines), and the same cut in two at the end
of a line: train.txt (the first 90 %) and validation.txt (the rest). Checked by sha256.

Licence: public domain text; the repository it comes from, github.com/karpathy/char-rnn, is MIT.
"""

from collections.abc import Sequence

import fetching

URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare"
)
NAME = "input.txt"
SUM = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetches, checks and writes the text.

    Raises:
        fetching.DataError: The file is not the published one.
        fetching.StorageError: A file cannot be fetched, read or written.
    """
    options = fetching.parser(__doc__, output="data/tiny_shakespeare", url=URL).parse_args(
        arguments
    )
    content = fetching.Source(options.url, options.folder).read(NAME)
    fetching.check_sum(NAME, content, SUM)
    train, validation = fetching.cut(content, 0.9)
    contents = {"all.txt": content, "train.txt": train, "validation.txt": validation}
    fetching.write_files(options.output, contents)


if __name__ == "__main__":
    fetching.run(main)
