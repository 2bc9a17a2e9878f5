"""What the SavedModel's signatures return, against the Python model's parts put together by hand."""

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(params=["teacher", "student"])
def served(request):
    return request.getfixturevalue(request.param)


def run(served, name, **arguments):
    return {key: value.numpy() for key, value in served.signatures[name](**arguments).items()}


def python_decode(served, waveform):
    """One utterance [S]: (tokens, frames, confidences, log-prob of the path), node by node from the Keras model."""
    model = served.model
    features, num_frames = served.frontend(waveform[None], [len(waveform)])
    encoded, lengths = model.encode(features, num_frames)
    context, tokens, frames, confidences, total = model.predictor_start(1), [], [], [], 0.0
    for t in range(int(lengths[0])):
        for emitted in range(3):
            logits = model.joint_logits(encoded[0, t], model.predictor_project(context)[0]).numpy().astype(np.float64)
            log_probs = logits - np.log(np.sum(np.exp(logits)))
            best = 0 if emitted == 2 else int(np.argmax(log_probs))
            total += log_probs[best]
            if best == 0:
                break
            tokens.append(best)
            frames.append(t)
            confidences.append(np.exp(log_probs[best]))
            context = model.predictor_advance(context, tf.constant([best]))
    return tokens, frames, confidences, total


def numpy_full_sum(encoded, predicted, kernel, bias, tokens):
    """log P(tokens | audio) by the forward recursion in float64, from projections [T, H] and [U+1, H]."""
    logits = np.tanh(encoded[:, None].astype(np.float64) + predicted[None].astype(np.float64)) @ kernel + bias
    log_probs = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    num_frames, num_nodes = log_probs.shape[:2]
    alpha = np.full([num_frames, num_nodes], -np.inf)
    for t in range(num_frames):
        for u in range(num_nodes):
            ways = [0.0] if t == u == 0 else []
            ways += [alpha[t - 1, u] + log_probs[t - 1, u, 0]] if t else []
            ways += [alpha[t, u - 1] + log_probs[t, u - 1, tokens[u - 1]]] if u else []
            alpha[t, u] = np.logaddexp.reduce(ways)
    return alpha[-1, -1] + log_probs[-1, -1, 0]


def test_text_equals_a_decoder_in_python(served, audio):
    waveforms, num_samples = audio
    result = run(served, "serving_default", waveforms=waveforms, num_samples=num_samples)
    texts = set()
    for b, count in enumerate(num_samples):
        tokens, frames, confidences, log_prob = python_decode(served, waveforms[b, :count])
        assert len(tokens) >= 3, "too few tokens to prove anything: change the weights in conftest.py"
        assert result["tokens"][b, : result["num_tokens"][b]].tolist() == tokens
        assert result["token_frames"][b, : len(tokens)].tolist() == frames
        np.testing.assert_allclose(result["token_confidence"][b, : len(tokens)], confidences, atol=1e-4)
        np.testing.assert_allclose(result["log_prob"][b], log_prob, atol=1e-3, rtol=1e-5)
        text = result["text"][b].decode()
        assert text == served.tokenizer.decode(tokens)
        words = [word.decode() for word in result["words"][b, : result["num_words"][b]]]
        assert " ".join(words) == text
        assert np.all(np.diff(result["word_end_seconds"][b, : len(words)]) >= 0)
        assert result["word_end_seconds"][b, : len(words)].max(initial=0) <= np.ceil(count / 1280) * 0.08 + 1e-6
        texts.add(text)
    assert len(texts) == len(num_samples)


def test_n_best_hypotheses_differ_and_have_their_exact_probability(served, audio):
    waveforms, num_samples = audio
    result = run(served, "nbest", waveforms=waveforms, num_samples=num_samples)
    one_best = run(served, "teacher", waveforms=waveforms, num_samples=num_samples)
    assert result["tokens"].shape[1] == 4
    better = 0
    for b, count in enumerate(result["num_hypotheses"]):
        found = [tuple(result["tokens"][b, n, : result["num_tokens"][b, n]]) for n in range(count)]
        assert len(set(found)) == count > 1
        assert np.all(np.diff(result["log_prob"][b, :count]) <= 0)
        for n, tokens in enumerate(found):
            scored = run(
                served, "score", waveforms=waveforms[b : b + 1], num_samples=num_samples[b : b + 1],
                tokens=np.array([tokens], np.int32).reshape(1, -1), num_tokens=np.array([len(tokens)], np.int32),
            )  # fmt: skip
            np.testing.assert_allclose(result["log_prob"][b, n], scored["log_prob"][0], rtol=1e-4, atol=1e-3)
            assert result["text"][b, n].decode() == served.tokenizer.decode(list(tokens))
        better += result["log_prob"][b, 0] > one_best["full_sum_log_prob"][b] + 1e-3
    # Not in each of them: under these random weights all search is luck.
    assert better, "the beam never found more than the greedy search: this proves nothing about it"


def test_phrases_given_at_run_time_are_worth_their_bonus(served, audio):
    audio = {"waveforms": audio[0], "num_samples": audio[1]}
    plain = run(served, "nbest", **audio)
    assert np.array_equal(plain["score"], plain["log_prob"])
    # Of the second utterance's second hypothesis, its first two tokens.
    phrase = plain["tokens"][1, 1, :2]
    biased = run(
        served, "nbest_biased", **audio, phrases=np.array([phrase, [0, 9]], np.int32),
        num_phrase_tokens=np.array([2, 0], np.int32),
    )  # fmt: skip
    for b, count in enumerate(biased["num_hypotheses"]):
        assert np.all(np.diff(biased["score"][b, :count]) <= 0)
        for n in range(count):
            tokens = biased["tokens"][b, n, : biased["num_tokens"][b, n]].tolist()
            found = sum(tokens[i : i + 2] == phrase.tolist() for i in range(len(tokens) - 1))
            expected = biased["log_prob"][b, n] + served.recognizer.phrase_bonus * 2 * found
            np.testing.assert_allclose(biased["score"][b, n], expected, rtol=1e-5, atol=1e-4)
    assert np.any(biased["score"] > biased["log_prob"] + 1)
    nothing = {"phrases": np.zeros([0, 0], np.int32), "num_phrase_tokens": np.zeros([0], np.int32)}
    none = run(served, "nbest_biased", **audio, **nothing)
    np.testing.assert_array_equal(none["tokens"], plain["tokens"])
    np.testing.assert_allclose(none["score"], plain["score"], rtol=1e-6)


def test_hidden_layers_are_those_that_the_projection_sees(served, audio):
    waveforms, num_samples = audio
    result = run(served, "hidden", waveforms=waveforms, num_samples=num_samples)
    teacher = run(served, "teacher", waveforms=waveforms, num_samples=num_samples)
    np.testing.assert_array_equal(result["num_frames"], teacher["num_frames"])
    assert {name: x.shape[-1] for name, x in result.items() if name != "num_frames"} == {"block_0": 16, "block_1": 16}
    dense = served.model.encoder_projection
    projected = result["block_1"] @ dense.kernel.numpy() + dense.bias.numpy()
    for b, frames in enumerate(result["num_frames"]):
        np.testing.assert_allclose(
            projected[b, :frames], teacher["encoder_projection"][b, :frames], rtol=1e-3, atol=1e-3
        )
        assert not np.any(result["block_0"][b, frames:])


def test_teacher_gives_a_lattice_that_sums_to_its_full_sum(served, audio):
    waveforms, num_samples = audio
    result = run(served, "teacher", waveforms=waveforms, num_samples=num_samples)
    joint = run(served, "joint")
    np.testing.assert_array_equal(result["num_frames"], -(-num_samples // 1280))
    for b, (frames, count) in enumerate(zip(result["num_frames"], result["num_tokens"], strict=True)):
        encoded, predicted = result["encoder_projection"][b], result["predictor_projection"][b]
        assert not np.any(encoded[frames:])
        assert not np.any(predicted[count + 1 :])
        expected = numpy_full_sum(
            encoded[:frames], predicted[: count + 1], joint["kernel"], joint["bias"], result["tokens"][b, :count]
        )
        np.testing.assert_allclose(result["full_sum_log_prob"][b], expected, atol=1e-3, rtol=1e-5)
        # One alignment is a part of all of them.
        assert result["log_prob"][b] <= result["full_sum_log_prob"][b] + 1e-4


def test_teacher_forced_and_score_take_any_tokens(served, audio):
    waveforms, num_samples = audio
    audio = {"waveforms": waveforms, "num_samples": num_samples}
    tokens = np.array([[2, 1, 4], [3, 99, 99], [99, 99, 99]], np.int32)
    count = np.array([3, 1, 0], np.int32)
    forced = run(served, "teacher_forced", **audio, tokens=tokens, num_tokens=count)
    joint = run(served, "joint")
    for b in range(3):
        frames = forced["num_frames"][b]
        expected = numpy_full_sum(
            forced["encoder_projection"][b, :frames],
            forced["predictor_projection"][b, : count[b] + 1],
            joint["kernel"],
            joint["bias"],
            tokens[b],
        )
        np.testing.assert_allclose(forced["full_sum_log_prob"][b], expected, atol=1e-3, rtol=1e-5)
    scored = run(served, "score", **audio, tokens=tokens, num_tokens=count)
    np.testing.assert_array_equal(scored["log_prob"], forced["full_sum_log_prob"])
    own = run(served, "teacher", **audio)
    again = run(served, "teacher_forced", **audio, tokens=own["tokens"], num_tokens=own["num_tokens"])
    for name, value in again.items():
        np.testing.assert_allclose(value, own[name], atol=1e-4, rtol=1e-5)


def test_padding_and_neighbours_change_nothing(served, audio):
    waveforms, num_samples = audio
    together = run(served, "teacher", waveforms=waveforms, num_samples=num_samples)
    longer = np.pad(waveforms, [[0, 0], [0, 3_333]], constant_values=np.nan)
    padded = run(served, "teacher", waveforms=longer, num_samples=num_samples)
    for b, count in enumerate(num_samples):
        alone = run(served, "teacher", waveforms=waveforms[b : b + 1, :count], num_samples=num_samples[b : b + 1])
        for other, row in ((padded, b), (alone, 0)):
            assert other["text"][row] == together["text"][b]
            for name in ("log_prob", "full_sum_log_prob"):
                np.testing.assert_allclose(other[name][row], together[name][b], atol=1e-3, rtol=1e-5)
            for name in ("tokens", "token_frames", "token_confidence", "word_end_seconds", "encoder_projection"):
                left, right = other[name][row], together[name][b]
                size = min(len(left), len(right))
                np.testing.assert_allclose(left[:size], right[:size], atol=1e-4)
                assert not np.any(left[size:])
                assert not np.any(right[size:])


@pytest.mark.parametrize("width", [0, 1, 159, 2_000])
def test_less_than_a_hop_gives_no_text_and_no_nan(served, width):
    waveforms = np.full([2, width], np.nan, np.float32)
    waveforms[:, :159] = 0.5
    num_samples = np.array([0, min(width, 159)], np.int32)
    result = run(served, "teacher", waveforms=waveforms, num_samples=num_samples)
    assert result["text"].tolist() == [b"", b""]
    for name in ("num_tokens", "num_words", "num_frames", "log_prob", "full_sum_log_prob"):
        np.testing.assert_array_equal(result[name], [0, 0])
    for name, value in result.items():
        assert value.dtype == object or np.all(np.isfinite(value)), name
    scored = run(
        served, "score", waveforms=waveforms, num_samples=num_samples, tokens=[[1], [1]], num_tokens=[0, 1]
    )
    assert scored["log_prob"][0] == 0
    assert scored["log_prob"][1] < -1e29


def test_only_models_that_stream_have_stream_signatures(teacher, student):
    whole = {
        "serving_default", "teacher", "teacher_forced", "score", "nbest", "nbest_biased", "hidden", "joint",
    }  # fmt: skip
    assert set(teacher.signatures) == whole
    assert set(student.signatures) == whole | {"stream_init", "stream_step", "stream_finalize", "stream_ids"}


def test_the_graph_holds_no_custom_operation(served):
    """All operations are in TensorFlow's own library, and none runs Python or reads a file."""
    text = (served.path / "saved_model.pb").read_bytes()
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel.FromString(text).meta_graphs[0].graph_def
    operations = {node.op for node in graph.node}
    operations |= {node.op for function in graph.library.function for node in function.node_def}
    functions = {function.signature.name for function in graph.library.function}
    foreign = {op for op in operations - functions if any(s in op for s in ("PyFunc", "IO>", "Sentencepiece", "Text>"))}
    assert not foreign
    assert {"RFFT", "While", "UnsortedSegmentJoin"} & {op.removeprefix("Stateless") for op in operations}
