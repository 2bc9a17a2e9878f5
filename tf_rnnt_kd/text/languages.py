"""How each language is written in transcripts: a table, one row a language.

A row says which letters there are, what apostrophes and hyphens inside a word become, and which numbers have more than
one reading. `language_profile` turns a text into that form; another language is one more row here.
"""

import dataclasses
import re
import string

_LATIN = string.ascii_lowercase
# Read as pairs of digits ("nineteen eighty-four") where they are years, as cardinals where they count something.
_YEARS = "1[1-9][0-9]{2}|20[0-9]{2}"


@dataclasses.dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        letters: its letters in lower case; others of the same script lose their diacritics.
        apostrophe: what an apostrophe between two letters becomes: itself, or nothing.
        hyphen: what a hyphen between two letters becomes: itself, or a space.
        numbers: None where numbers are inflected, or num2words does not know how they are said: digits are refused.
            Else a pattern of the whole numbers that are read in several ways; all others are spelled out.
        lower, upper: letters whose other case is not Unicode's default.
        spelling: letters written in two ways -> the one that is kept.
    """

    letters: str
    apostrophe: str = "'"
    hyphen: str = " "
    numbers: str | None = None
    lower: dict[str, str] = dataclasses.field(default_factory=dict)
    upper: dict[str, str] = dataclasses.field(default_factory=dict)
    spelling: dict[str, str] = dataclasses.field(default_factory=dict)


_TURKIC_LOWER = {"I": "\N{LATIN SMALL LETTER DOTLESS I}", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}": "i"}
_TURKIC_UPPER = {"i": "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "\N{LATIN SMALL LETTER DOTLESS I}": "I"}

LANGUAGES = {
    "ca": Language(_LATIN + "àçèéíïòóúü·", hyphen="-"),
    "cs": Language(_LATIN + "áčďéěíňóřšťúůýž", apostrophe=""),
    "da": Language(_LATIN + "æøåé"),
    # Unicode's upper case of ß is SS, which does not come back: the capital letter exists.
    "de": Language(_LATIN + "äöüß", numbers=f"1|.*01|{_YEARS}", upper={"ß": "ẞ"}),
    "en": Language(_LATIN, numbers=_YEARS),
    # What ends in one is gendered, and so are the hundreds from two on.
    "es": Language(_LATIN + "áéíñóúü", apostrophe="", numbers=f"(?:.*[^1])?1|.*[2-9].{{2}}|.*[2-9].{{5}}|{_YEARS}"),
    "et": Language(_LATIN + "äõöüšž"),
    "fi": Language(_LATIN + "äåö"),
    "fr": Language(_LATIN + "àâæçéèêëîïôœùûüÿ", hyphen="-", numbers=f"(?:.*[^179])?1|{_YEARS}"),
    "hu": Language(_LATIN + "áéíóöőúüű", apostrophe=""),
    "id": Language(_LATIN, numbers=_YEARS),
    "it": Language(_LATIN + "àèéìíîòóùú", numbers=f"(?:.*[^1])?1|{_YEARS}"),
    "nl": Language(_LATIN + "áàäèéëêíïóöòúüç", numbers=f"1|.*01|{_YEARS}"),
    "no": Language(_LATIN + "æøåéèêóòôü"),
    "pl": Language(_LATIN + "ąćęłńóśźż", apostrophe=""),
    "pt": Language(_LATIN + "áàâãçéêíóôõúü", hyphen="-"),
    # The comma below is the letter, the cedilla what older fonts had in its place.
    "ro": Language(_LATIN + "ăâîșț", hyphen="-", spelling={"ş": "ș", "ţ": "ț"}),
    # Print leaves the dots of ё out more often than not.
    "ru": Language("абвгдежзийклмнопрстуфхцчшщъыьэюя", apostrophe="", hyphen="-", spelling={"ё": "е"}),
    "sk": Language(_LATIN + "áäčďéíĺľňóôŕšťúýž", apostrophe=""),
    "sv": Language(_LATIN + "åäöé"),
    # The apostrophe sets off suffixes of names and is not heard.
    "tr": Language(_LATIN + "çğıöşüâîû", apostrophe="", lower=_TURKIC_LOWER, upper=_TURKIC_UPPER),
    "uk": Language("абвгґдеєжзиіїйклмнопрстуфхцчшщьюя", hyphen="-"),
}

_OTHER_TAGS = {"nb": "no", "nn": "no"}


def language_of(domain: str) -> str | None:
    """The row for a domain that is a language tag ("de", "pt-BR", "nb_NO"), None where there is none."""
    code = re.split("[-_]", domain.strip().lower())[0]
    code = _OTHER_TAGS.get(code, code)
    return code if code in LANGUAGES else None
