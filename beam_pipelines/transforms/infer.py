"""A Beam model handler for teachers that are SavedModels.

The stock TensorFlow handler of Beam loads Keras files and stacks equal shapes. A teacher here is any SavedModel with
the signatures `teacher`, `teacher_forced` and `joint` (DESIGN section 5), `nbest` and `hidden` for the artifacts of
these names; and utterances differ in length.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler
from tensorflow.core.protobuf import saved_model_pb2

from beam_pipelines.transforms import lattices
from beam_pipelines.transforms.artifacts import COLLAPSED, DENSE, HIDDEN, IMPOSSIBLE, NBEST, TOP_K, Encoding, refusal
from beam_pipelines.transforms.batch import Pending, batch_rows, bucket_samples
from beam_pipelines.transforms.labels import Inference, Labels
from tf_rnnt_kd import lattice
from tf_rnnt_kd.model_versions import version_folder
from tf_rnnt_kd.records import SAMPLE_RATE, codecs
from tf_rnnt_kd.records.features import NBest

METADATA_FILE = "assets.extra/metadata.json"
SIGNATURES = ("teacher", "teacher_forced", "joint")
HYPOTHESIS = "hypothesis"
REFERENCE = "reference"
TARGETS = (HYPOTHESIS, REFERENCE)


def load_metadata(saved_model: str, *, signatures: Sequence[str] = SIGNATURES) -> dict[str, Any]:
    """A teacher's metadata, checked, without loading the model.

    Args:
        saved_model: the directory, or one of several versions, of which the newest is taken.
        signatures: what it must have.

    Returns:
        What metadata.json says, and `signatures`, the names of all that the SavedModel has.

    Raises:
        ValueError: not a SavedModel, no metadata, signatures missing, or another kind of joint.
    """
    saved_model = version_folder(saved_model)
    path = f"{saved_model}/saved_model.pb"
    if not tf.io.gfile.exists(path):
        raise ValueError(f"{saved_model} holds no SavedModel: make one with python -m tf_rnnt_kd.export")
    with tf.io.gfile.GFile(path, "rb") as file:
        found = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0].signature_def
    missing = [name for name in signatures if name not in found]
    if missing or not tf.io.gfile.exists(f"{saved_model}/{METADATA_FILE}"):
        what = f"the signatures {', '.join(missing)}" if missing else METADATA_FILE
        raise ValueError(f"{saved_model} cannot teach, it lacks {what}: export it with python -m tf_rnnt_kd.export")
    with tf.io.gfile.GFile(f"{saved_model}/{METADATA_FILE}") as file:
        metadata = json.loads(file.read())
    if "joint" in signatures:  # a teacher that is only compared with may be without
        if "joint" not in metadata:
            raise ValueError(f"{saved_model} cannot teach, its {METADATA_FILE} does not describe its joint")
        try:
            lattice.joint_settings(metadata["joint"])
        except ValueError as error:
            raise ValueError(f"{saved_model} cannot teach, its joint has {error}") from error
    for name, value, wanted in (
        ("sample rate", metadata["sample_rate"], SAMPLE_RATE), ("blank index", metadata["blank_index"], 0)
    ):  # fmt: skip
        if value != wanted:
            raise ValueError(f"{saved_model} has {name} {value}, this pipeline needs {wanted}")
    return {**metadata, "signatures": sorted(name for name in found if not name.startswith("__"))}


def padded_batch(utterances: Sequence[Pending], *, batch_size: int) -> dict[str, tf.Tensor]:
    """`waveforms` [R, S] and `num_samples` [R] of up to `batch_size` utterances, R and S of a bounded number of sizes.

    Spare rows repeat the first utterance: the teacher never sees an empty one, whatever it makes of those.
    """
    rows = _rows(utterances, batch_size)
    waveforms = np.zeros([len(rows), max(bucket_samples(len(row.waveform)) for row in rows)], np.float32)
    for index, row in enumerate(rows):
        waveforms[index, : len(row.waveform)] = row.waveform
    return {
        "waveforms": tf.constant(waveforms),
        "num_samples": tf.constant([len(row.waveform) for row in rows], tf.int32),
    }


def _rows(utterances, batch_size):
    return [*utterances, *[utterances[0]] * (batch_rows(len(utterances), batch_size=batch_size) - len(utterances))]


class Teacher:
    """A loaded SavedModel, called with batches of utterances.

    Args:
        saved_model: the directory, or one of several versions, of which the newest is taken.
        targets: "hypothesis", the teacher's own, or "reference", the tokens that come with each utterance.
        batch_size: the most rows that the model sees at once.
        encoding: which artifacts the labels are for; what none of them needs is not computed.
    """

    def __init__(self, saved_model: str, *, targets: str, batch_size: int, encoding: Encoding):
        saved_model = version_folder(saved_model)
        self._loaded = tf.saved_model.load(saved_model)  # holds the variables that the signatures use
        self._signatures = self._loaded.signatures
        self._targets, self._batch_size, self._encoding = targets, batch_size, encoding
        metadata = load_metadata(saved_model)
        self._pieces, self._model_id = metadata["pieces"], metadata["model_id"]
        self._hidden_layers = encoding.hidden_layers or tuple(sorted(metadata.get("hidden_layers", {})))
        self.joint = {name: value.numpy() for name, value in self._signatures["joint"]().items()}
        self._joint_settings = lattice.joint_settings(metadata["joint"])

    def label(self, utterances: Sequence[Pending]) -> list[Labels]:
        """Labels of up to `batch_size` utterances, in order. Errors of TensorFlow pass through."""
        audio = padded_batch(utterances, batch_size=self._batch_size)
        if self._targets == REFERENCE:
            tokens = [row.tokens for row in _rows(utterances, self._batch_size)]
            given = {
                "num_tokens": tf.constant([len(one) for one in tokens], tf.int32),
                "tokens": tf.ragged.constant(tokens, tf.int32, ragged_rank=1).to_tensor(),
            }
            outputs = {**self._signatures["teacher_forced"](**audio, **given), **given}
        else:
            outputs = dict(self._signatures["teacher"](**audio))
        outputs.update(self._lattice(outputs))
        for artifact, signature in ((NBEST, "nbest"), (HIDDEN, "hidden")):
            if artifact in self._encoding.artifacts:
                found = self._signatures[signature](**audio)
                outputs.update({f"{signature}/{name}": value for name, value in found.items()})
        outputs = {name: value.numpy() for name, value in outputs.items()}
        return [self._labels_of(row, {name: x[i] for name, x in outputs.items()}) for i, row in enumerate(utterances)]

    def _lattice(self, outputs):
        """Of a batch: `nodes` [B, T, U+1, 3] and `best_frames` [B, U], each where it is needed."""
        artifacts, lengths = self._encoding.artifacts, {
            "logit_lengths": outputs["num_frames"], "label_lengths": outputs["num_tokens"]
        }  # fmt: skip
        with_band = bool(self._encoding.band) and bool({COLLAPSED, TOP_K} & set(artifacts))
        with_path = with_band or self._targets == REFERENCE
        if not with_path and COLLAPSED not in artifacts:
            return {}
        nodes = lattice.node_log_probs(
            outputs["encoder_projection"], outputs["predictor_projection"], **self.joint, **self._joint_settings,
            labels=outputs["tokens"], **lengths,
        )  # fmt: skip
        found = {"nodes": tf.stack(nodes, axis=-1)} if COLLAPSED in artifacts else {}
        if with_path:
            found["best_frames"] = lattice.viterbi(nodes, **lengths).token_frames
        if self._targets == REFERENCE:
            # Emission frames and confidence of given tokens are those on the best path.
            frames = tf.maximum(found["best_frames"], 0)  # -1 in padding and where no path is possible
            on_path = tf.gather(tf.transpose(nodes.label, [0, 2, 1])[:, :-1], frames, axis=2, batch_dims=2)
            found |= {"token_frames": frames, "token_confidence": tf.exp(on_path)}
        return found

    def _labels_of(self, row: Pending, outputs: Mapping[str, Any]) -> Labels:
        """From the outputs for one row, still padded."""
        num_tokens, num_frames = int(outputs["num_tokens"]), int(outputs["num_frames"])
        confidence = outputs["token_confidence"][:num_tokens]
        if self._targets == REFERENCE:
            text, word_confidence = row.text, self._word_confidence(row.tokens, confidence)
        else:
            text, word_confidence = outputs["text"].decode(), outputs["word_confidence"][: int(outputs["num_words"])]
        labels = Labels(
            tokens=outputs["tokens"][:num_tokens],
            text=text,
            log_prob=float(outputs["full_sum_log_prob"]),
            num_frames=num_frames,
            token_frames=outputs["token_frames"][:num_tokens],
            token_confidence=confidence,
            word_confidence=word_confidence,
            # Copies, for a view would keep the whole batch in memory.
            encoder=outputs["encoder_projection"][:num_frames].copy(),
            predictor=outputs["predictor_projection"][: num_tokens + 1].copy(),
            model_id=self._model_id,
        )
        if refusal(labels) is not None:
            return labels  # nobody will ask for the rest, which may be NaN
        return labels._replace(**self._artifacts_of(labels, outputs))

    def _artifacts_of(self, labels: Labels, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The fields of Labels that are None unless asked for."""
        encoding = self._encoding
        found: dict[str, Any] = {}
        if "nodes" in outputs:
            found["nodes"] = outputs["nodes"][: labels.num_frames, : len(labels.tokens) + 1].copy()
        if encoding.band and "best_frames" in outputs:
            found["band"] = codecs.band_around(
                outputs["best_frames"][: len(labels.tokens)], width=encoding.band, num_frames=labels.num_frames
            )
        if NBEST in encoding.artifacts:
            found["nbest"] = _hypotheses(outputs, encoding.n_best)
        if HIDDEN in encoding.artifacts:
            num_frames = int(outputs["hidden/num_frames"])
            found["hidden"] = {
                layer: outputs[f"hidden/{layer}"][:num_frames].copy() for layer in self._hidden_layers
            }
        joint = lattice.Joint(labels.encoder[None], labels.predictor[None], **self.joint, **self._joint_settings)
        if TOP_K in encoding.artifacts:
            found["top_k"] = lattices.top_k(joint, k=encoding.top_k, band=found.get("band"))
        if DENSE in encoding.artifacts:
            found["dense"] = lattices.dense(joint)
        return found

    def _word_confidence(self, tokens, confidence):
        """As the search has it: a word is as sure as its least sure token; a mark with no letters is no word."""
        words = []
        for token, value in zip(tokens, confidence, strict=True):
            piece = self._pieces[token]
            if piece.startswith("\u2581") or not words:
                words.append(["", value])
            words[-1] = [words[-1][0] + piece.replace("\u2581", ""), min(words[-1][1], value)]
        return np.array([value for letters, value in words if letters], np.float32)


def _hypotheses(outputs: Mapping[str, np.ndarray], n_best: int) -> NBest:
    """The first of a teacher's hypotheses of one utterance, without those that are missing or impossible."""
    count = min(int(outputs["nbest/num_hypotheses"]), n_best)
    log_prob = outputs["nbest/log_prob"][:count]
    possible = np.flatnonzero(log_prob > IMPOSSIBLE)
    return NBest(
        tokens=tuple(outputs["nbest/tokens"][n, : int(outputs["nbest/num_tokens"][n])].copy() for n in possible),
        log_prob=log_prob[possible].copy(),
        text=tuple(outputs["nbest/text"][n].decode() for n in possible),
    )


class Labeller(Protocol):
    """A `Teacher`, or several with the face of one."""

    def label(self, utterances: Sequence[Pending]) -> list[Labels]:
        """Labels of utterances, in order."""


class TeacherHandler(ModelHandler[Pending, Inference, Teacher]):
    """Beam's way to a `Teacher`: one per worker process; a batch that fails is tried again one by one."""

    def __init__(self, saved_model: str, *, targets: str, batch_size: int, encoding: Encoding):
        super().__init__()
        self._saved_model = saved_model
        self._settings: dict[str, Any] = {"targets": targets, "batch_size": batch_size, "encoding": encoding}

    def load_model(self) -> Teacher:
        return Teacher(self._saved_model, **self._settings)

    def update_model_path(self, model_path: str | None = None) -> None:
        self._saved_model = model_path or self._saved_model

    def run_inference(
        self, batch: Sequence[Pending], model: Labeller, inference_args: dict[str, Any] | None = None
    ) -> list[Inference]:
        bare = [utterance._replace(waveform=None) for utterance in batch]  # type: ignore[arg-type]  # dropped on purpose
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
