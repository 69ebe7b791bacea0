"""What the corpus scripts share: published files are read, checked, and written all or none.

Standard library only, so that a corpus can be fetched before anything is installed. Errors are one
line on stderr; the exit codes are those of the `seq2seq` command.
"""

import argparse
import gzip
import hashlib
import http.client
import sys
import tempfile
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# Some publishers answer 403 or 406 to clients that do not look like a browser.
_USER_AGENT = "Mozilla/5.0 (compatible; seq2seq data_scripts)"
_TIMEOUT_SECONDS = 60
_GZIP_MAGIC = b"\x1f\x8b"


class DataError(Exception):
    """Content that is not what was published."""

    exit_code = 3


class StorageError(Exception):
    """A file that cannot be fetched, read or written."""

    exit_code = 5


@dataclass(frozen=True)
class Source:
    """Where published files are read from: the folder if there is one, else below `url`."""

    url: str
    folder: Path | None = None

    def read(self, *names: str) -> bytes:
        """The content of the first of `names` that is there, unpacked if it is a gzip file.

        Publishers hold the first name; a folder may hold the file under any of them.

        Raises:
            DataError: A gzip file that is cut short or damaged.
            StorageError: No such file, or it cannot be read.
        """
        if self.folder is None:
            address = f"{self.url.rstrip('/')}/{names[0]}"
            return unpack(address, _download(address))
        for path in (self.folder / name for name in names):
            if path.exists():
                return unpack(str(path), read_file(path))
        raise StorageError(f"{self.folder}: no {' or '.join(names)} in it; --from needs a copy")


def parser(description: str | None, *, output: str, url: str) -> argparse.ArgumentParser:
    """The options every corpus script has; `output` and `url` are their defaults."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--output", type=Path, default=Path(output), help=f"default: {output}")
    options.add_argument(
        "--from", dest="folder", type=Path, metavar="DIR", help="a local copy to read, no network"
    )
    options.add_argument("--url", default=url, help="publisher or mirror, default: %(default)s")
    return options


def unpack(name: str, content: bytes) -> bytes:
    """`content`, unpacked if it is a gzip file whatever its name says.

    Raises:
        DataError: The gzip file is cut short or damaged.
    """
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as err:
        raise DataError(f"{name}: not a whole gzip file: {err}; fetch it again") from err


def check_sum(name: str, content: bytes, expected: str) -> None:
    """Nothing, if `expected` is the sha256 of `content` in hexadecimal digits.

    Raises:
        DataError: It is not.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{name}: sha256 is {found}, expected {expected}; not the published text, "
            "fetch it again"
        )


def check_lines(name: str, content: bytes, expected: int) -> None:
    """Nothing, if `content` is UTF-8 in `expected` lines.

    Raises:
        DataError: Another number of lines, or not UTF-8.
    """
    decode(name, content)
    if count_lines(content) != expected:
        raise DataError(
            f"{name}: {count_lines(content)} lines, expected {expected}; not the published text, "
            "fetch it again"
        )


def decode(name: str, content: bytes) -> str:
    """`content` as text.

    Raises:
        DataError: It is not UTF-8; the message names the line.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        raise DataError(f"{name}:{line}: not UTF-8; fetch it again") from err


def count_lines(content: bytes) -> int:
    """Lines of `content`: only LF ends one, and a last line needs none."""
    return content.count(b"\n") + (content[-1:] not in (b"", b"\n"))


def cut(content: bytes, fraction: float) -> tuple[bytes, bytes]:
    """The whole lines in the first `fraction` of `content`, and the rest."""
    end = content.rfind(b"\n", 0, int(len(content) * fraction)) + 1
    return content[:end], content[end:]


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes every file, each whole, and prints its lines; if one cannot be written, none is.

    Raises:
        StorageError: A file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as temporary:
            for name, content in contents.items():
                Path(temporary, name).write_bytes(content)
            for name in contents:
                if (folder / name).is_dir():
                    raise StorageError(f"{folder / name}: is a folder; expected a file or nothing")
            for name in contents:
                Path(temporary, name).replace(folder / name)
    except OSError as err:
        raise StorageError(f"{folder}: cannot be written: {err.strerror}") from err
    for name, content in contents.items():
        print(f"{folder / name}: {count_lines(content):,} lines")


def run(main: Callable[[Sequence[str] | None], None]) -> NoReturn:
    """Runs a script's `main` on the command line's arguments and exits."""
    try:
        main(None)
    except (DataError, StorageError) as err:
        print(f"error: {err}", file=sys.stderr)
        sys.exit(err.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as err:
        raise StorageError(f"{path}: cannot be read: {err.strerror}") from err


def _download(address: str) -> bytes:
    _check_address(address)
    print(f"fetching {address}", file=sys.stderr)
    request = urllib.request.Request(address, headers={"User-Agent": _USER_AGENT})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            _check_address(response.url)  # a redirection may lead elsewhere
            return bytes(response.read())
    except (OSError, http.client.HTTPException) as err:
        reason = " ".join(str(err).split())
        raise StorageError(
            f"{address}: cannot be fetched: {reason}; try again, or copy the files and use --from"
        ) from err


def _check_address(address: str) -> None:
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError as err:
        raise StorageError(f"{address}: no address: {err}") from err
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
        raise StorageError(f"{address}: expected an https:// address")
