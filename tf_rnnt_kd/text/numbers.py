"""Numbers in digits -> words, where there is only one way to read them."""

import re

from tf_rnnt_kd.text.errors import TextError

# A whole number between spaces, with punctuation round it that is not read, and no number beside it. A full stop may
# stand at the very end only: elsewhere it makes an ordinal in many languages.
_OPENING, _CLOSING = "\"'«»„“‚‘(\\[¿¡", "\"'«»“”‘)\\],;:!?…"
_WHOLE_NUMBER = re.compile(
    rf"(?<![0-9]\s)(?<![^\s{_OPENING}])(?:0|[1-9][0-9]{{0,8}})(?=[{_CLOSING}]*\s(?![0-9])|[{_CLOSING}.]*$)"
)


def spell_numbers(text: str, *, language: str, ambiguous: str | None) -> str:
    """Replaces whole numbers by their cardinals, for example "5 geese" by "five geese".

    Args:
        text: in Unicode NFKC.
        language: code of the language, which must be one of num2words' where `ambiguous` is given.
        ambiguous: pattern of numbers with several readings; None: all have.

    Raises:
        TextError: "digits", where what is left has a digit.
    """
    if not any(_is_digit(char) for char in text):
        return text
    spelled = " ".join(text.split())
    if ambiguous is not None:
        spelled = _WHOLE_NUMBER.sub(lambda found: _cardinal(found.group(), language, ambiguous), spelled)
    left = [word for word in spelled.split() if any(_is_digit(char) for char in word)]
    if left:
        raise TextError("digits", f"{left[0]!r} can be read in several ways: write it as it was said")
    return spelled


def _cardinal(number: str, language: str, ambiguous: str) -> str:
    from num2words import num2words  # 50 languages: not before there is a digit

    return number if re.fullmatch(ambiguous, number) else num2words(int(number), lang=language)


def _is_digit(char: str) -> bool:
    # `isnumeric` alone would also take the ideographs that are words for numbers.
    return char.isnumeric() and not char.isalpha()
