"""Running systems: batches by length lose nothing and pad little; a SavedModel is seen through its signature alone."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.evaluation import systems
from tf_rnnt_kd.records.schema import Utterance


def _utterances(lengths):
    generator = np.random.default_rng(0)
    return [
        Utterance(f"u{index:03d}", generator.uniform(-1, 1, length).astype(np.float32), "", "s", "test")
        for index, length in enumerate(lengths)
    ]


class _Echo(tf.Module):
    """Writes SAMPLES and the sum of the valid samples as text, and a word every second."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(1000.0)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)])
    def recognise(self, waveforms, num_samples):
        valid = tf.where(tf.sequence_mask(num_samples, tf.shape(waveforms)[1]), waveforms, 0.0)
        total = tf.cast(tf.round(self.scale * tf.reduce_sum(valid, 1)), tf.int32)
        return {
            "text": tf.strings.join([tf.strings.as_string(num_samples), tf.strings.as_string(total)], " "),
            "num_words": tf.fill([tf.shape(waveforms)[0]], 2),
            "word_end_seconds": tf.tile([[1.0, 2.0, 0.0]], [tf.shape(waveforms)[0], 1]),
        }


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "echo"
    module = _Echo()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.recognise})
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "metadata.json").write_text(json.dumps({"num_parameters": 123}))
    return directory


def test_bucket_pads_less_than_a_third():
    for seconds in np.linspace(1.0, 700.0, 5000):
        assert seconds <= systems.bucket_seconds(seconds) < 1.5 * seconds + 1e-9
    assert [systems.bucket_seconds(s) for s in (0.0, 0.2, 1.01, 1.6, 2.5)] == [1.0, 1.0, 1.5, 2.0, 3.0]


def test_batches_hold_each_utterance_once_unchanged():
    utterances = _utterances(np.random.default_rng(1).integers(100, 100_000, 57))
    seen = {}
    shapes = set()
    for group, waveforms, num_samples in systems.batches(utterances, batch_size=8, max_batch_seconds=20.0):
        assert len(group) == len(waveforms) <= 8
        assert waveforms.size <= 20 * 16000 or len(group) == 1
        shapes.add(waveforms.shape)
        for utterance, row, count in zip(group, waveforms, num_samples, strict=True):
            np.testing.assert_array_equal(row[:count], utterance.waveform)
            assert not row[count:].any()
            assert utterance.utterance_id not in seen
            seen[utterance.utterance_id] = True
    assert len(seen) == 57
    assert len(shapes) <= 2 * len({shape[1] for shape in shapes})


def test_an_utterance_longer_than_the_limit_still_goes():
    (batch,) = systems.batches(_utterances([16000 * 9]), batch_size=4, max_batch_seconds=2.0)
    assert batch[1].shape == (1, 16000 * 12)


def test_transcribe_pairs_by_utterance_whatever_the_batching(saved_model):
    utterances = _utterances([1000, 40000, 900, 50000, 24000, 16000, 15999])
    system = systems.load_saved_model(saved_model)
    assert system.num_parameters == 123
    told = []
    pairs, speed = systems.transcribe(system, utterances=utterances, batch_size=3, progress=told.append)
    alone, _ = systems.transcribe(system, utterances=utterances[::-1], batch_size=1)
    assert [utterance.utterance_id for utterance, _ in pairs] == [u.utterance_id for u in utterances]
    assert [hypothesis for _, hypothesis in pairs] == [hypothesis for _, hypothesis in alone]
    for utterance, hypothesis in pairs:
        samples, total = map(int, hypothesis.text.split())
        assert samples == len(utterance.waveform)
        assert total == pytest.approx(1000 * utterance.waveform.astype(np.float64).sum(), abs=2)
        assert hypothesis.word_end_seconds == (1.0, 2.0)  # cut at num_words
    assert sum(told) == 7
    assert speed.audio_seconds == pytest.approx(sum(len(u.waveform) for u in utterances) / 16000)
    assert 0 < speed.compute_seconds < 60 and speed.real_time_factor > 0


def test_first_batch_of_a_shape_is_not_timed(monkeypatch):
    now = [0.0]
    seen = set()

    def slow_at_first(waveforms, num_samples):
        now[0] += 0.25 if waveforms.shape in seen else 100.0
        seen.add(waveforms.shape)
        return [systems.Hypothesis("", ())] * len(waveforms)

    monkeypatch.setattr(systems.time, "perf_counter", lambda: now[0])
    # Two full batches and a remainder of 1 s bucket, one of the 2 s bucket.
    utterances = _utterances([16000] * 5 + [32000] * 2)
    _, speed = systems.transcribe(slow_at_first, utterances=utterances, batch_size=2)
    assert speed.compute_seconds == pytest.approx(4 * 0.25)
    assert speed.real_time_factor == pytest.approx(1.0 / 9.0)


def test_not_a_saved_model(tmp_path):
    with pytest.raises(ValueError, match="tf_rnnt_kd.export"):
        systems.load_saved_model(tmp_path)
