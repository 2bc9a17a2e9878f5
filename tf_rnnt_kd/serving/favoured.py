"""What the n-best search of an export favours beside the model: a language model, and phrases, each from a file."""

import pathlib

from tf_rnnt_kd.decoding import NgramLanguageModel, PhraseBias
from tf_rnnt_kd.text import UnknownCharacters, normalise


def scorers_from_files(tokenizer, *, lm=None, lm_weight=0.3, phrases=None, phrase_bonus=1.0):
    """Scorers of a BeamSearch.

    Args:
      tokenizer: of the model.
      lm: an ARPA file over its pieces, see read_arpa; None: no language model. lm_weight: of its log-probabilities.
      phrases: a file with a phrase on each line; None: none. phrase_bonus: natural-log units for each of their tokens.

    Raises:
      ValueError: a file cannot be read, or holds what the tokenizer lacks.
    """
    scorers = []
    if lm:
        scorers.append(NgramLanguageModel.from_arpa(lm, pieces=tokenizer.pieces, weight=lm_weight))
    if phrases:
        tokens = read_phrases(phrases, tokenizer=tokenizer)
        scorers.append(PhraseBias.from_token_lists(tokens, vocab_size=tokenizer.vocab_size, bonus=phrase_bonus))
    return tuple(scorers)


def read_phrases(path, *, tokenizer):
    """Tokens of each line of a file, normalised; empty lines are passed over.

    Raises:
      ValueError: the file is missing or empty, or a line has characters that the tokenizer lacks.
    """
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--phrases={path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(tokenizer.encode(normalise(line)))
        except UnknownCharacters as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    if not found:
        raise ValueError(f"--phrases={path} holds no phrase: write one on each line")
    return found
