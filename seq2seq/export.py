"""A translator as a SavedModel for TensorFlow Serving: there whole or not at all, and verified.

    DIR/1, DIR/2, ...    versions; servers take up the highest number that appears

A version is written under a name that is no number, loaded again, compared with the translator in
Python on many texts, and renamed last. What a killed export left goes at the next one.
"""

import math
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version as version_of
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seq2seq.config_file import load_model_config
from seq2seq.durable_files import locked, publish_folder
from seq2seq.errors import ModelError, StorageError, UsageError, check_whole_number, unwritable
from seq2seq.lines import read_lines
from seq2seq.search_options import SearchOptions, search_options
from seq2seq.tokenizer import Tokenizer
from seq2seq.translation import Translation
from seq2seq.translator import Translator

if TYPE_CHECKING:
    from seq2seq.translation_graph import TranslationGraph

_DEFAULT = "serving_default"  # the signature that is taken where no name is given
_TEMPORARY = ".tmp-"
_VOCABULARY_TEXTS = 100
_MOST_PIECES = 20  # of such a text
_SHOWN = 60  # characters of a text in a message
# Texts that a graph is likely to take otherwise than Python does.
_HARD_TEXTS = [
    *("", " \t\u3000", "\x01", "a\r\n", "a\x00b\u2028c\x85d", "\ufeffa", " \u2581a \u2581"),
    *("e\u0301 \ufb01 \u00c5", "\U0001f600\u200d", "</s> <unk>", "a" * 10_000),
]
# Other kernels and batches round sums of float32 otherwise.
_SCORE_TOLERANCE = 1e-4


class Export(NamedTuple):
    """A version that was published.

    Attributes:
        path: Its folder.
        size: Bytes.
        signatures: Their names.
        foreign_operations: Those of its graph that TensorFlow itself does not have.
        verified: Texts that it translates as the translator does.
    """

    path: Path
    size: int
    signatures: list[str]
    foreign_operations: list[str]
    verified: int


def export(
    model: Path | str,
    folder: Path | str,
    *,
    version: int | None = None,
    verify: Path | str | None = None,
    beam_size: int | None = None,
    length_penalty: float | None = None,
    max_length: int | None = None,
) -> Export:
    """Writes the translator in a model folder as a new version in `folder`, in float32.

    Its signatures take `texts`, strings, and return the `text` and `score` of each: `greedy`,
    `beam` if the beam size is above 1, and the last of these once more as `serving_default`.

    Args:
        model: Model folder.
        folder: Made if it is missing.
        version: A number above those in `folder`; None is the next one.
        verify: Text to verify with, a sentence a line, beside what is made of the vocabulary.
        beam_size: See `Options`, as for the rest.
        length_penalty: The same in all signatures.
        max_length: Likewise.

    Raises:
        UsageError: An option is out of range, the version is there already or too low, or
            tensorflow-text is missing.
        ModelError: `model` is no translator, or what was exported translates otherwise.
        DataError: `verify` is not UTF-8.
        LockedError: Another process exports to `folder`.
        StorageError: `verify` cannot be read, or `folder` not be written.
    """
    model, folder = Path(model), Path(folder)
    decoding = load_model_config(model).decoding
    greedy, best = (
        search_options(
            decoding, beam_size=size, length_penalty=length_penalty, max_length=max_length
        )
        for size in (1, beam_size)
    )
    searches = {"greedy": greedy} | ({"beam": best} if best.beam_size > 1 else {})
    texts = [*_HARD_TEXTS, *(read_lines(Path(verify)) if verify else ())]
    # For any machine: a graph made on a GPU needs one.
    from seq2seq.runtime import start_tensorflow

    start_tensorflow("cpu")
    make_graph = _graph_maker()
    with _new_version(folder, version) as (temporary, final):
        translator = Translator.load(model, device="cpu", precision="float32")
        texts += _vocabulary_texts(translator.tokenizers.source)
        expected = {name: _translations(translator, texts, each) for name, each in searches.items()}
        foreign_operations = _save(make_graph(translator, searches), temporary)
        _verify(temporary, texts, expected)
        size = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
    return Export(final, size, [*searches, _DEFAULT], foreign_operations, verified=len(texts))


def _graph_maker() -> "type[TranslationGraph]":
    import tensorflow as tf

    try:
        from seq2seq.translation_graph import TranslationGraph
    except (ImportError, tf.errors.NotFoundError) as err:  # missing, or made for another TensorFlow
        minor = version_of("tensorflow").rpartition(".")[0]
        raise UsageError(
            f"export: needs tensorflow-text {minor}, for the tokenizer in the graph: "
            f"pip install 'tensorflow-text=={minor}.*' (Linux, or macOS on ARM)"
        ) from err
    return TranslationGraph


@contextmanager
def _new_version(folder: Path, version: int | None) -> Iterator[tuple[Path, Path]]:
    """A temporary folder that becomes the second one, a version, if the block ends well."""
    made = not folder.exists()
    with locked(folder):
        try:
            for left_over in folder.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(left_over)
            final = folder / str(_checked_version(folder, version))
            temporary = folder / f"{_TEMPORARY}{final.name}"
            try:
                yield temporary, final
                publish_folder(temporary, final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except BaseException as err:
            if made:
                with suppress(OSError):  # not empty any more
                    (folder / ".lock").unlink()
                    folder.rmdir()
            if isinstance(err, OSError):
                raise unwritable(str(folder), err) from err
            raise


def _checked_version(folder: Path, version: int | None) -> int:
    present = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
    newest = max(present, default=0)
    if version is None:
        return newest + 1
    check_whole_number("version", version, at_least=1)
    if version in present:
        raise UsageError(
            f"{folder / str(version)}: exists already; leave the version out for {newest + 1}"
        )
    if version < newest:
        raise UsageError(
            f"version: got {version}, lower than {newest}, which is in {folder} and which servers "
            f"would go on with; leave it out for {newest + 1}"
        )
    return version


def _vocabulary_texts(tokenizer: Tokenizer) -> list[str]:
    """The same random texts for the same vocabulary, which any model folder has with it."""
    draw = random.Random(0)
    return [
        tokenizer.decode(
            [
                draw.randrange(tokenizer.vocabulary_size)
                for _ in range(draw.randint(1, _MOST_PIECES))
            ]
        )
        for _ in range(_VOCABULARY_TEXTS)
    ]


def _translations(
    translator: Translator, texts: Sequence[str], options: SearchOptions
) -> list[Translation]:
    return translator.translate(
        texts,
        beam_size=options.beam_size,
        length_penalty=options.length_penalty,
        max_length=options.max_length,
    )


def _save(graph: "TranslationGraph", path: Path) -> list[str]:
    """Writes the graph; the operations in it that TensorFlow itself does not have."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    functions = graph.functions
    default = list(functions.values())[-1]
    try:
        tf.saved_model.save(graph, str(path), signatures={**functions, _DEFAULT: default})
    except tf.errors.OpError as err:  # what a full disk gives
        raise StorageError(f"{path}: cannot be written: {err.message}") from err
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    definition = saved.meta_graphs[0].graph_def
    nodes = chain(definition.node, *(each.node_def for each in definition.library.function))
    return sorted({node.op for node in nodes if not hasattr(tf.raw_ops, node.op)})


def _verify(
    path: Path, texts: Sequence[str], expected: Mapping[str, Sequence[Translation]]
) -> None:
    """Loads what was written and compares every text with the translator's, byte for byte."""
    import tensorflow as tf

    signatures = tf.saved_model.load(str(path)).signatures
    for name, translations in expected.items():
        found = signatures[name](texts=tf.constant(texts))
        pairs = zip(found["text"].numpy(), found["score"].numpy(), strict=True)
        different = [
            (text, said.decode("utf-8", "replace"), theirs.text)
            for text, (said, score), theirs in zip(texts, pairs, translations, strict=True)
            if said != theirs.text.encode() or not _close(float(score), theirs.score)
        ]
        if different:
            text, said, theirs = (repr(each[:_SHOWN]) for each in different[0])
            raise ModelError(
                f"export: the exported model and the translator differ on {len(different)} of "
                f"{len(texts)} texts (signature {name}), such as {text}: {said}, expected "
                f"{theirs}; nothing was published"
            )


def _close(score: float, expected: float) -> bool:
    return math.isclose(score, expected, rel_tol=_SCORE_TOLERANCE, abs_tol=_SCORE_TOLERANCE)
