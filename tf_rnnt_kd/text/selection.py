"""Which vocabulary suits a corpus."""

from collections.abc import Iterable

from tf_rnnt_kd.text.tokenizer import CHARACTERS, SENTENCEPIECE, Tokenizer

AUTO = "auto"
KINDS = (AUTO, SENTENCEPIECE, CHARACTERS)
CLOSED_VOCABULARY = 64


def train_tokenizer(
    texts: Iterable[str], *, kind: str = AUTO, model_type: str | None = None, vocab_size: int = 128
) -> Tokenizer:
    """A tokenizer for normalised `texts`.

    Args:
        texts: transcripts.
        kind: "sentencepiece", "characters", or "auto": SentencePiece, of whole words where the texts have at most 64
            different ones (commands, digits: then the vocabulary is these words), of unigram pieces elsewhere.
        model_type: of SentencePiece; None: "unigram" (or what "auto" finds).
        vocab_size: V with the blank, at most; characters and the words that "auto" finds count themselves.

    Raises:
        ValueError: no text, an unknown kind or model type, a model type for characters, or a size that
            SentencePiece refuses.
    """
    if kind not in KINDS:
        raise ValueError(f"no tokenizer kind {kind!r}, choose one of: {', '.join(KINDS)}")
    if kind == CHARACTERS:
        if model_type:
            raise ValueError(f"model_type={model_type!r} is for SentencePiece; characters have none: leave it out")
        return Tokenizer.train_characters(texts)
    texts = list(texts)
    if kind == AUTO and not model_type:
        words = {word for text in texts for word in text.split()}
        if 0 < len(words) <= CLOSED_VOCABULARY:
            return Tokenizer.train_sentencepiece(texts, vocab_size=len(words) + 1, model_type="word")
    return Tokenizer.train_sentencepiece(texts, vocab_size=vocab_size, model_type=model_type or "unigram")
