"""A Beam model handler for teachers that are SavedModels.

The stock TensorFlow handler of Beam loads Keras files and stacks equal shapes. A teacher here is any SavedModel with
the signatures `teacher`, `teacher_forced` and `joint` (DESIGN section 5), and utterances differ in length.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler, RunInference
from tensorflow.core.protobuf import saved_model_pb2

from beam_pipelines.transforms.batch import Pending, batch_rows, bucket_samples
from tf_rnnt_kd import lattice
from tf_rnnt_kd.records import SAMPLE_RATE

METADATA_FILE = "assets.extra/metadata.json"
HYPOTHESIS = "hypothesis"
REFERENCE = "reference"
TARGETS = (HYPOTHESIS, REFERENCE)


class Labels(NamedTuple):
    """What the teacher said about one utterance of T encoder frames, with padding cut off.

    tokens, token_frames int32 [U], token_confidence float32 [U], word_confidence float32 [W]; `log_prob` is natural
    log P(tokens given audio), summed over alignments; encoder float32 [T, H], predictor float32 [U+1, H]; nodes float32
    [T, U+1, 3], log-probs of blank, label, rest, or None where nobody asked for them.
    """

    tokens: np.ndarray
    text: str
    log_prob: float
    num_frames: int
    token_frames: np.ndarray
    token_confidence: np.ndarray
    word_confidence: np.ndarray
    encoder: np.ndarray
    predictor: np.ndarray
    nodes: np.ndarray | None


class Inference(NamedTuple):
    """Labels of an utterance (its waveform dropped), or the error that the teacher met with it."""

    utterance: Pending
    labels: Labels | None
    error: str = ""


def load_metadata(saved_model: str) -> dict[str, Any]:
    """A teacher's metadata, checked, without loading the model.

    Raises:
        ValueError: not a SavedModel, no metadata, signatures missing, or another kind of joint.
    """
    path = f"{saved_model}/saved_model.pb"
    if not tf.io.gfile.exists(path):
        raise ValueError(f"{saved_model} holds no SavedModel: make one with python -m tf_rnnt_kd.export")
    with tf.io.gfile.GFile(path, "rb") as file:
        signatures = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0].signature_def
    missing = [name for name in ("teacher", "teacher_forced", "joint") if name not in signatures]
    if missing or not tf.io.gfile.exists(f"{saved_model}/{METADATA_FILE}"):
        what = f"the signatures {', '.join(missing)}" if missing else METADATA_FILE
        raise ValueError(f"{saved_model} cannot teach, it lacks {what}: export it with python -m tf_rnnt_kd.export")
    with tf.io.gfile.GFile(f"{saved_model}/{METADATA_FILE}") as file:
        metadata = json.loads(file.read())
    for name, found, wanted in (
        ("sample rate", metadata["sample_rate"], SAMPLE_RATE),
        ("blank index", metadata["blank_index"], 0),
        ("joint activation", metadata["joint"]["activation"], "tanh"),
    ):
        if found != wanted:
            raise ValueError(f"{saved_model} has {name} {found}, this pipeline needs {wanted}")
    return metadata


class Teacher:
    """A loaded SavedModel, called with batches of utterances.

    Args:
        saved_model: the directory.
        targets: "hypothesis", the teacher's own, or "reference", the tokens that come with each utterance.
        batch_size: the most rows that the model sees at once.
        with_nodes: also computes node log-probs from the projections.
    """

    def __init__(self, saved_model: str, *, targets: str, batch_size: int, with_nodes: bool):
        self._loaded = tf.saved_model.load(saved_model)  # holds the variables that the signatures use
        self._signatures = self._loaded.signatures
        self._targets, self._batch_size, self._with_nodes = targets, batch_size, with_nodes
        self._pieces = load_metadata(saved_model)["pieces"]
        self.joint = {name: value.numpy() for name, value in self._signatures["joint"]().items()}

    def label(self, utterances: Sequence[Pending]) -> list[Labels]:
        """Labels of up to `batch_size` utterances, in order. Errors of TensorFlow pass through."""
        # Spare rows repeat the first utterance: the teacher never sees an empty one, whatever it makes of those.
        spare = batch_rows(len(utterances), batch_size=self._batch_size) - len(utterances)
        rows = [*utterances, *[utterances[0]] * spare]
        length = max(bucket_samples(len(row.waveform)) for row in rows)
        waveforms = np.zeros([len(rows), length], np.float32)
        for index, row in enumerate(rows):
            waveforms[index, : len(row.waveform)] = row.waveform
        inputs = {
            "waveforms": tf.constant(waveforms),
            "num_samples": tf.constant([len(row.waveform) for row in rows], tf.int32),
        }
        if self._targets == REFERENCE:
            inputs["num_tokens"] = tf.constant([len(row.tokens) for row in rows], tf.int32)
            inputs["tokens"] = tf.ragged.constant([row.tokens for row in rows], tf.int32, ragged_rank=1).to_tensor()
            outputs = {**self._signatures["teacher_forced"](**inputs), **inputs}
        else:
            outputs = self._signatures["teacher"](**inputs)
        nodes = self._nodes(outputs) if self._with_nodes or self._targets == REFERENCE else None
        if self._targets == REFERENCE:
            outputs.update(self._aligned(outputs, nodes))
        outputs = {name: value.numpy() for name, value in outputs.items()}
        stacked = None if nodes is None else np.stack([array.numpy() for array in nodes], axis=-1)
        return [
            self._labels_of(row, index, outputs, stacked if self._with_nodes else None)
            for index, row in enumerate(utterances)
        ]

    def _nodes(self, outputs):
        return lattice.node_log_probs(
            outputs["encoder_projection"],
            outputs["predictor_projection"],
            self.joint["kernel"],
            self.joint["bias"],
            labels=outputs["tokens"],
            logit_lengths=outputs["num_frames"],
            label_lengths=outputs["num_tokens"],
        )

    def _aligned(self, outputs, nodes):
        """Emission frames and confidence of given tokens: those on the best path through the lattice."""
        path = lattice.viterbi(nodes, logit_lengths=outputs["num_frames"], label_lengths=outputs["num_tokens"])
        frames = tf.maximum(path.token_frames, 0)  # -1 in padding and where no path is possible
        on_path = tf.gather(tf.transpose(nodes.label, [0, 2, 1])[:, :-1], frames, axis=2, batch_dims=2)
        return {"token_frames": frames, "token_confidence": tf.exp(on_path)}

    def _labels_of(self, row, index, outputs, nodes):
        num_tokens, num_frames = int(outputs["num_tokens"][index]), int(outputs["num_frames"][index])
        confidence = outputs["token_confidence"][index, :num_tokens]
        if self._targets == REFERENCE:
            text, word_confidence = row.text, self._word_confidence(row.tokens, confidence)
        else:
            text = outputs["text"][index].decode()
            word_confidence = outputs["word_confidence"][index, : int(outputs["num_words"][index])]
        return Labels(
            tokens=outputs["tokens"][index, :num_tokens],
            text=text,
            log_prob=float(outputs["full_sum_log_prob"][index]),
            num_frames=num_frames,
            token_frames=outputs["token_frames"][index, :num_tokens],
            token_confidence=confidence,
            word_confidence=word_confidence,
            # Copies, for a view would keep the whole batch in memory.
            encoder=outputs["encoder_projection"][index, :num_frames].copy(),
            predictor=outputs["predictor_projection"][index, : num_tokens + 1].copy(),
            nodes=None if nodes is None else nodes[index, :num_frames, : num_tokens + 1].copy(),
        )

    def _word_confidence(self, tokens, confidence):
        """As the search has it: a word is as sure as its least sure token; a mark with no letters is no word."""
        words = []
        for token, value in zip(tokens, confidence, strict=True):
            piece = self._pieces[token]
            if piece.startswith("\u2581") or not words:
                words.append(["", value])
            words[-1] = [words[-1][0] + piece.replace("\u2581", ""), min(words[-1][1], value)]
        return np.array([value for letters, value in words if letters], np.float32)


class TeacherHandler(ModelHandler[Pending, Inference, Teacher]):
    """Beam's way to a `Teacher`: one per worker process; a batch that fails is tried again one by one."""

    def __init__(self, saved_model: str, *, targets: str, batch_size: int, with_nodes: bool):
        super().__init__()
        self._saved_model = saved_model
        self._settings = {"targets": targets, "batch_size": batch_size, "with_nodes": with_nodes}

    def load_model(self) -> Teacher:
        return Teacher(self._saved_model, **self._settings)

    def update_model_path(self, model_path: str | None = None) -> None:
        self._saved_model = model_path or self._saved_model

    def run_inference(
        self, batch: Sequence[Pending], model: Teacher, inference_args: dict[str, Any] | None = None
    ) -> list[Inference]:
        bare = [utterance._replace(waveform=None) for utterance in batch]
        try:
            return [Inference(*pair) for pair in zip(bare, model.label(batch), strict=True)]
        except Exception as error:  # whatever one utterance does to the teacher, its neighbours keep their labels
            if len(batch) == 1:
                return [Inference(bare[0], None, _in_one_line(error))]
            return [result for utterance in batch for result in self.run_inference([utterance], model)]

    def get_num_bytes(self, batch: Sequence[Pending]) -> int:
        return sum(utterance.waveform.nbytes for utterance in batch)

    def get_metrics_namespace(self) -> str:
        return "teacher"


def _in_one_line(error: Exception) -> str:
    """What went wrong, without TensorFlow's names of nodes, which differ from process to process."""
    text = str(error).partition("[[{{node")[0].partition("[Op:")[0].strip()
    return f"{type(error).__name__}: {text.splitlines()[-1] if text else 'no message'}"


class LabelWithTeacher(beam.PTransform):
    """PCollection of batches (lists of `Pending`, from `form_batches`) -> PCollection of `Inference`."""

    def __init__(self, handler: TeacherHandler, *, model_identifier: str):
        super().__init__()
        self._handler, self._model_identifier = handler, model_identifier

    def expand(self, batches: beam.PCollection[list[Pending]]) -> beam.PCollection[Inference]:
        # The batches are ours, so that neither timing nor bundles decide who is computed with whom.
        handler = self._handler.with_no_batching()
        return batches | RunInference(handler, model_identifier=self._model_identifier)
