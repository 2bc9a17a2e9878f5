"""A text as it is spoken, in the letters of one language: the language profiles of `normalise`."""

import re
import unicodedata

from tf_rnnt_kd.text.errors import TextError
from tf_rnnt_kd.text.languages import LANGUAGES, Language
from tf_rnnt_kd.text.numbers import spell_numbers

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u0060\u00b4\uff07", "'"))
_HYPHENS = str.maketrans(dict.fromkeys("\u2010\u2011", "-"))
# Punctuation that is spoken, like all symbols (Unicode's categories S*).
_SPOKEN = frozenset("%&@#§‰*\\")
# Latin letters that Unicode does not take apart.
_BASE = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}


def spoken_form(text: str, *, language: str) -> str:
    """Upper-case words of `language`'s letters, single spaces between them.

    Punctuation becomes a space, numbers with one reading become words, foreign diacritics go.

    Raises:
        TextError: "digits", "symbols" or "foreign_letters": it is not certain what was said.
    """
    rules = LANGUAGES[language]
    # Before NFKC, which takes the acute accent apart into a space and a combining one.
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).translate(_APOSTROPHES).translate(_HYPHENS)
    text = spell_numbers(text, language=language, ambiguous=rules.numbers)
    text = "".join(rules.lower.get(char, char) for char in text).lower()
    text = "".join(_kept(char, rules) for char in unicodedata.normalize("NFC", text))
    text = re.sub("['-]{2,}", " ", text).replace("-", rules.hyphen)
    words = (word.strip("'-·") for word in text.split())
    text = " ".join(word.replace("'", rules.apostrophe) for word in words if word)
    return "".join(rules.upper.get(char, char) for char in text).upper()


def _kept(char: str, rules: Language) -> str:
    """What a lower-case character becomes: letters, an apostrophe, a hyphen, a space or nothing."""
    char = rules.spelling.get(char, char)
    if char in rules.letters or char in "'-":
        return char
    category = unicodedata.category(char)
    if category[0] == "S" or char in _SPOKEN:
        raise TextError("symbols", f"{char!r} ({unicodedata.name(char, 'no name')}): write it as it was said")
    if category in ("Cf", "Mn"):  # soft hyphens and the like; accents that make no letter of this language
        return ""
    if category[0] != "L":
        return " "
    base = _BASE.get(char) or "".join(
        part for part in unicodedata.normalize("NFD", char) if unicodedata.category(part) != "Mn"
    )
    base = "".join(rules.spelling.get(part, part) for part in base)
    if not set(base) <= set(rules.letters):
        raise TextError("foreign_letters", f"{char!r} ({unicodedata.name(char, 'no name')})")
    return base
