"""An LSTM translation toolkit for TensorFlow: raw parallel text in, a translator out.

    text --tokenizer--> ids --encoder--> memory, (h, C)
         --decoder.step + search--> ids --tokenizer--> text

The modules in reading order: each uses none but those above it. Those marked * import TensorFlow.

    errors            what users can cause, and the exit code of each
    config            what an experiment is: its keys; the only place where its defaults live
    durable_files     files and folders that are there whole or not at all, and have one writer
    model_files       what the files of a model folder are called; looked at before they are read
    config_file       an experiment's TOML file: read, checked as a whole, written
    lines             the reader of every text file
    console           what commands tell on stderr: messages, progress
    streams           what the command line reads and writes
    pairs             the checks of parallel text
    tokenizer         text to ids and back
    array_folder      arrays on disk, all of them or none
    corpus            ids of sentence pairs on disk
    read_ahead        the items of an iterator, made by a thread before they are asked for
    batches           which sentence pairs make a batch, and in which order
    subword_sampling  the words of a batch in other pieces
    text_tokenizer    text to ids and back for language models, every character kept
    text_corpus       the parts of a text, their ids on disk, windows that follow on
    runtime           TensorFlow, started quietly on the device asked for
    precision         what the hardware multiplies: float32, or bfloat16
    worker_place      which of the training workers this process is, by its options or TF_CONFIG
    side_by_side      independent pieces of work at the same time, results in order
    layers          * what all layers have in common
    dropout         * masks that are a function of a seed
    lstm            * the LSTM layer: whole sequences and single steps
    encoder         * source ids to the memory that attention reads and the final (h, C)
    attention       * where the decoder looks in that memory
    decoder         * target ids to logits: whole sequences (teacher forcing) and single steps
    loss            * cross-entropy that never holds all logits
    models          * encoder, bridge and decoder as one translation model; knows ids, not text
    checkpoint        weights and training state that exist whole or not at all
    search_options    how to search: checked as a whole
    limits          * where decoding ends, what a hypothesis may and must say
    constraints     * what a hypothesis must contain
    selection       * the best columns of many rows, and columns drawn at random
    search_loop     * steps until every sentence is done
    continuations   * the ids that hypotheses may go on with
    beams           * hypotheses that still grow, and those that are complete
    search          * greedy, sampling and beam search over any step; knows no model
    decoding        * a model's searches and forced decoding, compiled
    text_decoding   * a language model's passes over text, compiled
    translation       what a translator returns: hypotheses, scores, alignment
    sentences         texts on their way to the model: checked, as ids, in batches
    forced_decoding   what models make of given translations
    translator        strings in, translations out (starts TensorFlow when a model is loaded)
    evaluation        BLEU, chrF and TER with signatures
    generator         a language model: text written, and scored
    objectives      * what an update minimises, for each task
    schedules         the learning rate of each update
    workers         * the processes and devices that share an update
    updates         * one update of the weights
    validation      * loss and BLEU of the validation set
    reporting       * what training tells: display, metrics.jsonl, TensorBoard
    experiment      * what the training loop must know of a task
    translation_experiment * training a translator: its data, model and scores
    language_model_experiment * training a language model
    signals           SIGINT and SIGTERM, which end what is being done in good order
    new_model         a model folder of weights that were found elsewhere
    fine_tuning       training that begins with another model's weights
    training_folder   a model folder made ready for training: new, resumed or overwritten
    training_records * what happened in a training, as records for metrics.jsonl
    training_loop   * updates, validation, early stopping, checkpoints
    training        * from a configuration to a model folder
    averaging         the mean of a model's newest checkpoints
    translation_graph * a translator and its tokenizers as one graph: strings in, strings out
    export            that graph as a SavedModel, verified and published whole
    comparison        whether one system is better than another
    breakdown         scores by length and by sentence
    figures           figures by matplotlib, which is an extra
    report            an evaluation as text, JSON or a page
    journal           an output that a killed run leaves half done and a later one resumes
    output_formats    translations as lines of output
    file_translation  files and streams through a translator
    file_evaluation   files in, scores out
    cluster           files through a translator on many machines
    attention_plot    where the model looked, as a picture
    inspection        what a model folder holds
    demo_corpus       two small languages, made by rule
    demo              the whole way on a corpus of its own
    failures          what a command tells when it fails, and its exit code
    cli               the command line

    from seq2seq import Translator

    translator = Translator.load("runs/multi30k")
    print(translator.translate(["A dog runs."])[0].text)
"""

import os
from typing import TYPE_CHECKING, Any

# Keras reads this once, when it is first imported; a user's own choice is left alone.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if TYPE_CHECKING:
    from seq2seq.generator import LanguageModel
    from seq2seq.translator import Hypothesis, Sampling, Translation, Translator

    __version__: str

__all__ = ["Hypothesis", "LanguageModel", "Sampling", "Translation", "Translator", "__version__"]


def __getattr__(name: str) -> Any:
    """The exported names, imported when they are first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lstm-seq2seq")
    if name == "LanguageModel":
        from seq2seq.generator import LanguageModel

        return LanguageModel
    if name in __all__:
        from seq2seq import translator

        return getattr(translator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
