"""Log-mel features against librosa and float64 numpy; streaming, padding, XLA."""

import librosa
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.speech.frontend import LogMelFrontend, mel_filters


def speechlike(num_samples, *, seed=0):
    """Chirps over coloured noise, so that every filter sees strong and weak frames."""
    rng = np.random.default_rng(seed)
    t = np.arange(num_samples) / 16000
    chirp = np.sin(2 * np.pi * (100 + 1500 * t) * t) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t))
    noise = np.cumsum(rng.normal(size=num_samples)) * 1e-3 + rng.normal(size=num_samples) * 0.01
    return (0.3 * chirp + noise).clip(-1, 1).astype(np.float32)


def librosa_features(waveform):
    """The same definition by librosa, in float64, from a waveform padded by hand."""
    num_frames = -(-len(waveform) // 160)
    padded = np.pad(waveform.astype(np.float64), (240, num_frames * 160 - len(waveform)))
    frames = librosa.util.frame(padded, frame_length=400, hop_length=160, axis=0)
    window = librosa.filters.get_window("hann", 400, fftbins=True)
    power = np.abs(np.fft.rfft(frames * window, 512)) ** 2
    mel = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=60, fmax=7600, norm=None, dtype=np.float64)
    return np.log(np.maximum(power @ mel.T, 1e-6))


def test_filters_are_those_of_librosa():
    ours = mel_filters(80, fft_length=512, sample_rate=16000, low_hz=60, high_hz=7600)
    theirs = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=60, fmax=7600, norm=None, dtype=np.float64)
    np.testing.assert_allclose(ours, theirs.T, atol=1e-12)


@pytest.mark.parametrize("num_samples", [1, 159, 160, 161, 4000, 16001])
def test_features_are_those_of_librosa(num_samples):
    waveform = speechlike(num_samples)
    features, num_frames = LogMelFrontend()(waveform[None], [num_samples])
    expected = librosa_features(waveform)
    assert num_frames.numpy().tolist() == [len(expected)] and features.shape == (1, len(expected), 80)
    np.testing.assert_allclose(features[0], expected, atol=2e-3)
    assert np.abs(features[0] - expected).mean() < 1e-5


@pytest.mark.parametrize("hops", [1, 3, 8])
def test_streaming_is_offline(hops):
    frontend = LogMelFrontend()
    waveforms = np.stack([speechlike(24 * 160, seed=seed) for seed in range(2)])
    whole, _ = frontend(waveforms, [24 * 160] * 2)
    state, steps = frontend.initial_state(2), []
    for start in range(0, 24 * 160, hops * 160):
        features, state = frontend.step(waveforms[:, start : start + hops * 160], state)
        assert features.shape == (2, hops, 80)
        steps.append(features)
    np.testing.assert_allclose(np.concatenate(steps, axis=1), whole, atol=1e-5)


def test_frames_never_look_ahead():
    frontend = LogMelFrontend()
    waveform = speechlike(3200)
    changed = waveform.copy()
    changed[10 * 160 :] = np.nan
    whole, _ = frontend(waveform[None], [3200])
    cut, _ = frontend(changed[None], [3200])
    np.testing.assert_array_equal(whole[0, :10], cut[0, :10])
    assert np.isnan(cut[0, 10:]).all()


def test_padding_reaches_nothing():
    frontend = LogMelFrontend()
    lengths = np.array([5000, 0, 1603], np.int32)
    waveforms = np.full([3, 7000], np.nan, np.float32)
    for row, length in enumerate(lengths):
        waveforms[row, :length] = speechlike(length, seed=row)
    features, num_frames = frontend(waveforms, lengths)
    assert num_frames.numpy().tolist() == [32, 0, 11] and features.shape == (3, 44, 80)
    for row, length in enumerate(lengths):
        alone, _ = frontend(waveforms[row : row + 1, :length], [length])
        np.testing.assert_allclose(features[row, : num_frames[row]], alone[0], atol=1e-6)
        assert not np.asarray(features[row, num_frames[row] :]).any()


def test_xla_is_eager():
    frontend = LogMelFrontend()
    waveforms = np.stack([speechlike(5000, seed=seed) for seed in range(2)])
    eager, eager_frames = frontend(waveforms, [5000, 3111])
    compiled, frames = tf.function(frontend, jit_compile=True)(tf.constant(waveforms), tf.constant([5000, 3111]))
    np.testing.assert_allclose(compiled, eager, atol=1e-4)
    np.testing.assert_array_equal(frames, eager_frames)


def test_one_graph_for_any_batch_and_length():
    frontend = LogMelFrontend()
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)])
    def graph(waveforms, num_samples):
        traces.append(1)
        return frontend(waveforms, num_samples)

    for batch, samples in ((1, 1600), (3, 1777)):
        waveforms = np.stack([speechlike(samples, seed=seed) for seed in range(batch)])
        np.testing.assert_allclose(
            graph(waveforms, [samples] * batch)[0], frontend(waveforms, [samples] * batch)[0], atol=1e-5
        )
    assert len(traces) == 1


def test_static_shapes_stay_static():
    features, _ = tf.data.Dataset.from_tensors((tf.zeros([2, 3200]), [3200, 100])).map(LogMelFrontend()).element_spec
    assert features.shape == (2, 20, 80)


def test_another_geometry_and_config():
    frontend = LogMelFrontend(window_seconds=0.032, hop_seconds=0.008, num_mel_bins=40, low_hz=0, high_hz=8000)
    assert (frontend.window, frontend.hop, frontend.left_context) == (512, 128, 384)
    again = LogMelFrontend.from_config(frontend.to_config())
    waveform = speechlike(1280)
    expected, frames = frontend(waveform[None], [1280])
    assert frames.numpy().tolist() == [10]
    np.testing.assert_array_equal(again(waveform[None], [1280])[0], expected)


@pytest.mark.parametrize(
    "arguments",
    [{"hop_seconds": 0.03}, {"high_hz": 9000}, {"low_hz": 4000, "high_hz": 300}, {"num_mel_bins": 400}],
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(ValueError, match=r"need 0|no FFT bin"):
        LogMelFrontend(**arguments)


def test_a_chunk_of_broken_length_is_refused():
    frontend = LogMelFrontend()
    with pytest.raises(ValueError, match="multiple of 160"):
        frontend.step(tf.zeros([1, 100]), frontend.initial_state(1))
