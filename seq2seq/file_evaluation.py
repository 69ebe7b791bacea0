"""Files in, scores out: of a translator, of given translations, or of a language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seq2seq.comparison import compare
from seq2seq.config_file import load_model_config
from seq2seq.errors import DataError, UsageError
from seq2seq.evaluation import check_can_score, evaluate
from seq2seq.file_translation import best_texts
from seq2seq.generator import LanguageModel, TextScore
from seq2seq.lines import check_line_counts, read_lines, read_text
from seq2seq.model_files import ENCODED_FOLDER
from seq2seq.report import Report
from seq2seq.streams import standard_input
from seq2seq.text_corpus import TextIds


def evaluate_files(
    references: Sequence[Path],
    *,
    model: Path | None = None,
    source: Path | None = None,
    hypothesis: Path | None = None,
    baseline: Path | None = None,
    lowercase: bool = False,
) -> Report:
    """Scores of the model's translations of `source`, or of those in `hypothesis`.

    Args:
        references: Files of reference translations, one or more.
        model: A translator; its validation says how BLEU cuts words, which is 13a without one.
        source: Text to translate; beside `hypothesis` it is shown and no more.
        hypothesis: Translations; `-` is standard input.
        baseline: Another system's translations, to compare with.
        lowercase: BLEU and chrF without regard to case.

    Raises:
        DataError: A file is faulty, empty, or not as long as the others.
        StorageError: One cannot be read.
        ModelError: `model` is no translator, or damaged.
        UsageError: There is nothing to score, or nothing to compare with; or as `check_can_score`.
    """
    if hypothesis is None and (model is None or source is None):
        raise UsageError("evaluate: needs either --hypothesis, or MODEL and --source to translate")
    if not references:
        raise UsageError("evaluate: needs --reference, the translations to compare with")
    tokenizer = load_model_config(model).validation.bleu_tokenizer if model else "13a"
    check_can_score(tokenizer)
    read = [list(read_lines(path)) for path in references]
    sources = list(read_lines(source)) if source else []
    others = list(read_lines(baseline)) if baseline else []
    lengths = [(str(path), len(lines)) for path, lines in zip(references, read, strict=True)]
    lengths[:0] = [(str(source), len(sources))] if source else []
    if baseline:
        lengths.append((str(baseline), len(others)))
    check_line_counts(lengths)
    if hypothesis == Path("-"):
        name, hypotheses = "standard input", list(standard_input().lines())
    elif hypothesis:
        name, hypotheses = str(hypothesis), list(read_lines(hypothesis))
    elif model:
        name, hypotheses = f"translations of {source}", best_texts(model, sources)
    options: Any = {"tokenizer": tokenizer, "lowercase": lowercase}
    names: Any = {"hypothesis_name": name, "reference_names": [str(path) for path in references]}
    return Report(
        title=f"{model}: {name}" if model else name,
        evaluation=evaluate(hypotheses, read, **names, **options),
        hypotheses=hypotheses,
        references=read,
        tokenizer=tokenizer,
        lowercase=lowercase,
        sources=sources,
        comparisons=compare(hypotheses, others, read, **options) if baseline else [],
    )


def score_file(model: Path, source: Path) -> TextScore:
    """How likely a language model finds a text.

    Raises:
        DataError: The text is empty or faulty.
        StorageError: It cannot be read.
        ModelError: `model` is no language model, or damaged.
    """
    text = read_text(source)
    if not text:
        raise DataError(f"{source}: is empty; there is nothing to score")
    return LanguageModel.load(model).score(text)


def score_test_text(model: Path) -> TextScore:
    """How likely a language model finds the text that was held back when it was trained.

    Raises:
        UsageError: There was none, or it is not in the model folder any more.
        DataError: It is damaged.
        ModelError: `model` is no language model, or damaged.
    """
    folder = model / ENCODED_FOLDER
    ids = TextIds.open(folder, verified=["test"]) if folder.exists() else None
    if ids is None or not ids.counts.test.characters:
        raise UsageError(
            f"{model}: has no test text (data.test_share), or not any more (encoded/); name a text "
            "with --source"
        )
    return LanguageModel.load(model).score_ids(ids.test, characters=ids.counts.test.characters)
