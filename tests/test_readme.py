"""What README.md and benchmarks/README.md promise: commands, options, links and files exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seq2seq.cli import main
from seq2seq.config_file import load_config

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")
MEASUREMENTS = (TOP / "benchmarks" / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def marked_block(name: str) -> list[str]:
    """The lines of the shell block under `<!-- command: NAME -->`, where `.ci/run` reads them."""
    blocks = re.findall(rf"^<!-- command: {name} -->\n+```sh\n(.*?)^```$", README, re.M | re.S)
    assert len(blocks) == 1, f"expected one block marked `{name}` in README.md"
    return blocks[0].splitlines()


def invocations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every `seq2seq COMMAND` in shell blocks and `code`, with the long options given to it."""
    shell = [block for language, block in FENCED.findall(text) if language in ("sh", "console")]
    spans = re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    for line in "\n".join([*shell, *spans]).replace("\\\n", " ").split("\n"):
        for part in re.split(r"&&|[|;]", re.sub(r"(^|\s)#.*", "", line)):
            if found := re.fullmatch(r"[$\s]*(?:\S*/)?seq2seq +([a-z]+)\b(.*)", part):
                yield found[1], re.findall(r"(?<=\s)--[a-z-]+", found[2])


def links(text: str) -> list[tuple[str, str]]:
    """Every link to a file of the project: its path, and the section, empty for the whole."""
    return re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", text)


def named_files(text: str) -> set[str]:
    """Every file or folder of the project that the text names, links left aside."""
    text = re.sub(r"https?://\S+|\]\([^)]*\)", "", text)
    folders = r"(?:configs|data_scripts|tests|benchmarks|seq2seq|\.ci)"
    # Not part of a longer path, such as .venv/bin/seq2seq or a user's own folder.
    return set(re.findall(rf"(?<![\w./-]){folders}/[\w./-]*\w", text))


def sections(text: str) -> set[str]:
    """What links call the headings of a page: in lower case, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    ("name", "ending"), [("demo", ".venv/bin/seq2seq demo"), ("test", ".venv/bin/pytest")]
)
def test_the_marked_commands_install_and_run(name, ending):
    command = " ".join(marked_block(name))
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert command.endswith(f"&& {ending}")


def test_every_command_and_option_exists(capsys):
    mentioned = list(invocations(README + MEASUREMENTS))
    assert {command for command, _ in mentioned} >= {"demo", "train", "translate"}
    for command, options in mentioned:
        assert main([command, "--help"]) == 0, f"no command {command}"
        available = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert set(options) <= available, f"seq2seq {command}: {set(options) - available}"


def test_every_option_named_alone_is_one_of_some_command(capsys):
    for command in {command for command, _ in invocations(README)}:
        main([command, "--help"])
    available = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"`(--[a-z-]+)", README)) <= available


def test_the_configuration_shown_is_a_whole_one(tmp_path):
    [text] = [block for language, block in FENCED.findall(README) if language == "toml"]
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    assert load_config(path).tokenizer.vocabulary_size == 4000


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md"])
def test_every_link_and_named_file_exists(page):
    page = TOP / page
    text = page.read_text(encoding="utf-8")
    assert [name for name in sorted(named_files(text)) if not (TOP / name).exists()] == []
    for path, section in links(text):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not section or section in sections(target.read_text(encoding="utf-8")), section


def test_invocations_are_found_in_shell_blocks_and_in_code():
    text = (
        "Use `seq2seq score --source A`, not `from seq2seq import x`.\n"
        "```sh\n.venv/bin/pip install . && .venv/bin/seq2seq train c.toml \\\n  --set a=1 # --no\n"
        "cat a | seq2seq translate m --n-best 2 > b\n```\n"
        "```python\nseq2seq import\n```\n"
    )
    assert sorted(invocations(text)) == [
        ("score", ["--source"]),
        ("train", ["--set"]),
        ("translate", ["--n-best"]),
    ]


def test_links_and_named_files_are_found():
    text = (
        "[a](seq2seq/lstm.py), [b](https://example.org/tests/x.py), [c](#part), [d](docs/a.md#part)"
        " `configs/a.toml`. https://example.org/configs/b .venv/bin/seq2seq my/tests/y tests/*.py"
    )
    assert links(text) == [("seq2seq/lstm.py", ""), ("", "part"), ("docs/a.md", "part")]
    assert named_files(text) == {"configs/a.toml"}


def test_sections_are_called_as_links_call_them():
    text = "# Train a translator\n## `a`, b-c\n```sh\n# no heading\n```\n"
    assert sections(text) == {"train-a-translator", "a-b-c"}


def test_the_decoder_shown_is_searched():
    [code] = [block for _, block in FENCED.findall(README) if "decoder.stepper()" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["found"].ids.shape == (8, 5, 20)
