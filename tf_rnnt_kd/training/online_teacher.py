"""A teacher that runs within the training step and gives what the records would otherwise hold of it.

It hears the waveforms of the batch as they are before masks and noise, at the speed at which the student hears them.
"""

import json
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.model_versions import version_folder
from tf_rnnt_kd.training.teacher_inputs import EXISTS, ON_THE_FRAMES, TeacherJoint
from tf_rnnt_kd.training.updates import one_copy
from tf_rnnt_kd.training.workdir import load_model

_METADATA_FILE = pathlib.PurePath("assets.extra", "metadata.json")
_ASKED_FOR = {  # signature -> needs that it serves
    "teacher_forced": frozenset(("teacher", "teacher_joint", "teacher_top_k", "teacher_log_prob")),
    "nbest": frozenset(("teacher_log_probs",)),
    "hidden": frozenset(("teacher_hidden",)),
}


class _Module(NamedTuple):
    """signatures: by name, functions of named tensors that return dictionaries. joint: TeacherJoint."""

    signatures: Mapping[str, Callable[..., Mapping[str, tf.Tensor]]]
    joint: TeacherJoint
    tokenizer_hash: str
    sample_rate: int
    frame_seconds: float
    layer_widths: dict[str, int]


class OnlineTeacher:
    """A SavedModel or a training's model as a source of teacher tensors.

    Args:
      path: folder of an export, or of its versions, ours or anyone's with the signatures `teacher_forced` and `joint`,
        with `hidden` and `nbest` for the losses that need these, and assets.extra/metadata.json; or a training's
        complete workdir.
      top_k: K of `teacher_top_k`. num_hypotheses: N of `teacher_log_probs`.

    To be made within the scope of the strategy that it runs under. Its weights are constants of the training: no
    checkpoint holds them, so the folder must stay as it is until the training ends.

    Attributes:
      joint: TeacherJoint. layer_widths: {layer: D} of its encoder.

    Raises:
      ValueError: there is no such model at `path`.
    """

    def __init__(self, path, *, top_k: int = 8, num_hypotheses: int = 4):
        self._path = pathlib.Path(version_folder(path))
        if (self._path / "saved_model.pb").exists():
            self._loaded = tf.saved_model.load(str(self._path))  # holds the variables that the signatures use
            self._module = _exported(self._path, self._loaded)
        elif (self._path / "done.json").exists():
            self._module = _trained(self._path)
        else:
            raise ValueError(
                f"distillation.online_teacher={path} holds neither a SavedModel nor a complete training (done.json): "
                "export one with python -m tf_rnnt_kd.export, or let the training end"
            )
        self.joint, self.layer_widths = self._module.joint, self._module.layer_widths
        self._top_k, self._num_hypotheses = top_k, num_hypotheses

    def check(self, *, needs: Collection[str], tokenizer_hash: str, sample_rate: int, frame_seconds: float) -> None:
        """Refuses a teacher that cannot teach this student.

        Args:
          needs: of the objective. The others are the student's.

        Raises:
          ValueError: naming both sides and the way out.
        """
        module = self._module
        for signature, served in _ASKED_FOR.items():
            if served & set(needs) and signature not in module.signatures:
                raise ValueError(
                    f"the losses need {', '.join(sorted(served & set(needs)))}, which the online teacher {self._path} "
                    f"does not give: it has no signature {signature}, but {', '.join(sorted(module.signatures))}; "
                    "export it with python -m tf_rnnt_kd.export, or drop these losses"
                )
        if module.tokenizer_hash != tokenizer_hash:
            raise ValueError(
                f"the online teacher {self._path} has tokenizer {module.tokenizer_hash}, this model {tokenizer_hash}: "
                "train with the teacher's --tokenizer"
            )
        if module.sample_rate != sample_rate:
            raise ValueError(
                f"the online teacher {self._path} hears {module.sample_rate} Hz, the records have {sample_rate} Hz"
            )
        if ON_THE_FRAMES & set(needs) and abs(module.frame_seconds - frame_seconds) > 1e-9:
            raise ValueError(
                f"the online teacher {self._path} has {module.frame_seconds * 1000:g} ms frames, this model "
                f"{frame_seconds * 1000:g} ms; losses on lattice nodes need equal ones: use full-sum distillation, or "
                "change the model's subsampling"
            )

    def __call__(self, batch, *, needs: Collection[str], num_frames, logit_lengths, label_lengths):
        """Tensors by the names that `reader.training_batches` gives them, of what `needs` asks for.

        Args:
          batch: `waveforms` [B, S] float32, `num_samples` [B], `tokens` [B, U], `num_tokens` [B].
          num_frames: T, int or scalar tensor: encoder frames of the student. logit_lengths, label_lengths: [B].

        Returns:
          A dictionary. `has_teacher` [B] float32 is 0 where a loss looks at frames and the teacher has over one more or
          less than the student, and where it finds the labels impossible. Where it has one frame less, its last stands
          twice. Nothing has a gradient.
        """
        asked = {signature for signature, served in _ASKED_FOR.items() if served & set(needs)}
        if not asked:
            return {}
        audio = {"waveforms": batch["waveforms"], "num_samples": tf.cast(batch["num_samples"], tf.int32)}
        call, found = self._module.signatures, {}
        has_teacher = tf.ones(tf.shape(logit_lengths), tf.bool)

        def on_frames(values, own_lengths):
            last = tf.maximum(own_lengths, 1)[:, None] - 1
            return tf.gather(values, tf.minimum(tf.range(num_frames)[None], last), batch_dims=1)

        def agrees(own_lengths):
            return (tf.abs(own_lengths - logit_lengths) <= 1) & (own_lengths > 0)

        if "teacher_forced" in asked:
            forced = call["teacher_forced"](**audio, tokens=batch["tokens"], num_tokens=batch["num_tokens"])
            encoder, predictor = (forced[f"{part}_projection"] for part in ("encoder", "predictor"))
            own_lengths = forced["num_frames"]
            if "teacher_log_prob" in needs:
                found["teacher_log_prob"] = self._score(encoder, predictor, own_lengths, batch["tokens"], label_lengths)
                has_teacher &= found["teacher_log_prob"] > EXISTS
            if (ON_THE_FRAMES & _ASKED_FOR["teacher_forced"]) & set(needs):
                has_teacher &= agrees(own_lengths)
                encoder = on_frames(encoder, own_lengths)
                found |= {"teacher_encoder": encoder, "teacher_predictor": predictor}
            if "teacher_top_k" in needs:
                best = lattice.top_k(
                    self._joint_of(encoder, predictor), k=self._top_k, logit_lengths=logit_lengths,
                    label_lengths=label_lengths,
                )
                found |= {f"teacher_top_k_{name}": value for name, value in best._asdict().items()}
        if "hidden" in asked:
            layers = call["hidden"](**audio)
            has_teacher &= agrees(layers["num_frames"])
            for name in self.layer_widths:
                found[f"teacher_hidden/{name}"] = on_frames(layers[name], layers["num_frames"])
        if "nbest" in asked:
            found |= self._hypotheses(call["nbest"](**audio))
        return tf.nest.map_structure(tf.stop_gradient, {**found, "has_teacher": tf.cast(has_teacher, tf.float32)})

    def _score(self, encoder, predictor, num_frames, tokens, num_tokens):
        """log P(tokens|x) [B]. The signature's own would do, but XLA does not compile its loop within a step."""
        sizes = {"logit_lengths": tf.maximum(num_frames, 1), "label_lengths": num_tokens}
        nodes = lattice.node_log_probs(**self._joint_of(encoder, predictor)._asdict(), labels=tokens, **sizes)
        return tf.where(num_frames > 0, lattice.full_sum(nodes, **sizes), lattice.NEGATIVE_INFINITY)

    def _joint_of(self, encoder, predictor):
        shared = (tf.constant(x, tf.float32) for x in self.joint[:2])
        return lattice.Joint(encoder, predictor, *shared, **self.joint.settings)

    def _hypotheses(self, found):
        """The first N, and missing ones where the teacher gives fewer."""
        count = self._num_hypotheses
        missing = tf.maximum(count - tf.shape(found["log_prob"])[1], 0)

        def fit(values, *, fill):
            padding = [[0, 0], [0, missing], *[[0, 0]] * (len(values.shape) - 2)]
            values = tf.pad(values, padding, constant_values=fill)[:, :count]
            return tf.ensure_shape(values, [None, count, *[None] * (len(values.shape) - 2)])

        return {
            "nbest_tokens": fit(found["tokens"], fill=0),
            "nbest_num_tokens": fit(found["num_tokens"], fill=0),
            "nbest_log_prob": fit(found["log_prob"], fill=lattice.NEGATIVE_INFINITY),
        }


def open_online_teacher(
    settings, *, needs: Collection[str], tokenizer_hash: str, sample_rate: int, frame_seconds: float
) -> OnlineTeacher | None:
    """The teacher of `config.distillation`, checked for a student; None where none is set.

    Args:
      settings: `config.distillation`. The others as for `OnlineTeacher.check`.

    Raises:
      ValueError: there is no such teacher, or it cannot teach this student.
    """
    if not settings.online_teacher:
        return None
    teacher = OnlineTeacher(
        settings.online_teacher, top_k=settings.top_k, num_hypotheses=settings.num_hypotheses
    )
    teacher.check(
        needs=needs, tokenizer_hash=tokenizer_hash, sample_rate=sample_rate, frame_seconds=frame_seconds
    )
    return teacher


def _exported(path, loaded):
    if not (path / _METADATA_FILE).exists():
        raise ValueError(
            f"distillation.online_teacher={path} lacks {_METADATA_FILE}, which states tokenizer.hash, sample_rate, "
            "frame_seconds and joint: export it with python -m tf_rnnt_kd.export"
        )
    metadata = json.loads((path / _METADATA_FILE).read_text(encoding="utf-8"))
    missing = [name for name in ("teacher_forced", "joint") if name not in loaded.signatures]
    if missing:
        raise ValueError(f"distillation.online_teacher={path} lacks the signatures {', '.join(missing)}")
    # What was loaded in the scope of a strategy only runs on its replicas.
    strategy = tf.distribute.get_strategy()
    shared = strategy.run(loaded.signatures["joint"])
    shared = {name: one_copy(strategy, value).numpy() for name, value in shared.items()}
    return _Module(
        dict(loaded.signatures.items()),
        TeacherJoint(shared["kernel"], shared["bias"], lattice.joint_settings(metadata["joint"])),
        metadata["tokenizer"]["hash"], metadata["sample_rate"], metadata["frame_seconds"],
        metadata.get("hidden_layers", {}),
    )


def _trained(path):
    """A training's best model behind functions like the signatures of its export."""
    trained = load_model(path)
    model, frontend = trained.model, trained.frontend

    def teacher_forced(waveforms, num_samples, tokens, num_tokens):
        encoded, lengths = model.encode(*frontend(waveforms, num_samples))
        joint = model.joint(encoded, model.predict_labels(tokens))
        return {
            "num_frames": lengths, "encoder_projection": joint.encoder, "predictor_projection": joint.predictor,
        }

    def hidden(waveforms, num_samples):
        layers, lengths = model.encoder_layers(*frontend(waveforms, num_samples))
        return {"num_frames": lengths, **{name: tf.cast(x, tf.float32) for name, x in layers.items()}}

    settings = {name: getattr(model, name) for name in ("combination", "factorised_blank")}
    return _Module(
        {"teacher_forced": teacher_forced, "hidden": hidden},
        TeacherJoint(model.joint_kernel.numpy(), model.joint_bias.numpy(), settings),
        trained.tokenizer.hash, frontend.sample_rate, model.subsampling * frontend.hop / frontend.sample_rate,
        model.layer_widths,
    )
