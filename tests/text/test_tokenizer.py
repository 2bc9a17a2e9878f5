"""Tokenizers against the sentencepiece package and against each other, in Python and in graph."""

import io
import os
import random

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from tf_rnnt_kd.text import Tokenizer, UnknownCharacters
from tf_rnnt_kd.text.pieces import without_native_lines

WORDS = [
    *["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "STOP", "GO", "LEFT", "RIGHT"],
    "DON'T",
    "SEVENTEEN",
    "CAFÉ",
]


def sentences(count=200, *, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 8))) for _ in range(count)]


def make(kind):
    if kind == "characters":
        return Tokenizer.train_characters(sentences())
    return Tokenizer.train_sentencepiece(sentences(), vocab_size=64, model_type=kind)


KINDS = ["characters", "unigram", "bpe", "char", "word"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return make(request.param)


def test_text_survives(tokenizer):
    assert tokenizer.pieces[0] == "<blank>" and len(tokenizer.pieces) == tokenizer.vocab_size
    for text in sentences(20, seed=1):
        ids = tokenizer.encode(text)
        assert ids and 0 not in ids and max(ids) < tokenizer.vocab_size
        assert tokenizer.decode(ids) == text
        assert sum(tokenizer.word_start[ids]) == len(text.split())
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""


def test_graph_is_python(tokenizer):
    texts = [*sentences(20, seed=2), ""]
    expected = [tokenizer.encode(text) for text in texts]
    encode = tf.function(tokenizer.encode_tf, input_signature=[tf.TensorSpec([None], tf.string)])
    ids = encode(tf.constant(texts))
    assert ids.dtype == tf.int32 and ids.to_list() == expected
    in_dataset = tf.data.Dataset.from_tensor_slices(texts).batch(7).map(tokenizer.encode_tf)
    assert [row for batch in in_dataset for row in batch.to_list()] == expected
    decode = tf.function(
        tokenizer.decode_tf, input_signature=[tf.TensorSpec([None, None], tf.int32)] + [tf.TensorSpec([None], tf.int32)]
    )
    # What stands behind num_tokens has no influence.
    padded = ids.to_tensor(default_value=tokenizer.vocab_size - 1)
    decoded = decode(padded, tf.cast(ids.row_lengths(), tf.int32))
    assert [text.decode() for text in decoded.numpy()] == texts


def test_any_ids_decode_alike(tokenizer):
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, tokenizer.vocab_size, [50, 9]).astype(np.int32)
    lengths = rng.integers(0, 10, [50]).astype(np.int32)
    in_graph = [text.decode() for text in tokenizer.decode_tf(tokens, lengths).numpy()]
    assert in_graph == [tokenizer.decode(row[:n]) for row, n in zip(tokens, lengths, strict=True)]


def test_decoding_needs_plain_operations_only(tokenizer):
    graph = tf.function(tokenizer.decode_tf).get_concrete_function(
        tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
    )
    operations = {op.type for op in graph.graph.get_operations()}
    assert operations >= {"ReduceJoin", "StaticRegexReplace"}
    assert not any("entencepiece" in op or "Table" in op for op in operations)


def test_unknown_is_an_error_in_python_and_id_zero_in_graph(tokenizer):
    with pytest.raises(UnknownCharacters) as caught:
        tokenizer.encode("ONE ÆTHER")
    assert all("Æ" in item for item in caught.value.unknown) and caught.value.unknown
    assert "Æ" in str(caught.value) and "ONE" not in caught.value.unknown
    assert 0 in tokenizer.encode_tf(tf.constant(["ONE ÆTHER"])).to_list()[0]


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.hash, again.kind, again.pieces) == (tokenizer.hash, tokenizer.kind, tokenizer.pieces)
    text = sentences(1, seed=4)[0]
    assert again.encode(text) == tokenizer.encode(text)
    np.testing.assert_array_equal(again.word_start, tokenizer.word_start)


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic_and_hashes_differ(kind, tokenizer):
    assert make(kind).hash == make(kind).hash
    other = "char" if kind == "characters" else "characters"
    assert make(other).hash != make(kind).hash


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "word"])
def test_ids_are_those_of_sentencepiece(model_type, tmp_path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()),
        model_writer=model,
        vocab_size=40 if model_type != "word" else 18,
        model_type=model_type,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    plain = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    tokenizer = Tokenizer.from_sentencepiece(model.getvalue())
    for text in sentences(20, seed=5):
        assert tokenizer.encode(text) == plain.encode(text)
        assert tokenizer.decode(plain.encode(text)) == plain.decode(plain.encode(text))


def test_word_vocabulary_is_the_words_and_keeps_long_ones():
    texts = ["DONAUDAMPFSCHIFFFAHRTSGESELLSCHAFT AHOI", "AHOI " * 2000]
    tokenizer = Tokenizer.train_sentencepiece(texts, vocab_size=3, model_type="word")
    assert tokenizer.pieces == ["<blank>", "\u2581AHOI", "\u2581DONAUDAMPFSCHIFFFAHRTSGESELLSCHAFT"]


def test_foreign_models_are_refused():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()), model_writer=model, vocab_size=40, model_type="bpe", minloglevel=2
    )
    with pytest.raises(ValueError, match="control symbols"):
        Tokenizer.from_sentencepiece(model.getvalue())
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        Tokenizer.from_sentencepiece(b"garbage")


def test_bad_requests_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="labelled"):
        Tokenizer.train_characters([" ", ""])
    with pytest.raises(ValueError, match="labelled"):
        Tokenizer.train_sentencepiece([], vocab_size=10)
    with pytest.raises(ValueError, match="choose one of"):
        Tokenizer.train_sentencepiece(["A"], vocab_size=10, model_type="phone")
    with pytest.raises(ValueError, match="vocab_size=3"):
        Tokenizer.train_sentencepiece(sentences(), vocab_size=3)
    with pytest.raises(ValueError, match="train_tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(ValueError, match=r"0\.\."):
        Tokenizer.train_characters(["AB"]).decode([9])


def test_a_changed_folder_is_noticed(tmp_path):
    Tokenizer.train_characters(["ABC"]).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace('"B"', '"X"'))
    with pytest.raises(ValueError, match="was changed"):
        Tokenizer.load(tmp_path)


def test_only_the_useless_line_of_native_code_is_kept_off_stderr(capfd):
    make("unigram").encode_tf(tf.constant(["ONE"]))
    assert "precompiled_charsmap" not in capfd.readouterr().err
    with pytest.raises(ValueError), without_native_lines(b"useless"):
        os.write(2, b"a useless line\nan important one\n")
        raise ValueError
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "an important one\nlater\n"
