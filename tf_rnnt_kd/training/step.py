"""One training step as one compiled function."""

import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.losses import LossInputs
from tf_rnnt_kd.speech.augment import spec_augment
from tf_rnnt_kd.training.teacher_inputs import teacher_inputs


def make_train_step(model, *, objective, optimizer, average, config, batch_spec, teacher_joint=None):
    """Returns `train_step(batch, step) -> {name: scalar}`.

    Compiled by XLA (`config.train.jit_compile`) the step is traced once per bucket shape, otherwise once for all.

    Args:
      batch_spec: the element_spec of the batches.
      teacher_joint: kernel [H, V] and bias [V] of the teacher whose projections the batches hold, or None.

    The step returns the mean of every loss term, `loss` (the weighted sum),
    `learning_rate`, `gradient_norm`, and `finite`: false where the step was not applied because the loss or a gradient
    was not finite.
    """
    augment = config.augment

    def forward(batch, step):
        features = model.normalise(batch["features"])
        features = spec_augment(
            features, batch["num_frames"], seed=tf.stack([config.seed, step]), freq_masks=augment.freq_masks,
            freq_width=augment.freq_width, time_masks=augment.time_masks, time_ratio=augment.time_ratio,
            time_width_max=augment.time_width,
        )
        encoded, lengths = model.encode_normalised(features, batch["num_frames"], training=True)
        predicted = model.predict_labels(batch["tokens"], training=True)
        student = lattice.Joint(
            tf.cast(encoded, tf.float32), tf.cast(predicted, tf.float32), model.joint_kernel.value,
            model.joint_bias.value,
        )
        lengths = {"logit_lengths": lengths, "label_lengths": batch["num_tokens"]}
        nodes = lattice.node_log_probs(*student[:4], labels=batch["tokens"], **lengths)
        teacher = teacher_inputs(batch, needs=objective.needs, student=nodes, lengths=lengths, joint=teacher_joint)
        total, terms = objective(LossInputs(nodes, student_joint=student, **lengths, **teacher))
        return {"loss": total, **terms}

    def train_step(batch, step):
        with tf.GradientTape() as tape:
            terms = {name: tf.reduce_mean(values) for name, values in forward(batch, step).items()}
        gradients = tape.gradient(terms["loss"], [variable.value for variable in model.trainable_variables])
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm) & tf.math.is_finite(terms["loss"])

        def apply():
            optimizer.apply(gradients, model.trainable_variables)
            if config.optimizer.ema_decay:
                average.update(optimizer.iterations - 1)
            return tf.constant(True)

        tf.cond(finite, apply, lambda: tf.constant(False))
        learning_rate = tf.cast(optimizer.learning_rate, tf.float32)
        return {**terms, "gradient_norm": norm, "learning_rate": learning_rate, "finite": finite}

    if config.train.jit_compile:
        compiled = tf.function(train_step, jit_compile=True)
    else:
        compiled = tf.function(train_step, input_signature=[_numeric(batch_spec), tf.TensorSpec([], tf.int32)])

    def run(batch, step):
        return compiled(_numeric(batch), step)

    run.compiled = compiled
    return run


def _numeric(batch):
    """A batch, or its specification, without the strings: XLA knows none."""
    return {name: value for name, value in batch.items() if value.dtype != tf.string}
