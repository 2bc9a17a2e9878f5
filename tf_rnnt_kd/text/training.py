"""Training of SentencePiece models, so that the same texts give the same bytes."""

import io
from collections.abc import Iterable

import sentencepiece

MODEL_TYPES = ("unigram", "bpe", "char", "word")


def train_sentencepiece_model(texts: Iterable[str], *, vocab_size: int, model_type: str) -> bytes:
    """Serialised SentencePiece model of at most `vocab_size` pieces; id 0 is the unknown symbol, no control symbols.

    Raises:
        ValueError: no text, an unknown model type, or a `vocab_size` that SentencePiece refuses (its reason follows).
    """
    if model_type not in MODEL_TYPES:
        raise ValueError(f"no SentencePiece model type {model_type!r}, choose one of: {', '.join(MODEL_TYPES)}")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError("no text to train a tokenizer on: are these splits labelled?")
    longest_word = max(len(word) for text in texts for word in text.split())
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            model_type=model_type,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            normalization_rule_name="identity",
            character_coverage=1.0,
            # Defaults that would drop long lines and long words without an error.
            max_sentence_length=max(4192, 1 + max(len(text.encode()) for text in texts)),
            max_sentencepiece_length=max(16, longest_word + 1) if model_type == "word" else 16,
            num_threads=1,  # the sums of the EM algorithm depend on the number of threads
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2].strip() or str(error)
        raise ValueError(f"SentencePiece refused vocab_size={vocab_size}, model_type={model_type}: {reason}") from error
    return model.getvalue()
