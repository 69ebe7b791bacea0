"""WMT test sets (and every other test set that sacreBLEU knows), one sentence a line.

    python data_scripts/wmt.py wmt14/full en-de [--output data/wmt] [--from DIR]

Writes data/wmt/TEST_SET.PAIR.LANGUAGE, here wmt14_full.en-de.en and wmt14_full.en-de.de; of several
references the second is wmt14_full.en-de.de.1, and so on. No training text. sacreBLEU fetches the
organisers' archives over https, checks their md5 and keeps them in ~/.sacrebleu; --from DIR names
another such folder, and what is missing there is fetched into it. No counts are recorded here: the
sides of a test set must have the same number of lines, and the numbers are printed.

Needs sacrebleu, which seq2seq installs. Licence: see the test set's page at statmt.org; the news
test sets are for research.
"""

import argparse
import os
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fetching


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetches, checks and writes one test set of one language pair.

    Raises:
        fetching.DataError: An archive is damaged, or the sides differ in their number of lines.
        fetching.StorageError: A file cannot be fetched, read or written.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("test_set", help="such as wmt14/full")
    parser.add_argument("pair", help="such as en-de")
    parser.add_argument(
        "--output", type=Path, default=Path("data/wmt"), help="default: %(default)s"
    )
    parser.add_argument("--from", dest="folder", metavar="DIR", help="a sacreBLEU folder")
    options = parser.parse_args(arguments)
    if options.folder:
        os.environ["SACREBLEU"] = options.folder
    try:
        from sacrebleu.dataset import DATASETS  # reads SACREBLEU when it is imported
    except ImportError:
        parser.error("needs the package sacrebleu: pip install sacrebleu")

    if options.test_set not in DATASETS:
        parser.error(f"{options.test_set}: no such test set; there are {', '.join(DATASETS)}")
    pairs = DATASETS[options.test_set].langpairs
    if options.pair not in pairs:
        parser.error(f"{options.pair}: not in {options.test_set}, which has {', '.join(pairs)}")
    sides = _read(DATASETS[options.test_set], options.pair)
    lines = [fetching.count_lines(content) for content in sides]
    if min(lines) == 0 or min(lines) != max(lines):
        raise fetching.DataError(
            f"{options.test_set} {options.pair}: {lines} lines, expected as many on each side; "
            "remove the test set from sacreBLEU's folder and fetch it again"
        )
    stem = f"{options.test_set.replace('/', '_')}.{options.pair}"
    source_language, target_language = options.pair.split("-")
    names = [f"{stem}.{source_language}", f"{stem}.{target_language}"]
    names += [f"{stem}.{target_language}.{number}" for number in range(1, len(sides) - 1)]
    fetching.write_files(options.output, dict(zip(names, sides, strict=True)))


def _read(dataset: Any, pair: str) -> list[bytes]:
    """Source and references."""
    try:
        paths = [dataset.get_source_file(pair), *dataset.get_reference_files(pair)]
        return [Path(path).read_bytes() for path in paths]
    except OSError as err:
        reason = " ".join(str(err).split())
        raise fetching.StorageError(f"{dataset.name}: cannot be fetched: {reason}") from err
    except (SystemExit, EOFError, tarfile.TarError, zipfile.BadZipFile) as err:
        # sacreBLEU ends the process when the md5 of an archive is wrong, and says which file it is.
        raise fetching.DataError(
            f"{dataset.name}: not the published archive; remove it from sacreBLEU's folder and "
            "fetch it again"
        ) from err


if __name__ == "__main__":
    fetching.run(main)
