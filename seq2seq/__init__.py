"""An LSTM translation toolkit for TensorFlow: raw parallel text in, a translator out.

    text --tokenizer--> ids --encoder--> memory, (h, C)
         --decoder.step + search--> ids --tokenizer--> text

The modules in reading order. Those marked * need TensorFlow; no other imports it.

    errors        what users can cause, and the exit code of each
    config        the TOML file of an experiment; the only place where a default lives
    tokenizer     text to ids and back
    corpus        the line reader, the checks of parallel text, ids on disk
    batches       which sentence pairs make a batch, and in which order
    runtime     * TensorFlow, started quietly on the device asked for
    lstm        * the LSTM layer: whole sequences and single steps
    encoder     * source ids to the memory that attention reads and the final (h, C)
    attention   * where the decoder looks in that memory
    decoder     * target ids to logits: whole sequences (teacher forcing) and single steps
    models      * encoder, bridge and decoder as one translation model; knows ids, not text
    loss        * cross-entropy that never holds all logits
    search      * greedy, sampling and beam search over any step; knows no model
    training    * updates, validation, early stopping
    checkpoint    weights and training state that exist whole or not at all
    evaluation    BLEU, chrF and TER with signatures
    translator    strings in, strings out (starts TensorFlow when a model is loaded)
    inspection    what a model folder holds
    journal       an output that a killed run leaves half done and a later one goes on with
    cli           the command line

    from seq2seq import Translator

    translator = Translator.load("runs/multi30k")
    print(translator.translate(["A dog runs."])[0].text)
"""

import os
from typing import TYPE_CHECKING, Any

# Keras reads this once, when it is first imported; a user's own choice is left alone.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if TYPE_CHECKING:
    from seq2seq.translator import Hypothesis, Sampling, Translation, Translator

    __version__: str

__all__ = ["Hypothesis", "Sampling", "Translation", "Translator", "__version__"]


def __getattr__(name: str) -> Any:
    """The exported names, imported when they are first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lstm-seq2seq")
    if name in __all__:
        from seq2seq import translator

        return getattr(translator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
