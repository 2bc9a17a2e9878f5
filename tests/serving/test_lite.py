"""Exports for devices: the words of each format against the model's own, sizes, and what is refused."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from serving_models import MEL_BINS, awaken
from streaming_models import OTHERS, shrunken

from tf_rnnt_kd.decoding import GreedySearch
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.serving import Recognizer
from tf_rnnt_kd.serving import lite as lite_module
from tf_rnnt_kd.serving.converters import convert
from tf_rnnt_kd.serving.device import DeviceRecognizer
from tf_rnnt_kd.serving.device_stream import DeviceStream, transcribe
from tf_rnnt_kd.serving.freeze import freeze_signature
from tf_rnnt_kd.serving.lite import LiteRecognizer, default_formats, export_lite, load_step, read_lite_metadata
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer


@pytest.fixture(scope="module")
def folder(student, tmp_path_factory):
    path = tmp_path_factory.mktemp("lite") / "model"
    export_lite(student.path.parent, output_dir=path)
    return path


def all_as_offline(recognizer, served, audio):
    waveforms, num_samples = audio
    expected = served.signatures["serving_default"](waveforms=waveforms, num_samples=num_samples)
    expected = {name: value.numpy() for name, value in expected.items()}
    for b, count in enumerate(num_samples):
        same_as_offline(recognizer.transcribe(waveforms[b, :count]), expected, b)


def same_as_offline(found, expected, b):
    length = expected["num_tokens"][b]
    assert length > 0 and found.tokens == expected["tokens"][b, :length].tolist()
    assert found.token_frames == expected["token_frames"][b, :length].tolist()
    assert found.text == expected["text"][b].decode()
    np.testing.assert_allclose(found.token_confidence, expected["token_confidence"][b, :length], atol=1e-4)
    np.testing.assert_allclose(found.log_prob, expected["log_prob"][b], rtol=1e-4, atol=1e-3)
    ends = expected["word_end_seconds"][b, : expected["num_words"][b]]
    np.testing.assert_allclose(found.word_end_seconds, ends, rtol=1e-6)


def test_float32_gives_what_the_saved_model_gives_offline(student, folder, audio):
    all_as_offline(LiteRecognizer(folder, file_format="float32"), student, audio)


def converted(config, audio, folder, *, formats=("float32",), prepare=lambda model: None):
    """The step of a small model in these formats: (metadata, what Python's recogniser says, the model)."""
    keras.utils.set_random_seed(5)
    tokenizer, frontend = Tokenizer.train_characters(["GO STOP ÉTÉ"]), LogMelFrontend(num_mel_bins=MEL_BINS)
    model = build_transducer(config, vocab_size=tokenizer.vocab_size, num_features=MEL_BINS)
    prepare(model)
    awaken(model, blank_bias=1.0)
    recognizer = Recognizer(model, tokenizer=tokenizer, frontend=frontend, search=GreedySearch(2))
    device, module = DeviceRecognizer(recognizer), tf.Module()
    module.weights = [weight.value for weight in model.weights]
    step = tf.function(device.step, autograph=False).get_concrete_function(**device.specs())
    tf.saved_model.save(module, str(folder / "model"), signatures={"stream_ids": step})
    freeze_signature(folder / "model", output_dir=folder / "frozen")
    convert(folder / "frozen", formats=formats, output_dir=folder)
    metadata = {
        "pieces": tokenizer.pieces, "frame_seconds": recognizer.frame_seconds, "device": device.describe(),
    }  # fmt: skip
    expected = {name: value.numpy() for name, value in recognizer.recognise(*audio).items()}
    return json.loads(json.dumps(metadata)), expected, model


@pytest.mark.parametrize("kind", ["streaming_cifg", "chunks and right context"])
def test_lstms_and_look_ahead_convert_too(kind, audio, tmp_path):
    """LSTMs abort LiteRT's converter unless they are frozen; frames of an encoder that looks ahead come late."""
    metadata, expected, _ = converted(OTHERS[kind] if kind in OTHERS else shrunken(kind), audio, tmp_path)
    assert metadata["device"]["flush_chunks"] == (1 if kind in OTHERS else 0)
    step = load_step(tmp_path / "float32.tflite")
    for b, count in enumerate(audio[1]):
        same_as_offline(transcribe(step, audio[0][b, :count], metadata=metadata), expected, b)


def test_fewer_bits_fewer_bytes_and_nearly_the_same_numbers(student, folder, audio):
    metadata = read_lite_metadata(folder)
    sizes = {name: file["bytes"] for name, file in metadata["files"].items()}
    assert set(sizes) == {"float32", "float16", "int8"}
    assert sizes == {name: (folder / f"{name}.tflite").stat().st_size for name in sizes}
    assert sizes["float16"] < 0.9 * sizes["float32"]
    # The first chunk through each: one step from the same state, so that no decision can differ before.
    outputs, features = {}, {}
    for name in sizes:
        recorder = Recorder(LiteRecognizer(folder, file_format=name).step)
        DeviceStream(recorder, metadata=metadata).accept(audio[0][0, :2560])
        outputs[name] = np.concatenate([recorder.last[key].ravel() for key in sorted(metadata["device"]["state"])])
        features[name] = recorder.last["state_encoder_halving_0"]
    for name, tolerance in (("float16", 0.02), ("int8", 0.2)):
        error = np.abs(outputs[name] - outputs["float32"]).max() / np.abs(outputs["float32"]).max()
        assert error < tolerance, name
    assert not np.array_equal(outputs["float16"], outputs["float32"])
    # The first convolution keeps a frame of features: 8 bits would hold no power spectrum.
    np.testing.assert_allclose(features["int8"], features["float32"], atol=1e-3)


class Recorder:
    def __init__(self, step):
        self._step = step

    def __call__(self, **inputs):
        self.last = self._step(**inputs)
        return self.last


def test_only_builtin_operations(folder):
    """No file needs the operations of TensorFlow (Flex) that phones do not have."""
    for path in folder.glob("*.tflite"):
        assert b"Flex" not in path.read_bytes(), path


def test_zeros_take_no_room(audio, tmp_path):
    """Nine tenths of the large matrices at zero, in blocks of four inputs: the sparse file leaves them out."""
    config = shrunken("streaming_small")
    config["encoder"] |= {"width": 64, "num_layers": 1}
    metadata, expected, model = converted(config, audio, tmp_path, formats=("float32", "sparse"), prepare=prune)
    sizes = {name: (tmp_path / f"{name}.tflite").stat().st_size for name in ("float32", "sparse")}
    weights = sum(np.prod(weight.shape) for weight in pruned(model))
    # Of four bytes for each weight a tenth stay, and an index for each block.
    assert 0.8 < (sizes["float32"] - sizes["sparse"]) / (4 * weights) < 0.95
    step, b = load_step(tmp_path / "sparse.tflite"), 0
    same_as_offline(transcribe(step, audio[0][b, : audio[1][b]], metadata=metadata), expected, b)


def pruned(model):
    parts = ("expand/kernel", "contract/kernel", "query_key_value/kernel", "gate/kernel")
    return [weight for weight in model.trainable_weights if weight.path.endswith(parts)]


def prune(model):
    random = np.random.default_rng(0)
    for weight in pruned(model):
        rows, columns = weight.shape[0] // 4, weight.shape[1]
        kept = np.zeros([rows * columns], bool)
        kept[random.permutation(rows * columns)[: rows * columns // 10]] = True
        weight.assign(np.where(np.repeat(kept.reshape(rows, columns), 4, axis=0), weight.numpy(), 0.0))


def test_the_same_again_writes_nothing_and_nothing_is_overwritten(student, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(lite_module, "convert", lambda *_, **__: pytest.fail("converted again"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert export_lite(student.path, output_dir=folder, formats=["int8"]) == read_lite_metadata(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    other = shutil.copytree(folder, tmp_path / "other")
    content = json.loads((other / "metadata.json").read_text(encoding="utf-8"))
    half = {**content, "files": {"float32": content["files"]["float32"]}}
    (other / "metadata.json").write_text(json.dumps(half))
    with pytest.raises(ValueError, match="exists and lacks int8"):
        export_lite(student.path, output_dir=other, formats=["float32", "int8"])
    (other / "metadata.json").write_text(json.dumps({**content, "model_id": "0" * 16}))
    with pytest.raises(ValueError, match="of another model"):
        export_lite(student.path, output_dir=other)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="no export for devices: choose another"):
        export_lite(student.path, output_dir=tmp_path / "mine")


def test_a_conversion_that_fails_leaves_nothing(student, tmp_path, monkeypatch):
    def refuse(frozen, *, formats, output_dir):
        (output_dir / "float32.tflite").write_bytes(b"half")
        raise ValueError("refused")

    monkeypatch.setattr(lite_module, "freeze_signature", lambda *_, **__: None)
    monkeypatch.setattr(lite_module, "convert", refuse)
    with pytest.raises(ValueError, match="refused"):
        export_lite(student.path, output_dir=tmp_path / "lite")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_converted_is_refused_before_anything_is_made(student, tmp_path):
    whole = tmp_path / "whole"
    tf.saved_model.save(tf.Module(), str(whole))
    content = {**student.export.metadata, "streaming": False, "device": None}
    (whole / "assets.extra").mkdir()
    (whole / "assets.extra" / "metadata.json").write_text(json.dumps(content))
    for path, formats, hint in (
        (whole, None, "needs whole utterances"),
        (student.path, ["float8"], "unknown format float8: choose of float32"),
        (student.path, ["sparse"], "was not pruned"),
    ):
        with pytest.raises(ValueError, match=hint):
            export_lite(path, output_dir=tmp_path / "lite", formats=formats)
    with pytest.raises(ValueError, match="has no signature stream_ids"):
        freeze_signature(whole, output_dir=tmp_path / "frozen")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    with pytest.raises(ValueError, match="no export for devices: make one"):
        LiteRecognizer(tmp_path, file_format="float32")


def test_a_pruned_model_gets_sparse_formats_by_itself():
    assert default_formats({"sparsity": {"target": 0.0}}) == ("float32", "float16", "int8")
    assert default_formats({"sparsity": {"target": 0.9}}) == ("float32", "float16", "int8", "sparse", "sparse_int8")
