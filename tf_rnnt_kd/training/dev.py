"""Word error rate on the dev split, during training."""

from collections.abc import Callable

import jiwer
import tensorflow as tf

from tf_rnnt_kd.text import normalise


class DevEvaluator:
    """Decodes a fixed dataset greedily and gives its word error rate.

    Args:
      model: a Transducer. batches: from `records.reader.evaluation_batches`. search: a GreedySearch.
    """

    def __init__(self, model, *, batches, tokenizer, search):
        self._batches = batches
        self._tokenizer = tokenizer
        self._references = None

        @tf.function(reduce_retracing=True, autograph=False)
        def decode(features, num_frames):
            encoded, lengths = model.encode(features, num_frames)
            result = search(model, encoded, lengths)
            return result.tokens, result.num_tokens

        self._decode = decode

    def word_error_rate(
        self, *, is_stopped: Callable[[], bool] = lambda: False
    ) -> tuple[float, list[tuple[str, str]]] | None:
        """(WER, a few pairs of reference and hypothesis); None if `is_stopped` said so before it was through."""
        references, hypotheses = [], []
        for batch in self._batches:
            if is_stopped():
                return None
            tokens, counts = self._decode(batch["features"], batch["num_frames"])
            references += [normalise(text.decode()) for text in batch["text"].numpy()]
            hypotheses += [
                self._tokenizer.decode(row[:count].tolist())
                for row, count in zip(tokens.numpy(), counts.numpy(), strict=True)
            ]
        if not any(references):
            raise ValueError("the dev records carry no transcripts: name a labelled split with --dev")
        pairs = [pair for pair in zip(references, hypotheses, strict=True) if pair[0]]
        return jiwer.wer([pair[0] for pair in pairs], [pair[1] for pair in pairs]), pairs[:5]
