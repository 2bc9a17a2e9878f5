"""One training step: loss and update against the same computed by hand, bounded traces, non-finite steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.losses import Objective, rnnt_loss
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.forward import Forward
from tf_rnnt_kd.training.optimizer import WeightAverage, build_optimizer
from tf_rnnt_kd.training.step import TrainStep

SPEC = {
    "features": tf.TensorSpec([None, None, 3]),
    "num_frames": tf.TensorSpec([None], tf.int32),
    "tokens": tf.TensorSpec([None, None], tf.int32),
    "num_tokens": tf.TensorSpec([None], tf.int32),
    "utterance_id": tf.TensorSpec([None], tf.string),
}
TEACHER_SPEC = {"teacher_nodes": tf.TensorSpec([None, None, None, 3]), "has_teacher": tf.TensorSpec([None])}
JOINT_SPEC = {
    "teacher_encoder": tf.TensorSpec([None, None, 2]),
    "teacher_predictor": tf.TensorSpec([None, None, 2]),
    "has_teacher": tf.TensorSpec([None]),
}
TEACHER_JOINT = np.array([[1.0, -1, 0, 2, 0.5], [0, 3, 1, -1, 0]], np.float32), np.zeros(5, np.float32)


def setting(jit_compile=False, **losses):
    keras.utils.set_random_seed(0)
    config = default_config()
    config.model.encoder.update(width=8, num_layers=1, num_heads=2, kernel_size=3, dropout=0.0)
    config.model.predictor.update(width=4, dropout=0.0)
    config.model.joint_width = 6
    config.train.jit_compile = jit_compile
    config.augment.update(freq_masks=0, time_masks=0)
    config.optimizer.update(warmup_steps=0, ema_decay=0.5, clip_norm=1e9, weight_decay=0.0)
    if losses:
        config.losses = losses
    models = [build_transducer(config.model.to_dict(), vocab_size=5, num_features=3) for _ in range(2)]
    optimizer = build_optimizer(config.optimizer, steps=10)
    optimizer.build(models[0].trainable_variables)
    average = WeightAverage(models[0], average_model=models[1], decay=0.5)
    average.start()
    forward = Forward(models[0], config, Objective(config.losses), TEACHER_JOINT if "soft" in losses else None)
    step = TrainStep(
        forward, variables=models[0].trainable_variables, optimizer=optimizer, average=average, config=config,
        batch_spec=SPEC | (TEACHER_SPEC if "collapsed" in losses else {}) | (JOINT_SPEC if "soft" in losses else {}),
    )
    return models, step


def batch(num_frames=32, *, teacher=False, seed=0):
    rng = np.random.default_rng(seed)
    made = {
        "features": tf.constant(rng.normal(size=[2, num_frames, 3]), tf.float32),
        "num_frames": tf.constant([num_frames, num_frames - 9]),
        "tokens": tf.constant([[1, 2, 3], [4, 1, 0]]),
        "num_tokens": tf.constant([3, 2]),
        "utterance_id": tf.constant(["a", "b"]),
    }
    if teacher:
        logits = rng.normal(size=[2, num_frames // 8, 4, 3])
        made["teacher_nodes"] = tf.nn.log_softmax(tf.constant(logits, tf.float32))
        made["has_teacher"] = tf.constant([1.0, 0.0])
    return made


def test_loss_equals_the_dense_rnnt_loss_and_a_step_lowers_it():
    (model, _), step = setting()
    data = batch()

    def dense():
        encoded, lengths = model.encode(data["features"], data["num_frames"])
        predicted = model.predict_labels(data["tokens"])
        logits = model.joint_logits(encoded[:, :, None], predicted[:, None])
        losses = rnnt_loss(logits, labels=data["tokens"], logit_lengths=lengths, label_lengths=data["num_tokens"])
        return float(tf.reduce_mean(losses))

    before = dense()
    terms = step([data], tf.constant(0))
    np.testing.assert_allclose(terms["loss"], before, rtol=1e-5)
    assert bool(terms["finite"]) and float(terms["gradient_norm"]) > 0
    assert dense() < before


def test_the_average_follows_its_formula():
    (model, average), step = setting()
    start = [weight.numpy() for weight in model.weights]
    step([batch()], tf.constant(0))
    for old, new, mean in zip(start, model.weights, average.weights, strict=True):
        # After 0 updates the decay is min(0.5, 1 / 10).
        np.testing.assert_allclose(mean, old + 0.9 * (new.numpy() - old), atol=1e-6)


def test_a_step_that_is_not_finite_changes_nothing():
    (model, average), step = setting()
    before = [weight.numpy() for weight in [*model.weights, *average.weights]]
    data = batch()
    data["features"] = tf.fill([2, 32, 3], np.inf)
    assert not bool(step([data], tf.constant(0))["finite"])
    for old, new in zip(before, [*model.weights, *average.weights], strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert bool(step([batch()], tf.constant(1))["finite"])


def test_collapsed_distillation_counts_only_utterances_with_a_teacher():
    both = {"rnnt": {"weight": 1.0}, "collapsed": {"weight": 0.1}}
    _, step = setting(**both)
    data = batch(teacher=True)
    with_one = step([data], tf.constant(0))
    np.testing.assert_allclose(with_one["loss"], with_one["rnnt"] + 0.1 * with_one["collapsed"], rtol=1e-5)
    assert float(with_one["collapsed"]) > 0
    _, step = setting(**both)
    data["has_teacher"] = tf.constant([0.0, 0.0])
    without = step([data], tf.constant(0))
    assert float(without["collapsed"]) == 0
    np.testing.assert_allclose(without["rnnt"], with_one["rnnt"], rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_soft_distillation_from_factored_lattices_against_dense_logits(jit_compile):
    (model, _), step = setting(jit_compile, rnnt={"weight": 1.0}, soft={"weight": 0.1, "shift": 1})
    data, rng = batch(), np.random.default_rng(1)
    data["teacher_encoder"] = tf.constant(rng.normal(size=[2, 4, 2]), tf.float32)
    data["teacher_predictor"] = tf.constant(rng.normal(size=[2, 4, 2]), tf.float32)
    data["has_teacher"] = tf.constant([0.0, 1.0])
    encoded, lengths = model.encode(data["features"], data["num_frames"])
    student = tf.nn.log_softmax(model.joint_logits(encoded[:, :, None], model.predict_labels(data["tokens"])[:, None]))
    hidden = np.tanh(data["teacher_encoder"].numpy()[:, :, None] + data["teacher_predictor"].numpy()[:, None])
    teacher = tf.nn.log_softmax(hidden @ TEACHER_JOINT[0])
    kl = tf.reduce_sum(tf.exp(teacher[1, :-1]) * (teacher[1, :-1] - student[1, 1:]), axis=-1)
    # Utterance b has a teacher, 3 frames and 2 labels; its teacher's last frame has no partner.
    want = tf.reduce_sum(kl[: int(lengths[1]) - 1, :3]) / 2
    terms = step([data], tf.constant(0))
    np.testing.assert_allclose(terms["soft"], want, rtol=1e-4)
    np.testing.assert_allclose(terms["loss"], terms["rnnt"] + 0.1 * terms["soft"], rtol=1e-5)
    assert bool(terms["finite"])


def test_one_graph_serves_all_shapes_where_xla_does_not_compile_it():
    _, step = setting()
    for index, num_frames in enumerate((32, 40, 32)):
        step([batch(num_frames, seed=index)], tf.constant(index))
    assert step.compiled.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("losses", [{"no_such_loss": {"weight": 1.0}}, {"rnnt": {"wieght": 1.0}}])
def test_unknown_losses_and_options_are_errors(losses):
    with pytest.raises(ValueError, match="no_such_loss|wieght"):
        setting(**losses)
