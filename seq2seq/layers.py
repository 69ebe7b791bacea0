"""A Keras layer that casts only where its code says so, and seeds for its parts."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np

from seq2seq.errors import ModelError

_values_follow: ContextVar[bool] = ContextVar("_values_follow", default=False)


@contextmanager
def values_follow() -> Iterator[None]:
    """Layers built within it have zero weights: for those whose weights are loaded at once.

    Random orthogonal matrices take longer to make than all weights to read.
    """
    token = _values_follow.set(True)
    try:
        yield
    finally:
        _values_follow.reset(token)


class ExplicitLayer(keras.layers.Layer):
    """A Keras layer without automatic casts of its inputs and weights.

    Under a mixed policy Keras casts every float to the compute dtype on entry. Here cell states,
    biases, softmax and gradients of weights stay float32, and each product casts its operands.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)

    def add_weight(self, **kwargs: Any) -> keras.Variable:
        """A float32 weight that reads as float32 in every scope; arguments as in Keras."""
        if _values_follow.get():
            kwargs["initializer"] = "zeros"
        return super().add_weight(autocast=False, **kwargs)

    def named_weights(self) -> dict[str, keras.Variable]:
        """Every weight by its path inside the layer, such as `encoder/layer_0_forward/kernel`."""
        return {weight.path.partition("/")[2]: weight for weight in self.trainable_weights}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Sets every weight.

        Raises:
            ModelError: A weight is missing, unknown, or of another shape; all are named.
        """
        own = self.named_weights()
        faults = [f"missing {name}" for name in sorted(own.keys() - weights.keys())]
        faults += [f"unexpected {name}" for name in sorted(weights.keys() - own.keys())]
        faults += [
            f"{name} is {list(weights[name].shape)}, expected {list(own[name].shape)}"
            for name in sorted(own.keys() & weights.keys())
            if tuple(weights[name].shape) != tuple(own[name].shape)
        ]
        if faults:
            raise ModelError("weights do not fit the model's configuration: " + "; ".join(faults))
        for name, weight in own.items():
            weight.assign(weights[name])


def sub_seed(seed: int, name: str) -> int:
    """The seed of the part `name` of what `seed` decides: 31 bits, unlike those of other parts."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
