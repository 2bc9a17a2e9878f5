"""Which vocabulary is chosen for which texts."""

import pytest

from tf_rnnt_kd.text import train_tokenizer

NUMBERS = ["ONE TWO THREE", "TWO FOUR", "THREE ONE ONE"] * 5
OPEN = [f"{left}{right} {right}ING" for left in ("PLAY", "SING", "WALK", "READ") for right in "ABCDEFGHIJKLMNOPQRSTU"]


def test_few_words_become_the_vocabulary():
    tokenizer = train_tokenizer(NUMBERS)
    assert sorted(tokenizer.pieces[1:]) == ["▁FOUR", "▁ONE", "▁THREE", "▁TWO"]


def test_many_words_are_cut_into_pieces():
    tokenizer = train_tokenizer(OPEN, vocab_size=60)
    assert tokenizer.kind == "sentencepiece" and 10 < tokenizer.vocab_size <= 60
    assert any(not start for start in tokenizer.word_start[1:])


def test_what_is_asked_for_is_done():
    assert train_tokenizer(NUMBERS, kind="characters").pieces[:3] == ["<blank>", "▁", "E"]
    assert train_tokenizer(NUMBERS, kind="auto", model_type="char").vocab_size == 11
    assert train_tokenizer(NUMBERS, kind="sentencepiece", vocab_size=16).vocab_size <= 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kind": "phones"}, "choose one of"), ({"kind": "characters", "model_type": "bpe"}, "leave it out")],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(NUMBERS, **arguments)
