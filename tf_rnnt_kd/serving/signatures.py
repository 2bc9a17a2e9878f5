"""The signatures of a SavedModel: the only face a teacher or a student has outside training (DESIGN section 5).

    serving_default(waveforms, num_samples)                     Recognizer.recognise
    teacher(waveforms, num_samples)                             Recognizer.teach
    teacher_forced(waveforms, num_samples, tokens, num_tokens)  Recognizer.teacher_forced
    score(waveforms, num_samples, tokens, num_tokens)           Recognizer.score
    nbest(waveforms, num_samples)                               Recognizer.n_best
    nbest_biased(waveforms, num_samples, phrases, num_phrase_tokens)    Recognizer.n_best_biased
    hidden(waveforms, num_samples)                              Recognizer.hidden
    joint()                                                     Recognizer.joint
    stream_init(batch_size)                                     StreamingRecognizer.start    (models that stream only)
    stream_step(waveforms, state_...)                           StreamingRecognizer.step
    stream_finalize(waveforms, num_samples, state_...)          StreamingRecognizer.finalize
    stream_ids(waveforms, num_samples, state_...)               DeviceRecognizer.step: for conversion to other runtimes

All arguments and results go by name; batch, samples and tokens may have any size from call to call, but for stream_ids:
one stream, and as many samples as metadata.json says under `device`.
"""

import os
from typing import Any

import tensorflow as tf

from tf_rnnt_kd.serving.device import DeviceRecognizer
from tf_rnnt_kd.serving.freeze import DEVICE_SIGNATURE
from tf_rnnt_kd.serving.recognizer import AUDIO, PHRASES, TOKENS, Recognizer
from tf_rnnt_kd.serving.streaming import StreamingRecognizer


def save_module(recognizer: Recognizer, *, path: str | os.PathLike) -> None:
    """Writes the SavedModel of a Recognizer to the folder `path`.

    The module holds the raw variables and not the Keras model: TF Serving's loader does not find the variables of a
    Keras 3 model that a tf.Module tracks.
    """
    module = tf.Module()
    module.weights = [weight.value for weight in recognizer.model.weights]
    module.tables = [variable for scorer in recognizer.n_best_search.scorers for variable in scorer.variables]
    tf.saved_model.save(module, str(path), signatures=trace_signatures(recognizer))


def trace_signatures(recognizer: Recognizer) -> dict[str, Any]:
    """{signature name: concrete function}."""
    signatures = {  # name: (function, what it takes)
        "serving_default": (recognizer.recognise, AUDIO),
        "teacher": (recognizer.teach, AUDIO),
        "teacher_forced": (recognizer.teacher_forced, {**AUDIO, **TOKENS}),
        "score": (recognizer.score, {**AUDIO, **TOKENS}),
        "nbest": (recognizer.n_best, AUDIO),
        "nbest_biased": (recognizer.n_best_biased, {**AUDIO, **PHRASES}),
        "hidden": (recognizer.hidden, AUDIO),
        "joint": (recognizer.joint, {}),
    }
    if recognizer.model.is_streaming:
        streaming = StreamingRecognizer(recognizer)
        state = streaming.state_spec()
        device = DeviceRecognizer(recognizer)
        signatures |= {
            "stream_init": (streaming.start, {"batch_size": tf.TensorSpec([], tf.int32, name="batch_size")}),
            "stream_step": (streaming.step, {"waveforms": AUDIO["waveforms"], **state}),
            "stream_finalize": (streaming.finalize, {**AUDIO, **state}),
            DEVICE_SIGNATURE: (device.step, device.specs()),
        }
    # Nothing here is Python control flow over tensors; autograph would take a quarter of the export to look for some.
    return {
        name: tf.function(function, autograph=False).get_concrete_function(**takes)
        for name, (function, takes) in signatures.items()
    }
