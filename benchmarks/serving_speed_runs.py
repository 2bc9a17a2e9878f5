"""What serving_speed measures, each function in a process of its own with one thread."""

import importlib.util
import json
import time
from pathlib import Path

import numpy as np

from benchmarks import measure
from benchmarks.serving_speed_model import speech_like

_WARM_CHUNKS = 5


def chunks(kind, saved_model, lite, seconds):
    """Streams noise chunk by chunk.

    Args:
      kind: 'saved_model' (its stream_step), or a format of export_lite.
      saved_model, lite: folders of the exports.
      seconds: of audio.

    Returns:
      {"latency": wall seconds of each chunk; "cpu_per_second": CPU seconds per second of audio; "tokens_per_second"}.
    """
    measure.one_thread_tensorflow()
    metadata = json.loads((Path(lite) / "metadata.json").read_text(encoding="utf-8"))
    size = metadata["device"]["chunk_samples"]
    advance = _saved_model_stream(saved_model) if kind == "saved_model" else _device_stream(kind, Path(lite), metadata)
    waveform = speech_like(seconds)
    pieces = [waveform[:, start : start + size] for start in range(0, waveform.shape[1] - size + 1, size)]
    for piece in pieces[:_WARM_CHUNKS]:
        advance(piece)
    latency, tokens, cpu = [], 0, time.process_time()
    for piece in pieces:
        start = time.perf_counter()
        tokens += advance(piece)
        latency.append(time.perf_counter() - start)
    audio = len(pieces) * size / metadata["sample_rate"]
    return {
        "latency": latency,
        "cpu_per_second": (time.process_time() - cpu) / audio,
        "tokens_per_second": tokens / audio,
    }


def _saved_model_stream(saved_model):
    import tensorflow as tf

    loaded = tf.saved_model.load(saved_model)
    held = {"state": loaded.signatures["stream_init"](batch_size=tf.constant(1))}

    def advance(piece):
        outputs = loaded.signatures["stream_step"](waveforms=tf.constant(piece), **held["state"])
        held["state"] = {name: value for name, value in outputs.items() if name.startswith("state_")}
        outputs["text"].numpy()
        return int(outputs["num_new_tokens"][0])

    return advance


def _device_stream(kind, folder, metadata):
    from tf_rnnt_kd.serving.device_stream import DeviceStream
    from tf_rnnt_kd.serving.lite import load_step

    stream = DeviceStream(load_step(folder / metadata["files"][kind]["file"]), metadata=metadata)
    return lambda piece: len(stream.accept(piece[0]))


def encoder_step(saved_model, folder, repetitions):
    """Features and encoder of one chunk by several runtimes, from one graph and with the same numbers.

    All give the encoder's new state. (Greedy search crashes OpenVINO 2026.4, so it cannot be given the whole step.)

    Args:
      saved_model: of the export. folder: an empty one, for the converted graphs.

    Returns:
      {"tensorflow", "litert", and where it is installed "openvino": CPU seconds of each call; "difference": the largest
      between two of them}.
    """
    measure.one_thread_tensorflow()
    import tensorflow as tf

    from tf_rnnt_kd.serving.converters import convert
    from tf_rnnt_kd.serving.device_stream import initial_state
    from tf_rnnt_kd.serving.freeze import DEVICE_SIGNATURE, freeze_signature
    from tf_rnnt_kd.serving.lite import load_step

    device = json.loads((Path(saved_model) / "assets.extra" / "metadata.json").read_text(encoding="utf-8"))["device"]
    names = sorted(name for name in device["state"] if name.startswith("state_encoder"))
    frozen = f"{folder}/frozen"
    freeze_signature(saved_model, output_dir=frozen, outputs=names)
    convert(frozen, formats=["float32"], output_dir=folder)
    inputs = {
        "waveforms": speech_like(1.0)[:, : device["chunk_samples"]],
        "num_samples": np.array([device["chunk_samples"]], np.int32),
        **initial_state(device["state"]),
    }
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    loaded, lite = tf.saved_model.load(frozen), load_step(f"{folder}/float32.tflite")
    calls = {
        "tensorflow": lambda: {
            name: value.numpy() for name, value in loaded.signatures[DEVICE_SIGNATURE](**tensors).items()
        },
        "litert": lambda: lite(**inputs),
    }
    if importlib.util.find_spec("openvino"):
        calls["openvino"] = _openvino(frozen, inputs, names)
    expected = calls["tensorflow"]()
    difference = max(
        float(np.abs(np.asarray(call()[name], np.float32) - expected[name]).max())
        for call in calls.values()
        for name in names
    )
    return {**measure.interleaved(calls, repetitions=repetitions), "difference": difference}


def _openvino(frozen, inputs, names):
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.convert_model(frozen), "CPU", settings)
    request = compiled.create_infer_request()
    # Parameters that nothing needs are gone; a result with the name of an input has got a number.
    taken = {name: value for name, value in inputs.items() if any(name in x.get_names() for x in compiled.inputs)}
    outputs = {}
    for output in compiled.outputs:
        found = [name for name in names if {name, f"{name}_1"} & set(output.get_names())]
        outputs[found[0]] = output

    def step():
        request.infer(taken)
        return {name: request.get_tensor(output).data.copy() for name, output in outputs.items()}

    return step


def whole(saved_model, seconds, batch, repetitions):
    """Whole utterances of `seconds`, `batch` of them: CPU seconds of each call.

    Returns:
      {"greedy": the signature serving_default, "nbest": that signature, "features": the features alone, "to_encoder":
      features and encoder without the projection into the joint's space}.
    """
    measure.one_thread_tensorflow()
    import tensorflow as tf

    from tf_rnnt_kd.speech.frontend import LogMelFrontend

    metadata = json.loads((Path(saved_model) / "assets.extra" / "metadata.json").read_text(encoding="utf-8"))
    loaded, frontend = tf.saved_model.load(saved_model), LogMelFrontend(**metadata["features"])
    audio = {
        "waveforms": tf.constant(speech_like(seconds, rows=batch)),
        "num_samples": tf.fill([batch], round(seconds * 16000)),
    }
    last = max(metadata["hidden_layers"], key=lambda name: int(name.rpartition("_")[2]))
    features = tf.function(lambda: frontend(**audio), autograph=False)
    # What of the signature nobody asks for is not computed.
    to_encoder = tf.function(lambda: loaded.signatures["hidden"](**audio)[last], autograph=False)
    return measure.interleaved(
        {
            "greedy": lambda: loaded.signatures["serving_default"](**audio)["text"].numpy(),
            "nbest": lambda: loaded.signatures["nbest"](**audio)["text"].numpy(),
            "features": lambda: features()[0].numpy(),
            "to_encoder": lambda: to_encoder().numpy(),
        },
        repetitions=repetitions,
    )


def step_parts(saved_model, repetitions):
    """CPU seconds of a step of one stream: {"step": all of it, "features": these alone, "to_encoder": both}.

    The last gives the encoder's new state, so that what its last layers do after their last state is not in it, nor
    the projection into the joint's space.
    """
    measure.one_thread_tensorflow()
    import tensorflow as tf

    from tf_rnnt_kd.speech.frontend import LogMelFrontend

    metadata = json.loads((Path(saved_model) / "assets.extra" / "metadata.json").read_text(encoding="utf-8"))
    loaded, frontend = tf.saved_model.load(saved_model), LogMelFrontend(**metadata["features"])
    state = loaded.signatures["stream_init"](batch_size=tf.constant(1))
    size = metadata["device"]["chunk_samples"]
    for piece in np.split(speech_like(10 * size / metadata["sample_rate"]), 10, axis=1):
        outputs = loaded.signatures["stream_step"](waveforms=tf.constant(piece), **state)
        state = {name: value for name, value in outputs.items() if name.startswith("state_")}
    arguments = {"waveforms": tf.constant(piece), **state}

    def encoder_state():
        outputs = loaded.signatures["stream_step"](**arguments)
        return {name: value for name, value in outputs.items() if name.startswith("state_encoder")}

    return measure.interleaved(
        {
            "step": lambda: loaded.signatures["stream_step"](**arguments)["text"].numpy(),
            "features": tf.function(lambda: frontend.step(arguments["waveforms"], state["state_frontend"])),
            "to_encoder": tf.function(encoder_state, autograph=False),
        },
        repetitions=repetitions,
    )
