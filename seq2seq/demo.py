"""The demo: makes a corpus, trains on it, translates the test set and scores that, all offline."""

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from seq2seq.config import (
    Config,
    DataConfig,
    DecodingConfig,
    ModelConfig,
    TokenizerConfig,
    TrainingConfig,
    ValidationConfig,
)
from seq2seq.config_file import dump_config, with_absolute_paths
from seq2seq.console import say
from seq2seq.demo_corpus import check_own, write_corpus
from seq2seq.durable_files import write_whole
from seq2seq.evaluation import Score, bleu
from seq2seq.lines import read_lines
from seq2seq.streams import standard_output

_SHOWN = 5  # translations to print


class DemoResult(NamedTuple):
    """What the demo found on the test set, which training never saw.

    Attributes:
        bleu: Of all sentences.
        sources: English sentences.
        translations: The model's, one a source.
        references: The corpus's own, one a source.
    """

    bleu: Score
    sources: list[str]
    translations: list[str]
    references: list[str]

    @property
    def exact(self) -> int:
        """How many translations equal their reference."""
        pairs = zip(self.translations, self.references, strict=True)
        return sum(translation == reference for translation, reference in pairs)


def run_demo(folder: Path) -> DemoResult:
    """Makes `corpus`, `demo.toml` and `model` in `folder`, and prints how well the model does.

    Progress goes to stderr, results to stdout. A demo that was stopped is resumed, and one
    that is complete only translates again.

    Raises:
        StorageError: `folder` cannot be written.
        UsageError: It holds files of these names that the demo would not write so, or a model of
            other settings, as an earlier version of the demo leaves.
        Interrupted: SIGINT or SIGTERM came; the last finished update is saved.
    """
    started = time.monotonic()
    config = with_absolute_paths(demo_config(folder))
    experiment = dump_config(config)
    check_own(folder / "demo.toml", experiment)
    say(f"{folder / 'corpus'}: writing an English-German corpus")
    write_corpus(folder / "corpus")
    write_whole(folder / "demo.toml", experiment)
    _train(config, folder / "model")
    result = _test(folder)
    standard_output().write(render(result, folder))
    say(f"done in {time.monotonic() - started:.0f} s")
    return result


def demo_config(folder: Path) -> Config:
    """The demo's experiment: a model small enough for some minutes on two cores."""
    corpus = folder.absolute() / "corpus"
    return Config(
        data=DataConfig(
            train_source=[corpus / "train.en"],
            train_target=[corpus / "train.de"],
            validation_source=corpus / "validation.en",
            validation_target=corpus / "validation.de",
        ),
        tokenizer=TokenizerConfig(vocabulary_size=1000),
        model=ModelConfig(
            embedding_size=128,
            encoder_layers=1,
            encoder_units=128,
            decoder_layers=1,
            decoder_units=256,
            dropout=0.1,
        ),
        training=TrainingConfig(
            learning_rate=3e-3,
            schedule="linear",
            warmup_steps=50,
            batch_tokens=1024,
            label_smoothing=0.0,
            max_epochs=9,
        ),
        validation=ValidationConfig(samples=1),
        decoding=DecodingConfig(beam_size=1),
    )


def render(result: DemoResult, folder: Path) -> str:
    """The score, some translations, and what to type next."""
    count = len(result.references)
    lines = [
        f"BLEU {result.bleu.value:.2f}  {result.bleu.signature}",
        f"{result.exact} of {count} held-out sentences translated word for word as expected",
    ]
    shown = zip(result.sources, result.translations, result.references, strict=True)
    for source, translation, reference in list(shown)[:_SHOWN]:
        lines += [
            "",
            f"source       {source}",
            f"translation  {translation}",
            f"reference    {reference}",
        ]
    commands = next_commands(folder)
    if shutil.which("seq2seq") is None:  # run by its path, in an environment that is not active
        commands.insert(0, f". {shlex.quote(sys.prefix)}/bin/activate")
    lines += ["", "what to type next:", *(f"  {command}" for command in commands)]
    return "\n".join(lines) + "\n"


def next_commands(folder: Path) -> list[str]:
    """Commands of a shell that go on from the demo in `folder`."""
    model, test_source, test_target, config, longer = (
        shlex.quote(str(folder / name))
        for name in ("model", "corpus/test.en", "corpus/test.de", "demo.toml", "longer")
    )
    return [
        f"echo 'Yesterday my sister bought a red hat.' | seq2seq translate {model}",
        f"seq2seq evaluate {model} --source {test_source} --reference {test_target}",
        f"seq2seq train {config} --output {longer} --set training.max_epochs=15",
    ]


def _train(config: Config, folder: Path) -> None:
    say("starting TensorFlow")
    from seq2seq.runtime import SHARDS, start_tensorflow

    start_tensorflow(shards=SHARDS)
    from seq2seq.training import train  # heavy

    train(config, folder, resume=True)


def _test(folder: Path) -> DemoResult:
    from seq2seq.translator import Translator

    say("translating the test set")
    sources = list(read_lines(folder / "corpus" / "test.en"))
    references = list(read_lines(folder / "corpus" / "test.de"))
    translator = Translator.load(folder / "model")
    translations = [translation.text for translation in translator.translate(sources)]
    return DemoResult(bleu(translations, references), sources, translations, references)
