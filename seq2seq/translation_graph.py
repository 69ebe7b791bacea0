"""A translator as one graph, tokenizers included: strings in, strings and scores out.

The search is the translator's own. What the translator does around it in Python is done here by
TensorFlow's and tensorflow-text's operations, with the same result for every string.

Shapes: B texts, R texts of one batch, S source length.
"""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_text

from seq2seq.decoding import CompiledSearch, Layouts, SearchInputs, SearchKind
from seq2seq.lines import LINE_BREAKING
from seq2seq.search_options import SearchOptions
from seq2seq.tokenizer import SPACE, Tokenizer
from seq2seq.translator import Translator

_BLANK = r"[\t-\r\x1c-\x1f\x{85}\p{Z}]*"  # what `str.strip` leaves nothing of


class Translated(NamedTuple):
    """What a signature returns.

    Attributes:
        text: `[B]` string, the best translation of each text, always one line.
        score: `[B]` float32, what it is ranked by; 0 for blank texts.
    """

    text: tf.Tensor
    score: tf.Tensor


class TranslationGraph(tf.Module):
    """What `Translator.translate` does with given options, for `tf.saved_model.save`.

    Attributes:
        functions: The signatures by name, each from `texts` `[B]`, which may be none,
            to the fields of `Translated`.
    """

    def __init__(self, translator: Translator, searches: dict[str, SearchOptions]) -> None:
        """
        Args:
            translator: With one model.
            searches: The options of each signature; of those of the search itself, beam size,
                length penalty and lengths are heeded.
        """
        super().__init__()
        tokenizers = translator.tokenizers
        self._end_id = tokenizers.source.eos_id
        self._most_pieces = translator.most_source_pieces
        self._source = _GraphTokenizer(tokenizers.source)
        self._target = self._source if tokenizers.joint else _GraphTokenizer(tokenizers.target)
        layouts = Layouts(translator.models)
        compiled = {
            name: CompiledSearch(
                layouts,
                tokenizers.target,
                SearchKind(sampled=False, beam_size=options.beam_size, n_best=1),
            )
            for name, options in searches.items()
        }
        # Saved so: a call would else transpose all weights of the decoder again.
        self._layouts = tf.nest.map_structure(
            lambda weight: tf.Variable(weight, trainable=False), layouts.decoders
        )
        self.functions = {
            name: self._signature(compiled[name], options) for name, options in searches.items()
        }
        # Whatever the graphs read is saved with them, and no more.
        self._weights = [each.variables for each in self.functions.values()]

    def _signature(
        self, search: CompiledSearch, options: SearchOptions
    ) -> tf.types.experimental.ConcreteFunction:
        # By number of pieces, so that the rounding is the translator's.
        max_lengths = [options.most_pieces(pieces) for pieces in range(self._most_pieces + 1)]

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, name="texts")], autograph=False
        )
        def translate(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._translated(texts, search, options, tf.constant(max_lengths))._asdict()

        return translate.get_concrete_function()

    def _translated(
        self,
        texts: tf.Tensor,
        search: CompiledSearch,
        options: SearchOptions,
        max_lengths: tf.Tensor,
    ) -> Translated:
        """The translations of `[B]` texts: longest first, as many at a time as the options say."""
        source, pieces = self._source_ids(tf.ensure_shape(texts, [None]))
        longest_first = tf.argsort(pieces, direction="DESCENDING", stable=True)
        rows = longest_first[: tf.math.count_nonzero(pieces, dtype=tf.int32)]

        def some(done: tf.Tensor, found: Translated) -> tuple[tf.Tensor, Translated]:
            most = options.batch_tokens // (pieces[rows[done]] + 1)
            batch = rows[done:][: tf.clip_by_value(most, 1, options.batch_size)]
            translated = self._batch(
                tf.gather(source, batch), tf.gather(pieces, batch), search, options, max_lengths
            )
            found = tf.nest.map_structure(
                lambda every, some: tf.tensor_scatter_nd_update(every, batch[:, None], some),
                found,
                translated,
            )
            return done + tf.size(batch), found

        nothing = Translated(tf.zeros_like(texts), tf.zeros(tf.shape(texts)))
        _, found = tf.while_loop(
            lambda done, _: done < tf.size(rows), some, (tf.constant(0), nothing)
        )
        return found

    def _batch(
        self,
        source: tf.Tensor,
        pieces: tf.Tensor,
        search: CompiledSearch,
        options: SearchOptions,
        max_lengths: tf.Tensor,
    ) -> Translated:
        """Of source ids `[R, S]` with so many real `pieces` `[R]`."""
        nothing = tf.zeros_like(pieces)
        number = tf.constant(0.0)
        inputs = SearchInputs(
            source=source[:, : tf.reduce_max(pieces) + 1],
            source_lengths=pieces + 1,
            max_lengths=tf.gather(max_lengths, pieces),
            min_lengths=nothing,
            prefixes=nothing[:, None],
            constraints=nothing[:, None, None],
            numbers=tf.cast(nothing, tf.int64),
            length_penalty=tf.constant(options.length_penalty),
            coverage_penalty=number,
            repetition_penalty=number,
            temperature=number,
            top_p=number,
            seed=tf.constant(0, tf.int64),
        )
        found = search.function(inputs, self._layouts)
        return Translated(self._target.texts(found.ids[:, 0]), found.scores[:, 0])

    def _source_ids(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Ids `[B, S]`, cut to the model's greatest length, the end id after them; pieces `[B]`."""
        # Not UTF-8: U+FFFD in the place of what cannot be read, lest one text fails a whole batch.
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        blank = tf.strings.regex_full_match(texts, _BLANK)
        ids = self._source.ids(texts)
        pieces = tf.minimum(tf.cast(ids.row_lengths(), tf.int32), self._most_pieces)
        padded = ids[:, : self._most_pieces].to_tensor(self._end_id)
        ended = tf.pad(padded, [[0, 0], [0, 1]], constant_values=self._end_id)
        return ended, tf.where(blank, 0, pieces)


class _GraphTokenizer(tf.Module):
    """A `Tokenizer` in a graph."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._end_id = tokenizer.eos_id
        self._processor = tensorflow_text.SentencepieceTokenizer(tokenizer.model, tf.int32)

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """`Tokenizer.encode` of `[B]` strings."""
        return self._processor.tokenize(tf.strings.regex_replace(texts, LINE_BREAKING, " "))

    def texts(self, ids: tf.Tensor) -> tf.Tensor:
        """`Tokenizer.decode` of `[R, T]` ids, end ids passed over."""
        texts = self._processor.detokenize(tf.ragged.boolean_mask(ids, ids != self._end_id))
        texts = tf.strings.regex_replace(texts, f"^{SPACE}", "")
        texts = tf.strings.regex_replace(texts, SPACE, " ")
        return tf.strings.regex_replace(texts, LINE_BREAKING, " ")
