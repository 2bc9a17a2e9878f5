"""Artifacts of a whole record, written and read back."""

import numpy as np
import pytest

from tf_rnnt_kd.records import codecs, encode_distillation, features, parse_example, schema


def record(parts):
    utterance = schema.Utterance("u", np.zeros(4, np.float32), None, "s", "dev")
    teacher = schema.TeacherLabels([1], "A", -1.0, 3, [0], [0.5], [0.5])
    return encode_distillation(schema.encode_utterance(utterance), teacher=teacher, artifacts=parts)


def nbest(log_prob=(-1.0, -2.5, -4.0)):
    tokens = (np.array([3, 1]), np.array([], np.int64), np.array([2]))
    return features.NBest(tokens, np.array(log_prob, np.float32), ("TWO É", "", "ONE"))


def test_hypotheses_come_back_in_order_an_empty_one_too():
    parsed = parse_example(record(features.nbest_features(nbest())))
    assert list(parsed["nbest/tokens"].int64_list.value) == [3, 1, 2]
    assert list(parsed["nbest/num_tokens"].int64_list.value) == [2, 0, 1]
    back = features.decode_nbest(parsed)
    assert [tokens.tolist() for tokens in back.tokens] == [[3, 1], [], [2]]
    assert back.text == ("TWO É", "", "ONE")
    assert back.log_prob.tolist() == [-1.0, -2.5, -4.0]
    assert features.decode_nbest(parse_example(record({}))) is None
    none = parse_example(record(features.nbest_features(features.NBest((), np.array([]), ()))))
    assert features.decode_nbest(none) is None or features.decode_nbest(none).tokens == ()


def test_hypotheses_out_of_order_or_without_a_score_are_refused():
    for wrong in ((-2.0, -1.0, -3.0), (-1.0, -2.0, np.nan), (-1.0, -2.0)):
        with pytest.raises(ValueError, match="3 hypotheses need as many texts and finite log-probs, best first"):
            features.nbest_features(nbest(wrong))


@pytest.mark.parametrize("kind", features.FACTORED_TYPES)
def test_projections_come_back_in_either_type(kind):
    random = np.random.default_rng(0)
    pair = [random.normal(size=[rows, 16]).astype(np.float32) for rows in (20, 4)]
    parsed = parse_example(record(features.factored_features(*pair, factored_type=kind)))
    assert ("factored/encoder_scale" in parsed) == (kind == "int8")
    for stored, exact in zip(features.decode_factored(parsed), pair, strict=True):
        assert stored.shape == exact.shape
        bound = 2.0**-8 * np.abs(exact) if kind == "bfloat16" else np.abs(exact).max(1, keepdims=True) / 253
        assert (np.abs(stored - exact) <= bound).all()
        assert (stored != exact).any()


def test_hidden_layers_have_a_feature_each():
    random = np.random.default_rng(1)
    layers = {"block_1": random.normal(size=[5, 3]), "blocks/2": random.normal(size=[5, 4])}
    parsed = parse_example(record(features.hidden_features(layers)))
    for name, exact in layers.items():
        shape = tuple(parsed[f"hidden/{name}_shape"].int64_list.value)
        assert shape == exact.shape
        stored = codecs.decode_bfloat16(parsed[f"hidden/{name}"].bytes_list.value[0], shape=shape)
        np.testing.assert_allclose(stored, exact, rtol=2**-8)
    with pytest.raises(ValueError, match="non-finite"):
        features.hidden_features({"block_1": np.full([2, 2], np.inf)})
