"""The benchmarks run, on tiny sizes, and print what they promise; figures are not looked at."""

import itertools
import json
import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from model_fixtures import SENTENCES
from rich.console import Console
from test_workers import write_experiment

from seq2seq import Translator
from seq2seq.checkpoint import load_best_weights
from seq2seq.config_file import load_config

FOLDER = Path(__file__).parent.parent / "benchmarks"
PEER = """
import sys
from pathlib import Path

folder, precision, steps = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
source = (folder / "train.sp.en").read_text(encoding="utf-8").split("\\n")
target = (folder / "train.sp.de").read_text(encoding="utf-8").split("\\n")
assert len(source) == len(target) == 81 and precision == "f32" and steps == "2"
pieces = set((folder / "vocab.txt").read_text(encoding="utf-8").split("\\n"))
assert {piece for line in source + target for piece in line.split(" ")} <= pieces
print("peer: 1,234.5 target tokens/s")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, encoding="utf-8")


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    """80 lines a side: at 8 sentences a batch, the three batches left out and those that count."""
    words = ["ein", "hund", "rennt", "über", "die", "wiese", "und", "bellt", "laut"]
    for name in ("source", "target"):
        lines = [" ".join(words[row % 4 : 2 + row % 7]) or "hund" for row in range(80)]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return [str(tmp_path / "source"), str(tmp_path / "target")]


TINY = ["--steps=2", "--rounds=2", "--sentences=8", "--vocabulary=275", "--units=8"]
FIGURE, RANGE = r"[\d,]+", r"[\d.]+ \([\d.]+ to [\d.]+\)"
NUMBER = r"[\d.]+"


def test_training_speed_prints_ratios_memory_and_parts(text: list[str], tmp_path: Path) -> None:
    (tmp_path / "peer.py").write_text(PEER, encoding="utf-8")
    done = run(str(FOLDER / "training_speed.py"), *text, *TINY, "--peer", str(tmp_path / "peer.py"))
    assert done.returncode == 0, done.stderr
    for row in (
        rf"ours +│ {FIGURE} +│ {FIGURE} to {FIGURE} +│ +│ {FIGURE} MB",
        rf"stock Keras float32 +│ {FIGURE} +│ {FIGURE} to {FIGURE} +│ {RANGE} +│ {FIGURE} MB",
        rf"peer f32 +│ 1,234 +│ 1,234 to 1,234 +│ {RANGE}",
        *(rf"{part} +│ [\d.]+ +│ [\d.]+" for part in ("encoder", "decoder", "attention", "loss")),
        r"optimizer +│ -?[\d.]+",
        r"input, waiting for a batch +│ [\d.]+",
        r"update +│ [\d.]+ +│ [\d.]+ +│ [\d,]+ +│ \d+%",
    ):
        assert re.search(row, done.stdout), f"{row}\n{done.stdout}"


def test_a_peer_without_a_figure_ends_the_benchmark(text: list[str], tmp_path: Path) -> None:
    (tmp_path / "peer.py").write_text("raise SystemExit('no torch here')", encoding="utf-8")
    done = run(str(FOLDER / "training_speed.py"), *text, *TINY, "--peer", str(tmp_path / "peer.py"))
    assert done.returncode == 1
    assert "printed no figure\nno torch here" in done.stderr


def test_text_that_is_not_there_is_one_line(text: list[str], tmp_path: Path) -> None:
    done = run(str(FOLDER / "training_speed.py"), text[0], str(tmp_path / "missing"), *TINY)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*missing: .*\n", done.stderr)


def test_a_text_with_too_few_batches_is_one_line(text: list[str]) -> None:
    done = run(str(FOLDER / "training_speed.py"), *text, *TINY, "--sentences=20")
    assert done.returncode == 1
    assert re.search(r"error: .*source: 4 batches of 20 pairs, expected at least 5: ", done.stderr)


DECODER_PEER = """
import sys
from pathlib import Path

folder = Path(sys.argv[1])
lines = (folder / "test_2016_flickr.sp.en").read_text(encoding="utf-8").split("\\n")
assert len(lines) == 21, len(lines)
pieces = set((folder / "vocab.txt").read_text(encoding="utf-8").split("\\n"))
assert {piece for line in lines for piece in line.split(" ")} <= pieces
print("peer int8 beam 2: 12 sentences/s, 123 tokens/s")
"""


def test_decoding_speed_prints_ratios_and_parts(text: list[str], tmp_path: Path) -> None:
    (tmp_path / "peer.py").write_text(DECODER_PEER, encoding="utf-8")
    options = ["--beam-sizes=1,2", "--length=3", "--sentences=20", "--rounds=2"]
    options += ["--vocabulary=275", "--units=8", "--peer", str(tmp_path / "peer.py")]
    options += ["--precision=float32"]
    done = run(str(FOLDER / "decoding_speed.py"), *text, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for row in (
        rf"ours +│ 1 +│ {FIGURE} +│ {FIGURE} to {FIGURE} +│ {FIGURE} +│ +│",
        rf"peer int8 +│ 2 +│ 123 +│ 123 to 123 +│ 41 +│ {RANGE}",
        r"20 sentences, beam 2, float32",
        r"tokenization, both ways +│ [\d.]+",
        *(
            rf"{part} +│ [\d.]+ +│ [\d.]+"
            for part in ("encoder", "decoder: LSTM", "decoder: attention", "whole batch")
        ),
    ):
        assert re.search(row, done.stdout), f"{row}\n{done.stdout}"


def test_batch_invariance_counts_sentences(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "source"
    source.write_text("\n".join(SENTENCES[:3]), encoding="utf-8")
    monkeypatch.syspath_prepend(FOLDER)
    import batch_invariance as benchmark

    monkeypatch.setattr(benchmark, "WAYS", [benchmark.WAYS[0], benchmark.WAYS[4]])
    monkeypatch.setattr(benchmark, "console", Console(width=110, highlight=False))
    benchmark.main(model_folder, source, sentences=3, beam_size=2, precision="float32")
    table = capsys.readouterr().out
    for way in ("64 +│ file +│ 2", "7 +│ shuffled +│ 1"):
        assert re.search(rf"{way} +│ 3 of 3 +│ [\d.e+-]+", table), table


def test_language_model_speed_prints_training_and_writing(text: list[str], tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text("import sys\nprint(sys.argv[2:], '5 ms/step, 1,250 characters/s')")
    options = ["--units=8", "--batch-size=4", "--window=5", "--steps=2", "--rounds=2"]
    options += ["--length=6", "--streams=3", "--peer", f"{peer} torch f32", "--precision=float32"]
    done = run(str(FOLDER / "language_model_speed.py"), text[0], *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for row in (
        rf"ours, training +│ {FIGURE} +│ {FIGURE} to {FIGURE} +│ +│",
        rf"peer torch f32 +│ 1,250 +│ 1,250 to 1,250 +│ {RANGE}",
        rf"ours, writing one stream +│ {FIGURE} +│",
        rf"ours, writing 3 streams +│ {FIGURE} +│",
        rf"training in float32: \d+ GFLOP an update, \d+ GFLOP/s, \d+% of this machine's {FIGURE}",
    ):
        assert re.search(row, done.stdout), f"{row}\n{done.stdout}"


def test_scaling_knows_its_axes(tmp_path: Path) -> None:
    arguments = ["--axes", "units,unit", "--values", "8", "--output", str(tmp_path)]
    done = run(str(FOLDER / "scaling.py"), *arguments)
    assert done.returncode == 2
    assert "got 'unit', expected some of" in " ".join(done.stderr.split())
    assert not (tmp_path / "scaling.md").exists()


@pytest.mark.parametrize(
    ("axis", "value", "systems"),
    [
        pytest.param("length", "3", ["ours", "stock Keras"], marks=pytest.mark.slow),
        ("corpus", "300", ["ours"]),
    ],
)
def test_scaling_writes_a_table_and_a_plot(
    axis: str, value: str, systems: list[str], tmp_path: Path
) -> None:
    arguments = ["--axes", axis, "--values", value, "--steps", "1", "--output", str(tmp_path)]
    done = run(str(FOLDER / "scaling.py"), *arguments)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "scaling.md").read_text(encoding="utf-8")
    for system in systems:
        assert re.search(
            rf"^\| {axis} \| {value} \| {system} \| [\d,]+ \| .+ \| [\d,]+ \|$", table, re.M
        )
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_several_workers_prints_both_speeds_and_the_account(tmp_path: Path) -> None:
    config = write_experiment(tmp_path, model__dropout=0.0)
    done = run(str(FOLDER / "several_workers.py"), str(config), "--steps=15")
    assert done.returncode == 0, done.stderr
    for row in (
        rf"1 +│ {FIGURE} +│ [\d.]+",
        rf"2 +│ {FIGURE} +│ [\d.]+",
        r"losses differ by \d\.\de[-+]\d+ at most",
        rf"8 +│ {FIGURE} +│ [\d.]+ +│ [\d.]+ +│ [\d.]+",
    ):
        assert re.search(row, done.stdout), f"{row}\n{done.stdout}"


def test_exported_model_counts_the_sentences_that_are_the_same(
    model_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_text("\n".join([*SENTENCES, ""]), encoding="utf-8", newline="\n")
    script = str(FOLDER / "exported_model.py")
    done = run(script, str(model_folder), str(source), "--beam-size=2")
    assert done.returncode == 0, done.stderr
    for name in ("greedy 1", "beam 2"):
        assert re.search(rf"{name} +│ 8 of 8 +│ [\d.]+ +│ \d+", done.stdout), done.stdout
    assert re.search(r"[\d.]+ MB on the disk, loaded in [\d.]+ s", done.stdout), done.stdout


@pytest.mark.parametrize("attention", ["luong", "none"])
def test_a_search_over_a_stock_model_says_what_the_whole_model_scores_so(
    attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    import keras
    import numpy as np
    import stock_keras

    from seq2seq.config import DecodingConfig, ModelConfig
    from seq2seq.search import Limits, Start, beam_search

    keras.utils.set_random_seed(5)
    sizes = {"embedding_size": 6, "encoder_units": 5, "decoder_units": 10, "encoder_layers": 2}
    config = ModelConfig(**sizes, decoder_layers=2, attention=attention, dropout=0.5)
    model = stock_keras.build(config, source_vocabulary=11, target_vocabulary=9)
    for weight in model.trainable_variables:  # large ones: what is said depends on all that is read
        weight.assign(weight * 3.0)
    searchable = stock_keras.Searchable(model, DecodingConfig(max_length_offset=2))
    source = np.array([[4, 5, 6, 3], [7, 3, 0, 0], [10, 8, 3, 0]], np.int32)
    lengths = np.array([4, 2, 3], np.int32)
    state, memory = searchable.begin(source, lengths)
    found = beam_search(
        searchable.stepper(searchable.layout()),
        Start(np.full(3, 2, np.int32), state, memory),
        Limits(end_id=3, max_length=np.array([10, 6, 8], np.int32)),
        beam_size=4,
        length_penalty=1.0,
        repeat_memory=False,
    )
    for row, beam in itertools.product(range(3), range(4)):
        said = found.ids[row, beam, : found.lengths[row, beam]].numpy()
        read = np.concatenate([[2], said[:-1]])[None]
        one = source[row : row + 1, : lengths[row]]  # alone, so that there is no padding
        logits = model([one, np.ones_like(one, bool), read])[0].numpy().astype(float)
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        expected = log_probs[np.arange(len(said)), said].sum()
        assert found.log_probs[row, beam].numpy() == pytest.approx(expected, abs=1e-4)


def test_equal_time_trains_a_stock_model_for_as_long_and_compares_both(tmp_path: Path) -> None:
    config = write_experiment(tmp_path, training__max_epochs=3)
    trained = run("-m", "seq2seq", "train", str(config), "--output", str(tmp_path / "model"))
    assert trained.returncode == 0, trained.stderr
    metrics, text = tmp_path / "model/metrics.jsonl", str(tmp_path / "words")
    records = [json.loads(line) for line in metrics.read_text().split("\n")[:-1]]
    for number, record in enumerate(records, start=1):  # else half a minute, most of it compiling
        record["seconds"] = 3.0 * number / len(records)
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    options = ["--test", text, "--reference", text, "--points=2", "--rate=1e-30"]
    done = run(str(FOLDER / "equal_time.py"), str(tmp_path / "model"), *options)
    assert done.returncode == 0, done.stderr
    for row in (
        r"ours: \d+ updates in 3 s",
        rf"3 +│ \d+ +│ {NUMBER} +│ {FIGURE} +│ {NUMBER}",
        rf"ours +│ {NUMBER} ± {NUMBER} +│ {NUMBER}",
        rf"stock Keras +│ {NUMBER} ± {NUMBER} +│ {NUMBER}",
        rf"p = {NUMBER} ",
    ):
        assert re.search(row, done.stdout), f"{row}\n{done.stdout}"
    stock = re.findall(r"stock Keras: (\d+) updates loss ([\d.]+)", done.stdout.replace(",", ""))
    (half, loss), (whole, _) = ((int(updates), float(loss)) for updates, loss in stock)
    assert 0 < half < whole
    # At this rate its weights stay as they were: all pieces are about equally likely.
    pieces = Translator.load(tmp_path / "model").tokenizers.target.vocabulary_size
    assert loss == pytest.approx(math.log(pieces), abs=0.05)


def test_no_two_variants_of_the_ablation_are_the_same_experiment() -> None:
    variants = tomllib.loads((FOLDER / "ablation.toml").read_text(encoding="utf-8"))
    config = FOLDER.parent / "configs" / "multi30k_10k_en_de.toml"
    experiments = [load_config(config, changes) for changes in variants.values()]
    assert experiments[0] == load_config(config)
    for one, other in itertools.combinations(experiments, 2):
        assert one != other


@pytest.mark.parametrize(
    ("names", "reference", "message"),
    [
        (["no dropout", "No dropout!"], "words", "variants.toml: expected names that differ in th"),
        (["a", "日本"], "words", "variants.toml: expected names that differ in their letters a to"),
        (["a", "b"], "short", r"short: 2 lines, but .*words has 60"),
    ],
)
def test_ablation_finds_early_what_would_cost_trainings(
    names: list[str], reference: str, message: str, tmp_path: Path
) -> None:
    config, variants = write_experiment(tmp_path), tmp_path / "variants.toml"
    variants.write_text("".join(f'"{name}" = []\n' for name in names), encoding="utf-8")
    (tmp_path / "short").write_text("x\ny\n", encoding="utf-8")
    files = ["--test", str(tmp_path / "words"), "--reference", str(tmp_path / reference)]
    options = [*files, "--output", str(tmp_path / "models")]
    done = run(str(FOLDER / "ablation.py"), str(config), str(variants), *options)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "models").exists()


def test_ablation_finds_a_variant_that_cannot_be_trained_before_it_trains(tmp_path: Path) -> None:
    config, variants, text = write_experiment(tmp_path), tmp_path / "variants.toml", "words"
    variants.write_text('one = []\nother = ["model.dropout=7"]\n', encoding="utf-8")
    files = ["--test", str(tmp_path / text), "--reference", str(tmp_path / text)]
    options = [*files, "--output", str(tmp_path / "models")]
    done = run(str(FOLDER / "ablation.py"), str(config), str(variants), *options)
    assert done.returncode == 1
    assert "model.dropout: got 7" in done.stderr
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("jobs", [1, 2, 1000])
def test_trainings_at_a_time_share_the_cores(jobs: int, tmp_path: Path) -> None:
    config, text = write_experiment(tmp_path), tmp_path / "words"
    variants, command = tmp_path / "variants.toml", tmp_path / "seq2seq" / "__main__.py"
    variants.write_text("one = []\nother = []\n", encoding="utf-8")
    command.parent.mkdir()  # what `python -m seq2seq` finds first: it fails, and tells its share
    (command.parent / "__init__.py").touch()
    names = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"]
    command.write_text(f"import os, sys\nsys.exit(str([os.environ.get(n) for n in {names}]))\n")
    options = ["--test", str(text), "--reference", str(text), "--output", str(tmp_path / "models")]
    script = [str(FOLDER / "ablation.py"), str(config), str(variants), f"--jobs={jobs}", *options]
    free = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, *script], capture_output=True, encoding="utf-8", cwd=tmp_path, env=free
    )
    assert done.returncode == 1, done.stderr
    share = None if jobs == 1 else str(max(1, len(os.sched_getaffinity(0)) // jobs))
    logs = sorted((tmp_path / "models").glob("*.log"))
    assert [log.name for log in logs] == ["one-1.log", "other-1.log"]
    assert {log.read_text().strip() for log in logs} == {str([share, share])}


@pytest.mark.slow
def test_ablation_trains_what_is_left_and_compares_it_with_the_first_variant(
    tmp_path: Path,
) -> None:
    config = write_experiment(tmp_path, training__max_steps=2, training__max_epochs=1)
    text, variants = tmp_path / "words", tmp_path / "variants.toml"
    variants.write_text(
        '"As it is" = []\nbroken = ["model.decoder_units=0"]\nwider = ["model.decoder_units=10"]\n',
        encoding="utf-8",
    )
    options = ["--test", str(text), "--reference", str(text), "--output", str(tmp_path / "models")]
    script = [str(FOLDER / "ablation.py"), str(config), str(variants), *options]
    done = run(*script, "--seeds=1,2", "--jobs=2", "--set=training.max_steps=3")
    assert done.returncode == 1, done.stderr
    assert re.search(r"broken +│ failed: see broken-1\.log", done.stdout), done.stdout
    log = (tmp_path / "models" / "broken-1.log").read_text()
    assert "model.decoder_units: got 0, expected" in log
    score = r"[\d.]+ ± [\d.]+ of 2 seeds"
    assert re.search(rf"As it is +│ {score} +│ {score} +│ +│ \d+", done.stdout), done.stdout
    assert re.search(rf"wider +│ {score} +│ {score} +│ [\d.]+ +│ \d+", done.stdout), done.stdout
    models = sorted(path.name for path in (tmp_path / "models").iterdir() if path.is_dir())
    assert models == ["as-it-is-1", "as-it-is-2", "wider-1", "wider-2"]
    assert load_config(tmp_path / "models/wider-2/config.toml").model.decoder_units == 10
    assert load_best_weights(tmp_path / "models/wider-2")["decoder/output_bias"].any()
    again = run(*script, "--seeds=1", "--set=training.max_steps=3")
    assert again.returncode == 1, again.stderr
    logs = [path.read_text() for path in sorted((tmp_path / "models").glob("*.log"))]
    complete = [log.count("already complete after step 3") for log in logs]
    assert complete == [1, 0, 0, 0, 1, 0]  # as-it-is-1 -2, broken-1 -2, wider-1 -2
    assert re.search(r"As it is +│ [\d.]+ ± [\d.]+ +│", again.stdout), again.stdout
