"""A model folder of weights that were found elsewhere: tokenizer, configuration, one checkpoint.

Its checkpoint has no optimizer's state, so training resumes from it at step 0 only.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from seq2seq.checkpoint import Checkpoint, save_checkpoint
from seq2seq.config import AnyConfig, LanguageModelConfig
from seq2seq.config_file import dump_config
from seq2seq.durable_files import write_whole
from seq2seq.model_files import CONFIG_FILE, TOKENIZER_FOLDER
from seq2seq.text_tokenizer import TextTokenizer, load_text_tokenizer
from seq2seq.tokenizer import TokenizerPair

AnyTokenizer = TokenizerPair | TextTokenizer


def load_any_tokenizer(model: Path, config: AnyConfig) -> AnyTokenizer:
    """What is in the `tokenizer` folder of a model of either kind.

    Raises:
        StorageError: It cannot be read.
        ModelError: There is none, or it is damaged.
    """
    if isinstance(config, LanguageModelConfig):
        return load_text_tokenizer(model / TOKENIZER_FOLDER)
    return TokenizerPair.load(model / TOKENIZER_FOLDER)


def write_new_model(
    folder: Path,
    config: AnyConfig,
    *,
    tokenizer: AnyTokenizer,
    weights: Mapping[str, np.ndarray],
    step: int,
) -> None:
    """Makes `folder`, which holds no model, a model folder with one checkpoint, of `step`.

    Raises:
        StorageError: It cannot be written.
    """
    tokenizer.save(folder / TOKENIZER_FOLDER)
    save_checkpoint(folder, Checkpoint(step, weights, optimizer={}, state={"best": {}}))
    write_whole(folder / CONFIG_FILE, dump_config(config))
