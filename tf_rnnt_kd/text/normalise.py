"""One spelling for every transcript, before it is tokenised or scored."""

import unicodedata

from tf_rnnt_kd.text.language_profile import spoken_form
from tf_rnnt_kd.text.languages import LANGUAGES

PROFILES = ("upper", "words", "verbatim", *LANGUAGES)


def normalise(text: str, *, profile: str = "upper") -> str:
    """Brings a transcript into the form that tokenizers and scoring expect.

    Args:
        text: a transcript.
        profile: "upper": Unicode NFKC, upper case; "words": the same, and all that is neither letter, digit, mark nor
            an apostrophe inside a word becomes a space (for transcripts with punctuation); "verbatim": spelling as it
            is; a language's code: upper-case words in that language's letters, see `text.languages`. All of them
            collapse white space and strip the ends; what comes out goes through unchanged.

    Raises:
        ValueError: no such profile.
        TextError: the profile of a language cannot tell what was said; it has a `reason`.
    """
    if profile not in PROFILES:
        raise ValueError(f"no normalisation profile {profile!r}, choose one of: {', '.join(PROFILES)}")
    if profile in LANGUAGES:
        return spoken_form(text, language=profile)
    if profile != "verbatim":
        # Twice: upper-casing can take a string out of NFKC.
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).upper())
    if profile == "words":
        text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        kept = "".join(char if char == "'" or unicodedata.category(char)[0] in "LNM" else " " for char in text)
        text = " ".join(word.strip("'") for word in kept.split())
    return " ".join(text.split())
