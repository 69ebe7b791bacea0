import threading

import numpy as np
import pytest

from seq2seq.decoder import Decoder
from seq2seq.errors import ModelError
from seq2seq.layers import sub_seed, without_initial_values


def new_decoder() -> Decoder:
    decoder = Decoder(9, units=5, embedding_size=4, attention="luong", memory_size=3, seed=2)
    decoder.build()
    return decoder


def test_layers_have_just_the_shapes_of_the_weights_that_follow() -> None:
    shapes = [tuple(weight.shape) for weight in new_decoder().trainable_weights]
    fewer = [shape for shape in shapes if shape != (9, 4)]
    message = r"no weight of shape \[9, 4\] is left for .*embedding"
    with pytest.raises(ModelError, match=message), without_initial_values(fewer):
        new_decoder()
    message = r"1 of them have no place in it, the first of shape \[1099511627776\]"
    with pytest.raises(ModelError, match=message), without_initial_values([*shapes, (1 << 40,)]):
        new_decoder()


def test_weights_whose_values_follow_are_not_made_at_random() -> None:
    shapes = [tuple(weight.shape) for weight in new_decoder().trainable_weights]
    with without_initial_values(shapes):
        decoder = new_decoder()
        other: list[Decoder] = []
        thread = threading.Thread(target=lambda: other.append(new_decoder()))
        thread.start()
        thread.join()
    assert not any(weight.numpy().any() for weight in decoder.trainable_weights)
    expected = {name: each.numpy() for name, each in new_decoder().named_weights().items()}
    assert sum(bool(array.any()) for array in expected.values()) >= 5  # afterwards they are again
    for name, weight in other[0].named_weights().items():  # and in other threads all along
        np.testing.assert_array_equal(weight.numpy(), expected[name])
    decoder.load(expected)
    for name, weight in decoder.named_weights().items():
        np.testing.assert_array_equal(weight.numpy(), expected[name])


def test_parts_have_seeds_of_their_own() -> None:
    seeds = [sub_seed(seed, name) for seed in (1, 2) for name in ("kernel", "bias")]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 1 << 31 for seed in seeds)


def test_a_frozen_layer_has_its_weights_and_takes_others() -> None:
    decoder, other = new_decoder(), new_decoder()
    names = decoder.named_weights().keys()
    decoder.trainable = False
    assert decoder.named_weights().keys() == names
    weights = {name: weight.numpy() + 1 for name, weight in other.named_weights().items()}
    decoder.load(weights)
    for name, weight in decoder.named_weights().items():
        np.testing.assert_array_equal(weight.numpy(), weights[name])
