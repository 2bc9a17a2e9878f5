"""Losses over n-best hypotheses: the student's scores against one hypothesis at a time, from dense logits."""

import numpy as np
import tensorflow as tf
from small_student import small_batch, small_forward

from tf_rnnt_kd import lattice
from tf_rnnt_kd.losses import rnnt_loss

TERMS = {"hard_n_best": {}, "full_sum_n_best": {"per_label": True}, "sequence_posterior": {}, "sequence_margin": {}}
HYPOTHESES = np.array([[[1, 2, 3], [4, 0, 0], [2, 2, 0]], [[3, 1, 0], [0, 0, 0], [0, 0, 0]]], np.int32)
COUNTS = np.array([[3, 1, 2], [2, 0, 0]], np.int32)
SCORES = np.array([[-1.0, -2.0, -2.5], [-0.5, lattice.NEGATIVE_INFINITY, lattice.NEGATIVE_INFINITY]], np.float32)


def nbest_batch(tokens=HYPOTHESES, num_tokens=COUNTS, scores=SCORES):
    found = {"nbest_tokens": tokens, "nbest_num_tokens": num_tokens, "nbest_log_prob": scores}
    return {
        **small_batch(), **{name: tf.constant(value) for name, value in found.items()},
        "has_teacher": tf.ones([2]),
    }


def test_scores_are_those_of_each_hypothesis_alone():
    forward, model = small_forward(TERMS)
    batch = nbest_batch()
    found = forward.loss_inputs(batch, tf.constant(0)).student_log_probs.numpy()
    encoded, lengths = model.encode(batch["features"], batch["num_frames"])
    for row, index in ((0, 0), (0, 1), (0, 2), (1, 0)):
        labels = HYPOTHESES[row, index, : COUNTS[row, index]][None]
        logits = model.joint_logits(encoded[row][None, :, None], model.predict_labels(labels)[:, None])
        alone = rnnt_loss(
            logits, labels=labels, logit_lengths=lengths[row : row + 1], label_lengths=[labels.shape[1]]
        )
        np.testing.assert_allclose(found[row, index], -alone[0], rtol=1e-5)


def test_the_losses_are_sums_over_hypotheses_worked_out_by_hand():
    forward, _ = small_forward(TERMS)
    batch = nbest_batch()
    student = forward.loss_inputs(batch, tf.constant(0)).student_log_probs.numpy()[0]
    found = {name: values.numpy() for name, values in forward(batch, tf.constant(0)).items()}
    weights = np.exp(SCORES[0]) / np.exp(SCORES[0]).sum()
    posterior = student - np.logaddexp.reduce(student)
    np.testing.assert_allclose(found["hard_n_best"][0], -weights @ student, rtol=1e-5)
    np.testing.assert_allclose(
        found["full_sum_n_best"][0], weights @ (np.abs(student - SCORES[0]) / COUNTS[0]), rtol=1e-5
    )
    np.testing.assert_allclose(
        found["sequence_posterior"][0], weights @ (np.log(weights) - posterior), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        found["sequence_margin"][0], abs(posterior[0] - np.log(weights[0])), rtol=1e-4, atol=1e-6
    )
    # One hypothesis has nothing to be ranked against.
    assert found["sequence_posterior"][1] == found["sequence_margin"][1] == 0


def test_missing_hypotheses_and_utterances_without_a_teacher_change_nothing():
    forward, model = small_forward(TERMS)

    def gradient(batch):
        with tf.GradientTape() as tape:
            found = forward(batch, tf.constant(0))
            total = tf.reduce_sum(found["loss"])
        gradients = tape.gradient(total, [variable.value for variable in model.trainable_variables])
        return found["loss"].numpy(), [tf.convert_to_tensor(g).numpy() for g in gradients if g is not None]

    values, gradients = gradient(nbest_batch())
    assert max(np.abs(g).max() for g in gradients) > 1e-3
    junk = HYPOTHESES.copy()
    junk[1, 1:] = 4
    counts = COUNTS.copy()
    counts[1, 1:] = 3
    others, other_gradients = gradient(nbest_batch(junk, counts))
    np.testing.assert_allclose(others, values, rtol=1e-6)
    for got, want in zip(other_gradients, gradients, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    none, _ = gradient({**nbest_batch(), "has_teacher": tf.constant([1.0, 0.0])})
    np.testing.assert_allclose(none, [values[0], 0.0], rtol=1e-6)
