"""A Keras layer that casts only where its code says so, and seeds for its parts."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np

from seq2seq.errors import ModelError

_MISFIT = "weights do not fit the model's configuration"
_shapes_left: ContextVar[Counter[tuple[int, ...]] | None] = ContextVar("_shapes_left", default=None)


@contextmanager
def without_initial_values(shapes: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """Layers built within it have zero weights: for those whose weights are loaded at once.

    Random orthogonal matrices take longer to make than all weights to read. And no layer can ask
    for more memory than the weights that are there take, whatever its configuration says.

    Args:
        shapes: Of the weights that will be loaded.

    Raises:
        ModelError: The layers do not have just these shapes.
    """
    token = _shapes_left.set(left := Counter(shapes))
    try:
        yield
    finally:
        _shapes_left.reset(token)
    if unused := list(left.elements()):
        raise ModelError(
            f"{_MISFIT}: {len(unused)} of them have no place in it, the first of shape "
            f"{list(unused[0])}"
        )


def _take(name: str, shape: tuple[int, ...], left: Counter[tuple[int, ...]]) -> None:
    if not left[shape]:
        raise ModelError(f"{_MISFIT}: no weight of shape {list(shape)} is left for {name}")
    left[shape] -= 1


class ExplicitLayer(keras.layers.Layer):
    """A Keras layer without automatic casts of its inputs and weights.

    Under a mixed policy Keras casts every float to the compute dtype on entry. Here cell states,
    biases, softmax and gradients of weights stay float32, and each product casts its operands.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)

    def add_weight(self, **kwargs: Any) -> keras.Variable:
        """A float32 weight that reads as float32 in every scope; arguments as in Keras."""
        left = _shapes_left.get()
        if left is not None:
            _take(f"{self.name}/{kwargs['name']}", tuple(kwargs["shape"]), left)
            kwargs["initializer"] = "zeros"
        return super().add_weight(autocast=False, **kwargs)

    def named_weights(self) -> dict[str, keras.Variable]:
        """Every weight by its path inside the layer, such as `encoder/layer_0_forward/kernel`."""
        return {weight.path.partition("/")[2]: weight for weight in self.weights}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """`assign_weights` of this layer's own."""
        assign_weights(self.named_weights(), weights)


def assign_weights(own: Mapping[str, keras.Variable], weights: Mapping[str, np.ndarray]) -> None:
    """Sets each variable of `own` to the array of its name.

    Raises:
        ModelError: A weight is missing, unknown, or of another shape; all are named.
    """
    faults = [f"missing {name}" for name in sorted(own.keys() - weights.keys())]
    faults += [f"unexpected {name}" for name in sorted(weights.keys() - own.keys())]
    faults += [
        f"{name} is {list(weights[name].shape)}, expected {list(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if tuple(weights[name].shape) != tuple(own[name].shape)
    ]
    if faults:
        raise ModelError(f"{_MISFIT}: {'; '.join(faults)}")
    for name, weight in own.items():
        weight.assign(weights[name])


def sub_seed(seed: int, name: str) -> int:
    """The seed of the part `name` of what `seed` decides: 31 bits, unlike those of other parts."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
