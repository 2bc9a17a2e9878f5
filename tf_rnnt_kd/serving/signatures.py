"""The signatures of a SavedModel: the only face a teacher or a student has outside training (DESIGN section 5).

    serving_default(waveforms, num_samples)                     Recognizer.recognise
    teacher(waveforms, num_samples)                             Recognizer.teach
    teacher_forced(waveforms, num_samples, tokens, num_tokens)  Recognizer.teacher_forced
    score(waveforms, num_samples, tokens, num_tokens)           Recognizer.score
    nbest(waveforms, num_samples)                               Recognizer.n_best
    hidden(waveforms, num_samples)                              Recognizer.hidden
    joint()                                                     Recognizer.joint
    stream_init(batch_size)                                     StreamingRecognizer.start    (models that stream only)
    stream_step(waveforms, state_...)                           StreamingRecognizer.step
    stream_finalize(waveforms, num_samples, state_...)          StreamingRecognizer.finalize

All arguments and results go by name; batch, samples and tokens may have any size from call to call.
"""

import tensorflow as tf

from tf_rnnt_kd.serving.recognizer import AUDIO, TOKENS
from tf_rnnt_kd.serving.streaming import StreamingRecognizer


def save_module(recognizer, *, path):
    """Writes the SavedModel of a Recognizer to the folder `path`.

    The module holds the raw variables and not the Keras model: TF Serving's loader does not find the variables of a
    Keras 3 model that a tf.Module tracks.
    """
    module = tf.Module()
    module.weights = [weight.value for weight in recognizer.model.weights]
    tf.saved_model.save(module, str(path), signatures=trace_signatures(recognizer))


def trace_signatures(recognizer):
    """{signature name: concrete function}."""
    traced = {
        "serving_default": tf.function(recognizer.recognise).get_concrete_function(**AUDIO),
        "teacher": tf.function(recognizer.teach).get_concrete_function(**AUDIO),
        "teacher_forced": tf.function(recognizer.teacher_forced).get_concrete_function(**AUDIO, **TOKENS),
        "score": tf.function(recognizer.score).get_concrete_function(**AUDIO, **TOKENS),
        "nbest": tf.function(recognizer.n_best).get_concrete_function(**AUDIO),
        "hidden": tf.function(recognizer.hidden).get_concrete_function(**AUDIO),
        "joint": tf.function(recognizer.joint).get_concrete_function(),
    }
    if not recognizer.model.is_streaming:
        return traced
    streaming = StreamingRecognizer(recognizer)
    state = streaming.state_spec()
    batch_size = tf.TensorSpec([], tf.int32, name="batch_size")
    return {
        **traced,
        "stream_init": tf.function(streaming.start).get_concrete_function(batch_size=batch_size),
        "stream_step": tf.function(streaming.step).get_concrete_function(waveforms=AUDIO["waveforms"], **state),
        "stream_finalize": tf.function(streaming.finalize).get_concrete_function(**AUDIO, **state),
    }
