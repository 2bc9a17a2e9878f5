"""From a batch to the losses of its utterances: the part of a training step that is differentiated."""

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.losses import LossInputs
from tf_rnnt_kd.speech.augment import spec_augment
from tf_rnnt_kd.speech.draws import GENERATOR
from tf_rnnt_kd.speech.policies import policy_arguments
from tf_rnnt_kd.training.batching import DRAW
from tf_rnnt_kd.training.teacher_inputs import ON_THE_FRAMES, TeacherJoint, teacher_inputs


class Forward:
    """Augmentation, model, teacher and losses as one differentiable function.

    Args:
      model: a Transducer, whose encoder recomputes what train.recompute says. config: the settings of the training.
      objective: a losses.Objective.
      teacher_joint: kernel [H, V] and bias [V] of the teacher whose projections the batches hold, or None.
      online_teacher: an OnlineTeacher that hears each batch, in place of what is stored of a teacher; or None.
      hidden: HiddenLayers, where a term compares hidden layers.

    Attributes:
      objective: as given.
    """

    def __init__(self, model, config, objective, teacher_joint=None, online_teacher=None, hidden=None):
        self.objective = objective
        self._model, self._config = model, config
        model.encoder.recompute = config.train.recompute
        self._online_teacher, self._hidden = online_teacher, hidden
        self._policy = policy_arguments(config.augment, time_aligned=ON_THE_FRAMES & set(objective.needs))
        if online_teacher is not None:
            self._teacher_joint = online_teacher.joint
        else:
            self._teacher_joint = None if teacher_joint is None else TeacherJoint(*teacher_joint)

    @property
    def trainable_variables(self):
        """Keras variables that the losses train: the model's, then the projections between hidden layers."""
        return [*self._model.trainable_variables, *(self._hidden.trainable_variables if self._hidden else [])]

    def __call__(self, batch, step, training=True):
        """
        Args:
          batch: tensors of `reader.training_batches`, without the strings.
          step: int32 scalar, training steps done: for schedules, and with the configured seed for SpecAugment.
          training: False leaves out augmentation and dropout.

        Returns:
          {name: [B] float32}: every term of the objective, unweighted, and `loss`, their weighted sum.
        """
        total, terms = self.objective(
            self.loss_inputs(batch, step, training=training), weights=self.objective.weights_at(step)
        )
        return {"loss": total, **terms}

    def loss_inputs(self, batch, step, training=True) -> LossInputs:
        """What the losses of a call are computed from; same arguments."""
        model, needs = self._model, self.objective.needs
        features = model.normalise(batch["features"])
        if training:
            features = self._augmented(features, batch, step)
        encoded, frame_lengths, layers = self._encode(features, batch["num_frames"], training=training)
        student = model.joint(encoded, model.predict_labels(batch["tokens"], training=training))
        lengths = {"logit_lengths": frame_lengths, "label_lengths": batch["num_tokens"]}
        nodes = lattice.node_log_probs(**student._asdict(), labels=batch["tokens"], **lengths)
        if self._online_teacher is not None:
            batch = {**batch, **self._online_teacher(batch, needs=needs, num_frames=tf.shape(encoded)[1], **lengths)}
        given = teacher_inputs(batch, needs=needs, student=nodes, lengths=lengths, joint=self._teacher_joint)
        if self._hidden is not None:
            given |= self._hidden.inputs(layers, batch)
        if "student_log_probs" in needs:
            given["student_log_probs"] = self._hypothesis_log_probs(batch, encoded, frame_lengths, training=training)
        return LossInputs(nodes, student_joint=student, is_labelled=batch.get("is_labelled"), **lengths, **given)

    def augmented_features(self, batch, step):
        """What the encoder hears in training: normalised and masked features [B, N, F]; same arguments."""
        return self._augmented(self._model.normalise(batch["features"]), batch, step)

    def _encode(self, features, num_frames, *, training):
        """(projection into the joint space [B, T, H], lengths [B], {layer: [B, T, D]} where hidden layers count)."""
        model = self._model
        if self._hidden is None:
            return *model.encode_normalised(features, num_frames, training=training), {}
        frames, lengths, layers = model.encoder.call_with_layers(features, num_frames, training=training)
        return model.encoder_projection(frames), lengths, layers

    def _augmented(self, features, batch, step):
        seed = tf.stack([self._config.seed, step])
        if DRAW in batch:
            seed = tf.random.fold_in(seed, batch[DRAW], alg=GENERATOR)
        return spec_augment(features, batch["num_frames"], seed=seed, **self._policy)

    def _hypothesis_log_probs(self, batch, encoded, frame_lengths, *, training):
        """log P(y^n|x) [B, N] of the hypotheses `nbest_tokens` [B, N, U]: B x N lattices over the B encoder outputs."""
        tokens, num_tokens = batch["nbest_tokens"], batch["nbest_num_tokens"]
        count = tokens.shape[1]
        tokens = tf.reshape(tokens, [-1, tf.shape(tokens)[2]])
        joint = self._model.joint(
            tf.repeat(encoded, count, axis=0), self._model.predict_labels(tokens, training=training)
        )
        lengths = {
            "logit_lengths": tf.repeat(frame_lengths, count), "label_lengths": tf.reshape(num_tokens, [-1]),
        }
        nodes = lattice.node_log_probs(**joint._asdict(), labels=tokens, **lengths)
        return tf.reshape(lattice.full_sum(nodes, **lengths), [-1, count])
