"""Compiled searches and forced decoding against the model's own logits, one id after another."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from search_oracles import log_softmax

from seq2seq.config import ModelConfig
from seq2seq.decoding import CompiledForced, CompiledSearch, Layouts, SearchInputs, SearchKind
from seq2seq.errors import UsageError
from seq2seq.limits import FREE
from seq2seq.models import TranslationModel, build_model

VOCABULARY, MOST = 14, 5
IDS: Any = SimpleNamespace(pad_id=0, bos_id=1, eos_id=2, unk_id=3)
SOURCE = np.array([[4, 5, 6, 2], [7, 2, 2, 2], [8, 8, 2, 2]], np.int32)
LENGTHS = np.array([4, 2, 3], np.int32)


def model_of(seed: int, attention: str = "luong") -> TranslationModel:
    config = ModelConfig(
        embedding_size=3,
        encoder_layers=1,
        encoder_units=2,
        decoder_layers=1,
        decoder_units=5,
        attention=attention,
    )
    model = build_model(
        config, source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY, seed=seed
    )
    random = np.random.default_rng(seed)
    for _, weight in sorted(model.named_weights().items()):
        weight.assign(random.normal(0, 1.5, weight.shape))
    return model


def inputs(**changes: Any) -> SearchInputs:
    values: dict[str, Any] = {
        "source": SOURCE,
        "source_lengths": LENGTHS,
        "max_lengths": np.full(3, MOST, np.int32),
        "min_lengths": np.zeros(3, np.int32),
        "prefixes": np.zeros((3, 0), np.int32),
        "constraints": np.zeros((3, 0, 0), np.int32),
        "numbers": np.arange(3),
        "length_penalty": np.float32(0.8),
        "coverage_penalty": np.float32(0.0),
        "repetition_penalty": np.float32(1.0),
        "temperature": np.float32(1.0),
        "top_p": np.float32(1.0),
        "seed": np.int64(5),
        **changes,
    }
    return SearchInputs(**values)


def log_probs_of(model: TranslationModel, row: int, ids: list[int]) -> np.ndarray:
    """The log-probability of each id of one translation, its sentence alone in the batch."""
    source = SOURCE[row : row + 1, : LENGTHS[row]]
    read = np.array([[IDS.bos_id, *ids[:-1]]], np.int32)
    logits, _ = model.attend(source, LENGTHS[row : row + 1], read)
    return log_softmax(logits.numpy()[0])[np.arange(len(ids)), ids]


KINDS = {
    "greedy": SearchKind(sampled=False, beam_size=1, n_best=1),
    "beam": SearchKind(sampled=False, beam_size=4, n_best=3),
    "power": SearchKind(sampled=False, beam_size=4, n_best=3, length_formula="power"),
    "sample": SearchKind(sampled=True, beam_size=1, n_best=1, top_k=4),
    "limited": SearchKind(
        sampled=False,
        beam_size=3,
        n_best=3,
        forbidden_ids=(4, 5),
        no_repeat_ngram=1,
        has_least_length=True,
        has_prefix=True,
    ),
    "constrained": SearchKind(sampled=False, beam_size=3, n_best=3, has_constraints=True),
}


@pytest.mark.parametrize("attention", ["luong", "none"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_what_is_found_has_the_models_probability_and_rank(
    kind: SearchKind, attention: str
) -> None:
    model = model_of(1, attention)
    prefixes = np.array([[6], [FREE], [5]], np.int32)
    least = np.array([4, 0, 5], np.int32)
    constraints = np.array(
        [[[9, 8], [7, -1]], [[-1, -1], [-1, -1]], [[11, 11], [-1, -1]]], np.int32
    )
    found = CompiledSearch(Layouts([model]), IDS, kind)(
        inputs(prefixes=prefixes, min_lengths=least, constraints=constraints)
    )
    ids, lengths, log_probs, scores = (part.numpy() for part in found)
    assert (lengths > 0).all()
    for row, k in np.ndindex(lengths.shape):
        said = ids[row, k, : lengths[row, k]].tolist()
        assert said[-1] == IDS.eos_id or len(said) == MOST
        assert not {IDS.pad_id, IDS.bos_id, IDS.unk_id} & {*said}
        assert log_probs[row, k] == pytest.approx(log_probs_of(model, row, said).sum(), abs=1e-4)
        length = len(said) if kind.length_formula == "power" else (5 + len(said)) / 6
        assert scores[row, k] == pytest.approx(log_probs[row, k] / length**0.8, abs=1e-5)
        if kind is KINDS["limited"]:
            assert len(said) >= least[row]
            assert len({*said}) == len(said)
            assert 4 not in said
            assert (said[0] == prefixes[row, 0]) if row != 1 else 5 not in said
        if kind is KINDS["constrained"]:
            words = "".join(f" {token}" for token in said) + " "
            assert all(each in words for each in ([" 9 8 ", " 7 "], [], [" 11 11 "])[row])
    assert (np.diff(scores, axis=1) <= 0).all()


def test_samples_are_those_of_their_numbers() -> None:
    search = CompiledSearch(Layouts([model_of(1)]), IDS, KINDS["sample"])
    order = [2, 0, 1]
    whole = search(inputs())
    moved = search(
        inputs(source=SOURCE[order], source_lengths=LENGTHS[order], numbers=np.array(order))
    )
    lengths = whole.lengths.numpy()
    for place, row in enumerate(order):
        assert moved.lengths[place, 0] == lengths[row, 0]
        length = lengths[row, 0]
        assert (moved.ids[place, 0, :length] == whole.ids[row, 0, :length]).numpy().all()


def test_a_search_takes_up_weights_when_it_is_told_to() -> None:
    model = model_of(1)
    layouts = Layouts([model])
    search, changed = CompiledSearch(layouts, IDS, KINDS["greedy"]), inputs()
    before = search(changed)
    model.load({name: each.numpy() for name, each in model_of(2).named_weights().items()})
    layouts.lay_out()
    expected = CompiledSearch(Layouts([model_of(2)]), IDS, KINDS["greedy"])(changed)
    for old, new, wanted in zip(before, search(changed), expected, strict=True):
        np.testing.assert_allclose(new, wanted, rtol=1e-5)
        assert old.shape != new.shape or (old != new).numpy().any()


def test_nothing_is_compiled_anew_for_the_shape_of_a_batch() -> None:
    model = model_of(1)
    for compiled in (
        CompiledSearch(Layouts([model]), IDS, KINDS["beam"]),
        CompiledForced([model], 1),
    ):
        graph = compiled.function.get_concrete_function().graph.as_graph_def()
        assert graph.library.function
        assert not any(each.attr["_XlaMustCompile"].b for each in graph.library.function)


def test_coverage_is_what_forced_attention_leaves_out() -> None:
    models = [model_of(1), model_of(2)]
    kind = SearchKind(sampled=False, beam_size=4, n_best=4, covers=True)
    found = CompiledSearch(Layouts(models), IDS, kind)(inputs(coverage_penalty=np.float32(0.3)))
    forced = [CompiledForced([model], IDS.bos_id) for model in models]
    for k in range(4):
        ids, lengths = found.ids[:, k], found.lengths[:, k]
        lost = []
        for each in forced:
            attention = each(SOURCE, LENGTHS, ids, lengths).attention.numpy()
            attended = [
                attention[row, : lengths[row], : LENGTHS[row]].sum(axis=0) for row in range(3)
            ]
            lost.append([0.3 * np.log(np.minimum(each, 1)).sum() for each in attended])
        divided = found.log_probs[:, k] / ((5 + lengths.numpy()) / 6) ** 0.8
        np.testing.assert_allclose(found.scores[:, k], divided + np.mean(lost, axis=0), rtol=1e-4)


def test_coverage_needs_attention() -> None:
    kind = SearchKind(sampled=False, beam_size=4, n_best=4, covers=True)
    with pytest.raises(UsageError, match=r"coverage penalty: the model has no attention \(model"):
        CompiledSearch(Layouts([model_of(1, "none")]), IDS, kind)


@pytest.mark.parametrize("attention", ["luong", "none"])
def test_forced_decoding_tells_each_id_and_nothing_past_the_end(attention: str) -> None:
    model = model_of(1, attention)
    target = np.array([[4, 5, 2], [2, 2, 2], [6, 2, 7]], np.int32)
    forced = CompiledForced([model], IDS.bos_id)(SOURCE, LENGTHS, target, np.array([3, 1, 2]))
    for row, length in enumerate((3, 1, 2)):
        expected = log_probs_of(model, row, target[row, :length].tolist())
        np.testing.assert_allclose(forced.log_probs[row, :length], expected, atol=1e-5)
        assert not forced.log_probs[row, length:].numpy().any()
    if attention == "none":
        assert forced.attention is None
        return
    real = np.arange(4) < LENGTHS[:, None]
    np.testing.assert_allclose(np.sum(forced.attention, axis=2), 1.0, rtol=1e-5)
    assert not (forced.attention.numpy() * ~real[:, None]).any()


def test_forced_decoding_by_several_models_is_the_mean() -> None:
    models = [model_of(1), model_of(2)]
    target, lengths = np.array([[4, 5, 2]] * 3, np.int32), np.array([3, 3, 3])
    both = CompiledForced(models, IDS.bos_id)(SOURCE, LENGTHS, target, lengths)
    alone = [
        CompiledForced([each], IDS.bos_id)(SOURCE, LENGTHS, target, lengths) for each in models
    ]
    mean = np.mean([np.exp(each.log_probs) for each in alone], axis=0)
    np.testing.assert_allclose(np.exp(both.log_probs), mean, rtol=1e-5)
    attention = np.mean([each.attention for each in alone], axis=0)
    np.testing.assert_allclose(both.attention, attention, atol=1e-6)
