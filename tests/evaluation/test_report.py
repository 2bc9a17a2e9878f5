"""The report from made-up results: what stands in it is what was put in, and it needs nothing else."""

import base64
import html.parser
import json

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.evaluation import figures, occupancy, report
from tf_rnnt_kd.evaluation.corpus import Corpus
from tf_rnnt_kd.evaluation.results import score
from tf_rnnt_kd.evaluation.systems import Hypothesis, Speed
from tf_rnnt_kd.records.schema import Utterance

_DATASET = {
    "splits": {"train-unlabeled": {"shards": [{"file": "secret"}], "utterances": 9, "hours": 0.5, "labelled": False}},
    "counts": {"input": 12, "written": 9, "rejected": 3},
    "rejected": {"empty_hypothesis": 3},
    "teacher": {"model_id": "abc"},
    "artifacts": {"collapsed": {"bytes": 1_000_000, "bytes_per_hour": 2_000_000}},
    "statistics": {
        "confidence": {"edges": [0.0, 0.5, 1.0], "utterances": [2, 7]},
        "log_prob_per_token": {"edges": [-5.0, -1.0, 0.0], "utterances": [1, 8]},
        "padding_share": 0.125,
    },
}


def _result(name, wrong, *, count=40):
    corpus = Corpus(name="test", source="somewhere", size=count)
    pairs = [
        (
            Utterance(
                f"u{i:02d}", np.zeros(1, np.float32), "GO LEFT", "s", "test", words=(("GO", 0, 1), ("LEFT", 1, 2))
            ),
            Hypothesis("NO LEFT" if i < wrong else "GO LEFT", (1.1, 2.1)),
        )
        for i in range(count)
    ]
    return score(pairs, name=name, system="dir", parameters=7, corpus=corpus, speed=Speed(1.0, 10.0, "a stop-watch"))


class _Page(html.parser.HTMLParser):
    """Text, addresses of images, and anything that would be fetched from elsewhere."""

    def __init__(self, page):
        super().__init__()
        self.images, self.outside, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if tag == "img" and name == "src" and value.startswith("data:"):
                self.images.append(value)
            elif name in ("src", "href", "srcset", "data"):
                self.outside.append((tag, value))

    def handle_data(self, data):
        self.text += data


def test_results_json_compares_with_the_baseline():
    results = [_result("base", 20), _result("better", 2), _result("same", 20)]
    summary = report.summarise(results, baseline="base", pseudo_labels={"labels": _DATASET})
    base, better, same = summary["systems"]
    assert base["improvement_over_baseline"] is None
    assert better["improvement_over_baseline"] > 0.99 and same["improvement_over_baseline"] == 0.5
    assert better["wer"] == pytest.approx(2 / 80) and better["substitutions"] == 2 and better["delay"]["mean"] > 0
    assert "shards" not in json.dumps(summary) and summary["pseudo_labels"]["labels"]["counts"]["written"] == 9
    with pytest.raises(ValueError, match="there are: base, better, same"):
        report.summarise(results, baseline="other", pseudo_labels={})


def test_page_is_complete_and_self_contained(tmp_path):
    results = [_result("base <1>", 20), _result("better", 2)]
    summary = report.summarise(results, baseline="base <1>", pseudo_labels={"labels": _DATASET})
    view = occupancy.LatticeView("teacher", np.eye(6, 3, dtype=np.float32), ("▁GO", "▁LEFT"), 0.08, -1.5)
    page = _Page(
        report.render(
            summary,
            results=results,
            title="A title",
            logs={"base": [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "dev_wer": 0.5}]},
            views=[view, view],
            view_note="Utterance u00",
            words=[("GO", 0.1, 0.2)],
            commands=[
                {"title": "Measure", "part": "evaluation", "command": "python -m a 'b & c'", "seconds": 61},
                {"title": "Train", "part": "training", "command": "python -m train", "seconds": None},
            ],
        )
    )
    assert page.outside == []
    assert len(page.images) == 4  # bars, curves, lattices, histograms
    for image in page.images:
        content = base64.b64decode(image.partition(",")[2])
        assert content.startswith(b"\x89PNG") if "png" in image[:20] else b"<svg" in content
        assert len(content) > 3000
    for text in ("base <1>", "25.00", "2.50", "empty_hypothesis", "2.00", "12.5 %", "a stop-watch", "Utterance u00"):
        assert text in page.text
    assert page.text.count("python -m a 'b & c'") == 2 and "1 min 1 s" in page.text
    report.write_results(summary, path=tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(summary))


def test_pictures_are_the_same_each_time():
    results = [_result("base", 20), _result("better", 2)]
    assert figures.wer_bars(results) == figures.wer_bars(results)


class _Teacher(tf.Module):
    """Two labels over four frames of 0.5 s; the joint's logits are given by the two projections alone."""

    def __init__(self):
        super().__init__()
        generator = np.random.default_rng(5)
        self.encoder = generator.normal(size=[1, 4, 3]).astype(np.float32)
        self.predictor = generator.normal(size=[1, 3, 3]).astype(np.float32)
        self.kernel = generator.normal(size=[3, 4]).astype(np.float32)
        self.bias = generator.normal(size=[4]).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)])
    def recognise(self, waveforms, num_samples):
        del waveforms, num_samples
        return {"text": tf.constant(["GO LEFT"]), "tokens": tf.constant([[1, 3, 0]]), "num_tokens": tf.constant([2])}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="waveforms"),
            tf.TensorSpec([None], tf.int32, name="num_samples"),
            tf.TensorSpec([None, None], tf.int32, name="tokens"),
            tf.TensorSpec([None], tf.int32, name="num_tokens"),
        ]
    )
    def teacher_forced(self, waveforms, num_samples, tokens, num_tokens):
        del waveforms, num_samples, tokens, num_tokens
        return {
            "num_frames": tf.constant([4]),
            "encoder_projection": tf.constant(self.encoder),
            "predictor_projection": tf.constant(self.predictor),
        }

    @tf.function(input_signature=[])
    def joint(self):
        return {"kernel": tf.constant(self.kernel), "bias": tf.constant(self.bias)}


def _enumerate(log_probs, labels):
    """Every alignment of `labels` over log_probs [T, U+1, V]: (node occupancy [T, U+1], log P), in float64."""
    num_frames, num_positions, _ = log_probs.shape
    paths = []

    def go(t, u, nodes, total):
        nodes = [*nodes, (t, u)]
        if u < num_positions - 1:
            go(t, u + 1, nodes, total + log_probs[t, u, labels[u]])
        if t < num_frames - 1:
            go(t + 1, u, nodes, total + log_probs[t, u, 0])
        elif u == num_positions - 1:
            paths.append((nodes, total + log_probs[t, u, 0]))

    go(0, 0, [], 0.0)
    log_prob = np.logaddexp.reduce([total for _, total in paths])
    occupancy_ = np.zeros([num_frames, num_positions])
    for nodes, total in paths:
        for node in nodes:
            occupancy_[node] += np.exp(total - log_prob)
    return occupancy_, log_prob


def test_lattice_view_equals_enumeration_of_alignments(tmp_path):
    module = _Teacher()
    signatures = {
        "serving_default": module.recognise,
        "teacher_forced": module.teacher_forced,
        "joint": module.joint,
    }
    tf.saved_model.save(module, str(tmp_path / "t"), signatures=signatures)
    (tmp_path / "t" / "assets.extra").mkdir()
    metadata = {
        "tokenizer": {"hash": "h", "kind": "k"},
        "pieces": ["<blank>", "▁GO", "▁UP", "▁LEFT"],
        "frame_seconds": 0.5,
        "joint": {"activation": "tanh"},
    }
    (tmp_path / "t" / "assets.extra" / "metadata.json").write_text(json.dumps(metadata))
    viewer = occupancy.LatticeViewer(tmp_path / "t", name="teacher")
    waveform = np.zeros(100, np.float32)
    assert viewer.hypothesis(waveform) == ("GO LEFT", [1, 3])
    view = viewer.view(waveform, tokens=[1, 3])
    joined = np.tanh(module.encoder[0, :, None] + module.predictor[0, None, :]).astype(np.float64)
    logits = joined @ module.kernel + module.bias
    expected, log_prob = _enumerate(logits - np.logaddexp.reduce(logits, -1, keepdims=True), [1, 3])
    np.testing.assert_allclose(view.occupancy, expected, atol=1e-5)
    assert view.log_prob == pytest.approx(log_prob, abs=1e-4)
    assert view.tokens == ("▁GO", "▁LEFT") and view.frame_seconds == 0.5
