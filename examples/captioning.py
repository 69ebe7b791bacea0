"""Captions for images: this project's decoder and searches inside a Keras model of one's own.

    python examples/captioning.py

The images are made here: 16 x 16 pixels with one to three coloured shapes, captioned in reading
order, such as "red square left of blue cross above green circle". Convolutions turn an image into
a grid of 4 x 4 regions, which reach the decoder both ways that it has:

    regions --flattened, dense--> (h, C) of every layer: the state it starts from
    regions --as a sequence-----> the memory that its attention looks at with every word

It is trained by `compile` and `fit`, on logits under teacher forcing, and then captions images it
has not seen by greedy and beam search. Takes a minute or so on two cores.

Shapes: B images, T words, V vocabulary, D features of a region, H units of the decoder.
"""

import keras
import numpy as np
import tensorflow as tf

from seq2seq.decoder import Decoder, shift_right
from seq2seq.search import Limits, Start, beam_search, greedy_search

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}
Y, X = np.mgrid[-3:4, -3:4]
SHAPES = {
    "square": abs(X) <= 3,
    "circle": X**2 + Y**2 <= 10,
    "cross": (X == 0) | (Y == 0),
    "triangle": 2 * abs(X) <= Y + 3,
}
WORDS = ["<padding>", "<begin>", "<end>", *COLOURS, *SHAPES, "left", "of", "above"]
PADDING, BEGIN, END = range(3)
BATCH = 32
LONGEST = 3 * 2 + 2 * 2 + 1  # three shapes of two words, "left of" between them, the end
LIMITS = Limits(end_id=END, max_length=LONGEST, forbidden_ids=(PADDING, BEGIN))


def make_examples(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `[B, 16, 16, 3]`, and captions `[B, T]` int32: ids, the end id, then padding."""
    random = np.random.default_rng(seed)
    images = random.uniform(0.0, 0.2, size=(count, 16, 16, 3)).astype(np.float32)
    captions = np.full((count, LONGEST), PADDING, np.int32)
    for image, caption in zip(images, captions, strict=True):
        quarters = sorted(random.permutation(4)[: random.integers(1, 4)])  # 0 1 above 2 3
        words: list[str] = []
        for before, quarter in zip([None, *quarters], quarters, strict=False):
            colour, shape = list(COLOURS)[random.integers(4)], list(SHAPES)[random.integers(4)]
            top, left = 8 * np.array(divmod(quarter, 2)) + random.integers(0, 2, size=2)
            image[top : top + 7, left : left + 7][SHAPES[shape]] += 0.7 * np.array(COLOURS[colour])
            if before is not None:
                words += ["left", "of"] if before // 2 == quarter // 2 else ["above"]
            words += [colour, shape]
        caption[: len(words) + 1] = [*map(WORDS.index, words), END]
    return images, captions


def texts(captions: np.ndarray) -> list[str]:
    """The words of captions `[B, T]`, without end and padding."""
    return [" ".join(WORDS[i] for i in caption if i not in (PADDING, END)) for caption in captions]


class Captioner(keras.Model):
    """Convolutions that look at an image, and a decoder that says what is on it."""

    def __init__(self, *, units: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.look = keras.Sequential(
            [
                keras.layers.Conv2D(32, 5, strides=2, padding="same", activation="relu"),
                keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
                keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
                keras.layers.Reshape((16, 64)),
            ]
        )
        self.bridge = keras.Sequential(
            [keras.layers.Flatten(), keras.layers.Dense(layers * 2 * units)]
        )
        self.decoder = Decoder(
            len(WORDS),
            units=units,
            layers=layers,
            embedding_size=32,
            attention="luong",
            memory_size=64,
        )

    def begin(self, images: tf.Tensor) -> Start:
        """What the decoder starts from, given images `[B, 16, 16, 3]`."""
        regions = self.look(images)  # [B, 16, D]
        parts = tf.split(self.bridge(regions), 2 * len(self.decoder.stack), axis=1)  # each [B, H]
        return Start(
            ids=tf.fill([tf.shape(images)[0]], BEGIN),
            state=self.decoder.state(zip(parts[0::2], parts[1::2], strict=True)),
            memory=self.decoder.memory(regions),
        )

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Teacher forcing: logits `[B, T, V]` of each word, given the image and those before it."""
        images, captions = inputs
        start = self.begin(images)
        read = shift_right(captions, BEGIN)
        logits, _ = self.decoder(read, start.state, start.memory, training=training)
        return logits


def train(images: np.ndarray, captions: np.ndarray, *, epochs: int) -> Captioner:
    """A captioner trained on `images`, the same for the same random seed of Keras."""
    captioner = Captioner()
    # For a vocabulary of many thousands write a `train_step`: the logits are the largest tensor,
    # and `seq2seq.loss.cross_entropy` of `decoder.token_features` never holds all of them.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=PADDING)
    updates = epochs * -(-len(images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, updates)
    captioner.compile(keras.optimizers.Adam(rate), loss)
    captioner.fit((images, captions), captions, batch_size=BATCH, epochs=epochs, verbose=2)
    return captioner


def main() -> None:
    """Trains, captions images that were not trained on, and prints how many captions are right."""
    keras.utils.set_random_seed(1)
    captioner = train(*make_examples(3200, seed=1), epochs=5)

    images, captions = make_examples(500, seed=2)
    start, step, wanted = captioner.begin(images), captioner.decoder.stepper(), texts(captions)
    greedy = greedy_search(step, start, LIMITS)
    beam = beam_search(step, start, LIMITS, beam_size=4, length_penalty=0.0)
    for name, found in [("greedy", greedy), ("beam 4", beam)]:
        exact = np.array(texts(found.ids[:, 0].numpy())) == wanted
        print(f"{name}: {exact.mean():.1%} of {len(exact)} captions exact")
    for row in range(3):
        print(f"\n{wanted[row]}?")
        for said, log_prob in zip(texts(beam.ids[row].numpy()), beam.log_probs[row], strict=True):
            print(f"  {np.exp(log_prob):.4f} {said}")


if __name__ == "__main__":
    main()
