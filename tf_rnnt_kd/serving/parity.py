"""Whether a SavedModel gives what the Python model gives, and its stream what it gives at once."""

import os

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.serving.device import DeviceRecognizer
from tf_rnnt_kd.serving.device_stream import transcribe
from tf_rnnt_kd.serving.freeze import DEVICE_SIGNATURE
from tf_rnnt_kd.serving.recognizer import Recognizer
from tf_rnnt_kd.serving.streaming import StreamingRecognizer

_EXACT = ("text", "tokens", "num_tokens", "token_frames", "words", "num_words", "num_frames", "num_hypotheses")


def check_parity(
    saved_model: str | os.PathLike, *, recognizer: Recognizer, tolerance: float = 1e-4
) -> dict[str, float]:
    """Runs both on synthetic audio and compares all results by name.

    Args:
      saved_model: folder of the SavedModel.
      recognizer: the Recognizer that it was made from.
      tolerance: of log-probabilities, confidences and projections, absolute plus relative.

    Returns:
      {signature: largest absolute difference of any float it returns}.

    Raises:
      ValueError: a difference, with the name of the result.
    """
    # The loaded object owns the variables and must outlive its signatures.
    loaded = tf.saved_model.load(str(saved_model))
    signatures = loaded.signatures
    audio = _audio(recognizer.frontend.sample_rate)
    count = recognizer.model.vocab_size
    labels = {
        "tokens": tf.constant([[1 + i % (count - 1) for i in range(5)]] * 2, tf.int32),
        "num_tokens": tf.constant([5, 2]),
    }
    phrases = {
        "phrases": tf.constant([[1 + i % (count - 1) for i in range(3)]] * 2, tf.int32),
        "num_phrase_tokens": tf.constant([3, 1]),
    }
    calls = {
        "serving_default": (recognizer.recognise, audio),
        "teacher": (recognizer.teach, audio),
        "teacher_forced": (recognizer.teacher_forced, {**audio, **labels}),
        "score": (recognizer.score, {**audio, **labels}),
        # As graphs: a beam search one operation after the other takes seconds.
        "nbest": (tf.function(recognizer.n_best, autograph=False), audio),
        "nbest_biased": (tf.function(recognizer.n_best_biased, autograph=False), {**audio, **phrases}),
        "hidden": (recognizer.hidden, audio),
        "joint": (recognizer.joint, {}),
    }
    differences = {}
    for name, (function, arguments) in calls.items():
        differences[name] = _compare(signatures[name](**arguments), function(**arguments), name, tolerance)
    if recognizer.model.is_streaming:
        streamed = _stream(signatures, audio, StreamingRecognizer(recognizer).chunk_samples)
        differences["stream_finalize"] = _compare(
            streamed, recognizer.recognise(**audio), "stream_finalize", tolerance
        )
        differences[DEVICE_SIGNATURE] = _compare_device(signatures[DEVICE_SIGNATURE], recognizer, audio, tolerance)
    return differences


def _audio(sample_rate):
    """Two utterances of 1.5 and 0.8 s: chirps in noise, the second one with NaN behind its end."""
    random = np.random.default_rng(0)
    time = np.arange(int(1.5 * sample_rate)) / sample_rate
    chirps = [0.2 * np.sin(2 * np.pi * (start + 400 * time) * time) for start in (200, 700)]
    waveforms = np.stack(chirps) + 0.02 * random.normal(size=(2, len(time)))
    num_samples = [len(time), int(0.8 * sample_rate)]
    waveforms[1, num_samples[1] :] = np.nan
    return {"waveforms": tf.constant(waveforms, tf.float32), "num_samples": tf.constant(num_samples, tf.int32)}


def _stream(signatures, audio, chunk_samples):
    """Frame by frame while both utterances last, then the rest at once."""
    waveforms, num_samples = audio["waveforms"], audio["num_samples"]
    state = signatures["stream_init"](batch_size=tf.constant(len(waveforms)))
    start = 0
    while start + chunk_samples <= min(num_samples):
        outputs = signatures["stream_step"](waveforms=waveforms[:, start : start + chunk_samples], **state)
        state = {name: value for name, value in outputs.items() if name.startswith("state_")}
        start += chunk_samples
    return signatures["stream_finalize"](waveforms=waveforms[:, start:], num_samples=num_samples - start, **state)


def _compare_device(signature, recognizer, audio, tolerance):
    """One utterance after the other through the step for devices, against both at once; largest difference."""
    metadata = {
        "pieces": recognizer.tokenizer.pieces,
        "frame_seconds": recognizer.frame_seconds,
        "device": DeviceRecognizer(recognizer).describe(),
    }

    def step(**inputs):
        outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    offline, largest = recognizer.recognise(**audio), 0.0
    for row, count in enumerate(audio["num_samples"].numpy()):
        found = transcribe(step, audio["waveforms"][row, :count].numpy(), metadata=metadata)
        length = int(offline["num_tokens"][row])
        names = ("tokens", "token_frames", "token_confidence")
        expected = {name: offline[name][row : row + 1, :length] for name in names}
        actual = {name: tf.constant([getattr(found, name)], expected[name].dtype) for name in expected}
        actual |= {"text": tf.constant([found.text]), "log_prob": tf.constant([found.log_prob])}
        expected |= {name: offline[name][row : row + 1] for name in ("text", "log_prob")}
        largest = max(largest, _compare(actual, expected, DEVICE_SIGNATURE, tolerance))
    return largest


def _compare(actual, expected, signature, tolerance):
    """Largest absolute difference of the floats."""
    if set(actual) != set(expected):
        raise ValueError(f"{signature} returns {sorted(actual)}, the Python model {sorted(expected)}")
    largest = 0.0
    for name in expected:
        left, right = actual[name].numpy(), expected[name].numpy()
        exact = name in _EXACT
        if left.shape != right.shape or (exact and not np.array_equal(left, right)):
            raise ValueError(f"{signature} and the Python model differ in {name}: {left} and {right}")
        if exact:
            continue
        difference = float(np.max(np.abs(left - right), initial=0.0))
        if not np.allclose(left, right, rtol=tolerance, atol=tolerance):
            raise ValueError(f"{signature} and the Python model differ in {name} by {difference:.2g}")
        largest = max(largest, difference)
    return largest
