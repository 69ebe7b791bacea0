"""The corpus scripts, on small made-up sources: what is checked, split, written and refused."""

import gzip
import hashlib
import http.server
import importlib
import io
import re
import subprocess
import sys
import threading
import urllib.error
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from unittest.mock import Mock

import pytest

SCRIPTS = Path(__file__).parent.parent / "data_scripts"


@pytest.fixture
def script(monkeypatch):
    """Imports one of the scripts, which are no package."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


@pytest.fixture
def fetching(script):
    return script("fetching")


@pytest.fixture
def serve(monkeypatch):
    """Serves `{path: body}` on 127.0.0.1 and gives the address; other paths are not found."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(files: Mapping[str, bytes], *, announced: int | None = None) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = files.get(self.path.lstrip("/"))
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(announced or len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_all(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.fixture
def small_multi30k(script, monkeypatch) -> tuple[Callable, dict[str, bytes]]:
    """The Multi30k script with two tiny splits, and the files that are then the published ones."""
    multi30k = script("multi30k")
    files = {
        "train.en": "A dog\u2028runs.\r\nOne.\n".encode(),  # 2 lines: only LF ends one
        "train.de": "Ein Hund läuft.\nEins.\n".encode(),
        "train.cs": b"Pes\nJeden\n",
        "test_2017_flickr.en": b"Two.",  # 1 line, without a line end
        "test_2017_flickr.de": b"Zwei.\n",
    }
    monkeypatch.setattr(multi30k, "LINES", {"train": 2, "test_2017_flickr": 1})
    sums = {name: sha256(text) for name, text in files.items() if not name.endswith("cs")}
    monkeypatch.setattr(multi30k, "SUMS", sums)
    return multi30k.main, files


def test_multi30k_copies_checks_and_counts(small_multi30k, tmp_path, capsys):
    main, files = small_multi30k
    source = write_all(tmp_path / "source", files)
    main(["--from", str(source), "--output", str(tmp_path / "out"), "--languages", "de", "cs"])
    assert files_in(tmp_path / "out") == files  # and no Czech file for the split that has none
    assert f"{tmp_path / 'out' / 'train.en'}: 2 lines" in capsys.readouterr().out


def test_multi30k_downloads_gzip_files(small_multi30k, serve, tmp_path):
    main, files = small_multi30k
    url = serve({f"raw/{name}.gz": gzip.compress(content) for name, content in files.items()})
    main(["--url", f"{url}/raw", "--output", str(tmp_path), "--languages", "de", "cs"])
    assert files_in(tmp_path) == files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.de", b"Ein Hund\n", r"train\.de: 1 lines, expected 2; not the published text"),
        ("train.cs", b"Pes\nJeden\nDva\n", r"train\.cs: 3 lines, expected 2"),
        ("train.de", b"Ein Hund\nZwei.\n", r"train\.de: sha256 is [0-9a-f]{64}, expected [0-9a-f]"),
        ("train.cs", b"Pes\nJ\xe9den\n", r"train\.cs:2: not UTF-8"),
        (
            "train.cs",
            gzip.compress(b"Pes\nJeden\n", mtime=0)[:-9],
            r"train\.cs: not a whole gzip file: .*",
        ),
    ],
)
def test_wrong_files_are_refused_and_nothing_is_written(
    small_multi30k, fetching, tmp_path, name, content, message
):
    main, files = small_multi30k
    source = write_all(tmp_path / "source", files | {name: content})
    with pytest.raises(fetching.DataError, match=message) as error:
        main(["--from", str(source), "--output", str(tmp_path / "out"), "--languages", "de", "cs"])
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_local_file_is_named(small_multi30k, fetching, tmp_path):
    main, files = small_multi30k
    source = write_all(tmp_path / "source", files)
    (source / "train.de").unlink()
    with pytest.raises(
        fetching.StorageError, match=r"no train\.de\.gz or train\.de in it"
    ) as error:
        main(["--from", str(source), "--output", str(tmp_path / "out"), "--languages", "de"])
    assert error.value.exit_code == 5


def test_the_exit_code_and_the_one_line_error_reach_the_shell(tmp_path):
    command = [sys.executable, SCRIPTS / "tiny_shakespeare.py", "--output", tmp_path / "out"]
    write_all(tmp_path, {"input.txt": b"To be.\n"})
    for source, code in ((tmp_path, 3), (tmp_path / "none", 5)):
        done = subprocess.run([*command, "--from", source], capture_output=True, text=True)
        assert done.returncode == code
        assert re.fullmatch(r"error: [^\n]+\n", done.stderr)
        assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_download_that_is_not_there_is_an_error(fetching, serve):
    source = fetching.Source(f"{serve({})}/data")
    with pytest.raises(fetching.StorageError, match=r"data/a\.txt: cannot be fetched: .*404"):
        source.read("a.txt")


def test_a_download_that_is_cut_short_is_an_error(fetching, serve):
    source = fetching.Source(serve({"a.txt": b"half"}, announced=8))
    with pytest.raises(fetching.StorageError, match=r"a\.txt: cannot be fetched: IncompleteRead"):
        source.read("a.txt")


@pytest.mark.parametrize("url", ["http://example.org", "ftp://example.org", "data"])
def test_addresses_without_encryption_are_refused(fetching, url):
    with pytest.raises(fetching.StorageError, match=r"a\.txt: expected an https:// address"):
        fetching.Source(url).read("a.txt")


def test_when_one_file_cannot_be_written_none_is(fetching, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "kept").touch()
    with pytest.raises(fetching.StorageError, match="cannot be written"):
        fetching.write_files(tmp_path / "b" / "kept", {"a": b"1\n"})
    with pytest.raises(fetching.StorageError, match="cannot be written"):
        fetching.write_files(tmp_path, {"a": b"1\n", "missing/c": b"2\n"})
    with pytest.raises(fetching.StorageError, match="b: is a folder; expected a file or nothing"):
        fetching.write_files(tmp_path, {"a": b"1\n", "b": b"2\n"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_what_is_no_address_is_named(fetching):
    with pytest.raises(
        fetching.StorageError, match=r"https://\[x/a\.txt: no address: Invalid IPv6"
    ):
        fetching.Source("https://[x").read("a.txt")


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"", 0), (b"a", 1), (b"a\n", 1), (b"\n\n", 2), (b"a\rb\x0bc\xe2\x80\xa8d\r\ne", 2)],
)
def test_only_a_line_feed_ends_a_line(fetching, content, lines):
    assert fetching.count_lines(content) == lines


def test_a_cut_falls_on_the_end_of_a_line(fetching):
    # 8 of 10 bytes end inside "cc\n", so the first part ends with "bb\n".
    assert fetching.cut(b"aaa\nbb\ncc\n", 0.8) == (b"aaa\nbb\n", b"cc\n")


@pytest.fixture
def small_iwslt(script, monkeypatch) -> tuple[Callable, dict[str, bytes]]:
    """The IWSLT script with tiny files; sums of train are known of its first two lines."""
    iwslt = script("iwslt15_en_vi")
    names = ("train.en", "train.vi", "tst2012.en", "tst2012.vi")
    files = {name: f"{name} 1\n{name} 2\n{name} 3\n".encode() for name in names}
    monkeypatch.setattr(iwslt, "LINES", dict.fromkeys(names, 3))
    monkeypatch.setattr(iwslt, "SMALL", 2)
    known = {name: files[name] for name in names}
    known |= {name: f"{name} 1\n{name} 2\n".encode() for name in names if name.startswith("train")}
    monkeypatch.setattr(iwslt, "SUMS", {name: sha256(content) for name, content in known.items()})
    return iwslt.main, files


def test_iwslt_checks_what_it_knows_of_train(small_iwslt, fetching, tmp_path):
    main, files = small_iwslt
    source, output = write_all(tmp_path / "source", files), tmp_path / "out"
    main(["--from", str(source), "--output", str(output)])
    assert files_in(output) == files
    write_all(source, {"train.vi": b"other 1\nother 2\nother 3\n"})
    with pytest.raises(fetching.DataError, match=r"train\.vi: sha256"):
        main(["--from", str(source), "--output", str(output)])


def test_iwslt_small_is_the_beginning_of_train(small_iwslt, tmp_path):
    main, files = small_iwslt
    whole = write_all(tmp_path / "whole", files)
    beginnings = {"train.10k.en": b"train.en 1\ntrain.en 2\n"}
    beginnings["train.10k.vi"] = b"train.vi 1\ntrain.vi 2\n"
    others = {name: content for name, content in files.items() if not name.startswith("train")}
    beginning = write_all(tmp_path / "beginning", others | beginnings)
    for number, source in enumerate((whole, beginning)):
        output = tmp_path / f"out{number}"
        main(["--small", "--from", str(source), "--output", str(output)])
        assert files_in(output)["train.vi"] == beginnings["train.10k.vi"]
        assert files_in(output)["tst2012.en"] == files["tst2012.en"]


def test_anna_karenina_is_cut_without_the_footer(script, monkeypatch, tmp_path):
    anna = script("anna_karenina")
    novel = b"".join(b"line %d\n" % number for number in range(10))  # 70 bytes
    text = novel + anna.FOOTER + b" ***\nlicence\n"
    monkeypatch.setattr(anna, "SUM", sha256(text))
    source = write_all(tmp_path / "source", {"anna.txt": text.replace(b"\n", b"\r\n")})
    anna.main(["--from", str(source), "--output", str(tmp_path / "out")])
    assert files_in(tmp_path / "out") == {
        "all.txt": text,
        "train.txt": novel[:63],
        "validation.txt": novel[63:],
    }


def test_tatoeba_groups_share_no_sentence_and_are_in_the_order_of_sha1(script):
    tatoeba = script("tatoeba")
    pairs = [
        ("Hi.", "Hallo!"),
        ("Run!", "Lauf!"),
        ("HI", "Grüß Gott!"),  # as "Hi." without case and punctuation
        ("Hello.", "hallo..."),  # shares its German with the first
        ("Who\uff1f", "Wer?"),  # a full-width question mark
    ]
    groups = tatoeba.group_pairs(pairs)
    expected = [[pairs[0], pairs[2], pairs[3]], [pairs[1]], [pairs[4]]]
    # The key of a group is its smallest comparable English sentence, followed by 0.
    keys = [hashlib.sha1(text).hexdigest() for text in (b"hello0", b"run0", b"who0")]
    order = sorted(range(3), key=lambda index: keys[index])
    assert groups == [expected[index] for index in order]


def test_tatoeba_holds_out_one_pair_a_small_group_and_drops_the_others(script):
    tatoeba = script("tatoeba")
    large = [(f"large {number}", "groß") for number in range(9)]
    groups = [large, [("a", "A"), ("a", "AA")], [("b", "B")], [("c", "C"), ("c", "CC")]]
    split = tatoeba.split_groups(groups, held_out=1)
    assert split["test"] == [("a", "A")]
    assert split["dev"] == [("b", "B")]
    assert sorted(split["train"]) == sorted([*large, ("c", "C"), ("c", "CC")])
    digests = [hashlib.sha1("\t".join(pair).encode()).hexdigest() for pair in split["train"]]
    assert digests == sorted(digests)


def test_tatoeba_with_too_few_groups_is_an_error(script, fetching):
    with pytest.raises(fetching.DataError, match="2 groups of sentences, expected more than 2"):
        script("tatoeba").split_groups([[("a", "A")], [("b", "B")]], held_out=1)


def test_tatoeba_reads_the_published_archive(script, serve, tmp_path, capsys):
    lines = [f"Number {number}.\tZahl {number}.\tCC-BY 2.0 #{number}" for number in range(5)]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("deu.txt", "\r\n".join([*lines, lines[0]]))
        files.writestr("_about.txt", "CC BY\n")
    url = serve({"deu-eng.zip": archive.getvalue()})
    script("tatoeba").main(
        ["en-de", "--held-out", "1", "--url", url, "--output", str(tmp_path / "out")]
    )
    written = files_in(tmp_path / "out")
    assert written.pop("_about.txt") == b"CC BY\n"
    english, german = (
        [written[f"{split}.{side}"].decode().split("\n")[:-1] for split in ("train", "dev", "test")]
        for side in ("en", "de")
    )
    assert [len(part) for part in english] == [3, 1, 1]
    assert sorted(line for part in english for line in part) == [
        f"Number {number}." for number in range(5)
    ]
    assert german == [[line.replace("Number", "Zahl") for line in part] for part in english]
    assert "train.de: 3 lines" in capsys.readouterr().out


def damaged_zip(name):
    """An archive whose list of files is whole, and whose only file is not."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr(name, "Hi.\tHallo.\n" * 100)
    content = bytearray(archive.getvalue())
    start = 30 + len(name)  # after the file's header
    content[start : start + 8] = b"\xff" * 8
    return bytes(content)


def encrypted_zip(name):
    """An archive that says of its only file that it is encrypted."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr(name, "Hi.\tHallo.\n")
    content = bytearray(archive.getvalue())
    content[6] |= 1  # flags of the file's header, then of the list of files
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"deu-eng.zip": b"PK but no archive"}, r"deu-eng\.zip: no whole zip file with deu\.txt"),
        ({"deu-eng.zip": damaged_zip("deu.txt")}, r"deu-eng\.zip: no whole zip file with deu\.txt"),
        (
            {"deu-eng.zip": encrypted_zip("deu.txt")},
            r"deu-eng\.zip: no whole zip file .* encrypted",
        ),
        ({"deu.txt": b"Hi.\tHallo.\nHi.\n"}, r"deu\.txt:2: 1 column, expected English, TAB"),
        ({"deu.txt": b"Hi.\tHallo.\nHi.\t\xff\n"}, r"deu\.txt:2: not UTF-8"),
    ],
)
def test_tatoeba_refuses_what_is_no_list_of_pairs(script, fetching, tmp_path, files, message):
    source = write_all(tmp_path / "source", files)
    with pytest.raises(fetching.DataError, match=message):
        script("tatoeba").main(["en-de", "--from", str(source), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["de-en"], "de-en: expected en-XX, XX one of cs da de"),
        (["en-de", "--held-out", "0"], "--held-out 0: expected 1 or more"),
    ],
)
def test_tatoeba_explains_wrong_arguments(script, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        script("tatoeba").main(arguments)
    assert message in capsys.readouterr().err


def test_wmt_reads_a_sacrebleu_folder(tmp_path):
    fields = {"src": b"One.\nTwo.\n", "ref": b"Eins.\nZwei.\n"}
    fields |= dict.fromkeys(("docid", "genre", "origlang"), b"x\nx\n")
    files = {f"wmt16.en-de.{name}": content for name, content in fields.items()}
    write_all(tmp_path / "wmt16", files)
    # In a process of its own: sacreBLEU reads the name of its folder once, at import.
    command = [sys.executable, SCRIPTS / "wmt.py", "wmt16", "en-de", "--from", tmp_path]
    command += ["--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert files_in(tmp_path / "out") == {
        "wmt16.en-de.en": b"One.\nTwo.\n",
        "wmt16.en-de.de": b"Eins.\nZwei.\n",
    }


class FakeTestSet:
    """What the script asks of a test set of sacreBLEU: one source, two references."""

    name = "wmt21/AB"
    langpairs: ClassVar = {"en-de": []}

    def __init__(self, folder: Path, *, references: Sequence[bytes]) -> None:
        self.folder = write_all(folder, {"src": b"One.\nTwo.\n"})
        self.references = references

    def get_source_file(self, pair: str) -> str:
        return str(self.folder / "src")

    def get_reference_files(self, pair: str) -> list[str]:
        files = {f"ref{number}": content for number, content in enumerate(self.references)}
        return [str(write_all(self.folder, files) / name) for name in files]


@pytest.fixture
def wmt(script, monkeypatch, tmp_path):
    """The script's `main`, run on one made-up test set with the references given."""

    def run(*references: bytes, raising: BaseException | None = None) -> dict[str, bytes]:
        test_set = FakeTestSet(tmp_path / "cache", references=references)
        if raising is not None:
            monkeypatch.setattr(test_set, "get_source_file", Mock(side_effect=raising))
        monkeypatch.setattr("sacrebleu.dataset.DATASETS", {test_set.name: test_set})
        script("wmt").main(["wmt21/AB", "en-de", "--output", str(tmp_path / "out")])
        return files_in(tmp_path / "out")

    return run


def test_wmt_numbers_further_references(wmt):
    assert wmt(b"Eins.\nZwei.\n", b"1.\n2.\n") == {
        "wmt21_AB.en-de.en": b"One.\nTwo.\n",
        "wmt21_AB.en-de.de": b"Eins.\nZwei.\n",
        "wmt21_AB.en-de.de.1": b"1.\n2.\n",
    }


def test_wmt_refuses_sides_of_different_length(wmt, fetching):
    message = r"wmt21/AB en-de: \[2, 2, 1\] lines, expected as many on each side"
    with pytest.raises(fetching.DataError, match=message):
        wmt(b"Eins.\nZwei.\n", b"1.\n")


def test_wmt_without_a_connection_or_with_a_wrong_md5_is_an_error(wmt, fetching):
    with pytest.raises(fetching.StorageError, match=r"wmt21/AB: cannot be fetched: .*no network"):
        wmt(raising=urllib.error.URLError("no network"))
    with pytest.raises(fetching.DataError, match="wmt21/AB: not the published archive"):
        wmt(raising=SystemExit(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wmt1", "en-de"], "wmt1: no such test set; there are wmt"),
        (["wmt16", "en-xx"], "en-xx: not in wmt16, which has cs-en"),
    ],
)
def test_wmt_explains_wrong_arguments(script, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        script("wmt").main(arguments)
    assert message in capsys.readouterr().err
