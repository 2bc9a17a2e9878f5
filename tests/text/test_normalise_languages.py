"""Profiles of languages, on texts whose spoken form was written by hand."""

import pickle
import unicodedata

import pytest
from num2words import num2words

from tf_rnnt_kd.text import LANGUAGES, TextError, language_of, normalise


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Don’t stop — ‘now’; twenty-five cafés!", "DON'T STOP NOW TWENTY FIVE CAFES"),
        ("en", "the dogs' 42 bones... he had 7.", "THE DOGS FORTY TWO BONES HE HAD SEVEN"),
        ("en", "Łódź, naïve", "LODZ NAIVE"),
        ("en", "so\u00adft \u200bspace\u00a0here", "SOFT SPACE HERE"),
        ("en", "...", ""),
        ("de", "Die Straße ist 5 Meter lang, ÖL", "DIE STRAẞE IST FÜNF METER LANG ÖL"),
        ("de", "O\u0308l-Bild", "ÖL BILD"),
        ("tr", "İstanbul'da ILIK ısı iç", "İSTANBULDA ILIK ISI İÇ"),
        ("fr", "L’est-ce que j'ai 42 œufs, aujourd'hui", "L'EST-CE QUE J'AI QUARANTE-DEUX ŒUFS AUJOURD'HUI"),
        ("fr", "71 ans", "SOIXANTE ET ONZE ANS"),
        ("es", "¿Tienes 35 años?", "TIENES TREINTA Y CINCO AÑOS"),
        ("pt", "disse-lhe: olá - sim", "DISSE-LHE OLÁ SIM"),
        ("nl", "één coördinatie, 42", "ÉÉN COÖRDINATIE TWEEËNVEERTIG"),
        ("pl", "Już żółw", "JUŻ ŻÓŁW"),
        ("ro", "Ştiinţă", "ȘTIINȚĂ"),
        ("ru", "Кто-то сказа\u0301л: ещё", "КТО-ТО СКАЗАЛ ЕЩЕ"),
        ("uk", "П'ять м’ячів", "П'ЯТЬ М'ЯЧІВ"),
        ("ca", "col·legi d'estiu", "COL·LEGI D'ESTIU"),
    ],
)  # fmt: skip
def test_spoken_forms(language, text, expected):
    assert normalise(text, profile=language) == unicodedata.normalize("NFC", expected)


@pytest.mark.parametrize(
    ("language", "text", "reason"),
    [
        ("en", "in 1984", "digits"),
        ("en", "the 21st", "digits"),
        ("en", "3.5 m", "digits"),
        ("en", "at 12:30", "digits"),
        ("en", "1,000", "digits"),
        ("en", "10 000", "digits"),
        ("en", "5, 6", "digits"),
        ("en", "007", "digits"),
        ("en", "½ cup", "digits"),
        ("en", "٣", "digits"),
        ("en", "MP3", "digits"),
        ("de", "am 5. Mai", "digits"),
        ("de", "1 Haus", "digits"),
        ("fr", "21 ans", "digits"),
        ("es", "200 casas", "digits"),
        ("ru", "5 лет", "digits"),
        ("en", "R&D", "symbols"),
        ("en", "50 % off", "symbols"),
        ("en", "€", "symbols"),
        ("en", "Привет", "foreign_letters"),
        ("ru", "hello", "foreign_letters"),
        ("de", "日本", "foreign_letters"),
    ],
)
def test_what_could_be_read_in_several_ways_is_refused(language, text, reason):
    with pytest.raises(TextError) as caught:
        normalise(text, profile=language)
    assert caught.value.reason == reason


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_all_letters_survive_and_come_out_as_they_go_in(language):
    rules = LANGUAGES[language]
    letters = [letter for letter in rules.letters if letter != "·"]
    once = normalise(" ".join(letters), profile=language)
    assert len(once.split()) == len(letters)
    assert once == once.upper()
    assert normalise(once, profile=language) == once
    # Evaluation spells both sides with the default profile: it must change nothing.
    assert normalise(once) == once
    assert len(set(once.split())) == len(letters)


@pytest.mark.parametrize("language", [code for code, rules in LANGUAGES.items() if rules.numbers is not None])
def test_numbers_are_those_of_num2words(language):
    spelled = refused = 0
    for number in range(0, 3000, 7):
        try:
            words = normalise(f"a {number} b", profile=language)
        except TextError as error:
            assert error.reason == "digits"
            refused += 1
            continue
        spelled += 1
        expected = num2words(number, lang=language).replace(",", "").replace("-", LANGUAGES[language].hyphen)
        assert words == f"A {expected.replace('ß', 'ẞ').upper()} B"
    assert spelled > 20
    assert refused > 20


def test_domains_are_language_tags():
    languages = {"de": "de", "pt-BR": "pt", "EN_us": "en", "nb-NO": "no", " fr ": "fr"}
    assert {domain: language_of(domain) for domain in languages} == languages
    assert [language_of(domain) for domain in ("", "tlh", "telephone")] == [None, None, None]


def test_errors_survive_a_process_boundary():
    error = pickle.loads(pickle.dumps(TextError("digits", "in 1984")))
    assert (error.reason, str(error)) == ("digits", "in 1984")
    with pytest.raises(ValueError, match="not a known reason"):
        TextError("numbers", "x")
