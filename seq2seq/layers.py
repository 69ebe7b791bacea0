"""A Keras layer that casts only where its code says so, and seeds for its parts."""

import hashlib
from typing import Any

import keras


class ExplicitLayer(keras.layers.Layer):
    """A Keras layer without automatic casts of its inputs and weights.

    Under a mixed policy Keras casts every float to the compute dtype on entry. Here cell states,
    biases, softmax and gradients of weights stay float32, and each product casts its operands.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)

    def add_weight(self, **kwargs: Any) -> keras.Variable:
        """A float32 weight that reads as float32 in every scope; arguments as in Keras."""
        return super().add_weight(autocast=False, **kwargs)


def sub_seed(seed: int, name: str) -> int:
    """The seed of the part `name` of what `seed` decides: 31 bits, unlike those of other parts."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
