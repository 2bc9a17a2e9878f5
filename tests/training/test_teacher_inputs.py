"""Losses from stored artifacts against the same losses from the live teacher."""

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd import lattice
from tf_rnnt_kd.losses import LossInputs, Objective
from tf_rnnt_kd.records import codecs
from tf_rnnt_kd.training.teacher_inputs import TeacherJoint, choose_artifacts, teacher_inputs

LENGTHS = {"logit_lengths": np.array([12, 9, 11], np.int32), "label_lengths": np.array([4, 3, 2], np.int32)}
FRAMES, LABELS, WIDTH, VOCAB_SIZE, K = 12, 4, 6, 20, 5
NODE_LOSSES = {"collapsed": {}, "alignment_kl": {}, "alignment_cross_entropy": {}, "full_sum": {}}


def random_joint(seed):
    random = np.random.default_rng(seed)
    shapes = ([3, FRAMES, WIDTH], [3, LABELS + 1, WIDTH], [WIDTH, VOCAB_SIZE], [VOCAB_SIZE])
    return lattice.Joint(*(random.normal(size=shape).astype(np.float32) for shape in shapes))


TEACHER, STUDENT = random_joint(0), random_joint(1)
TOKENS = np.random.default_rng(2).integers(1, VOCAB_SIZE, [3, LABELS]).astype(np.int32)


def nodes_of(joint):
    return lattice.node_log_probs(*joint[:4], labels=TOKENS, **LENGTHS)


def sizes():
    for index in range(3):
        yield index, int(LENGTHS["logit_lengths"][index]), int(LENGTHS["label_lengths"][index])


def padded(arrays, shape, fill):
    whole = np.full([3, *shape], fill, np.asarray(arrays[0]).dtype)
    for index, array in enumerate(arrays):
        whole[(index, *(slice(n) for n in np.shape(array)))] = array
    return tf.constant(whole)


def batch(*artifacts, band_width=0):
    """What the reader would give of the teacher, through the codecs."""
    found = {"tokens": tf.constant(TOKENS), "num_tokens": LENGTHS["label_lengths"], "has_teacher": tf.ones([3])}
    nodes, scores = nodes_of(TEACHER), lattice.full_sum(nodes_of(TEACHER), **LENGTHS)
    stacked = np.stack(nodes, -1)
    best = lattice.top_k(TEACHER, k=K, **LENGTHS)
    path = lattice.viterbi(nodes, **LENGTHS).token_frames.numpy()
    bands = [None] * 3
    if band_width:
        bands = [codecs.band_around(path[i, :u], width=band_width, num_frames=t) for i, t, u in sizes()]
    if "hard" in artifacts:
        found["teacher_log_prob"] = scores
    if "collapsed" in artifacts:
        stored = []
        for i, t, u in sizes():
            blank, label, rest = np.moveaxis(stacked[i, :t, : u + 1], -1, 0)
            encoded = codecs.encode_collapsed(blank, label=label, rest=rest, bits=16, band=bands[i])
            stored.append(codecs.decode_collapsed(encoded, num_frames=t, num_labels=u))
        found["teacher_nodes"] = padded(stored, [FRAMES, LABELS + 1, 3], lattice.NEGATIVE_INFINITY)
    if "factored" in artifacts:
        found |= {"teacher_encoder": TEACHER.encoder, "teacher_predictor": TEACHER.predictor}
    if "dense" in artifacts:
        logits = np.tanh(TEACHER.encoder[:, :, None] + TEACHER.predictor[:, None]) @ TEACHER.kernel + TEACHER.bias
        found["teacher_dense"] = tf.constant(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    if "top_k" in artifacts:
        stored = []
        for i, t, u in sizes():
            symbols, log_probs, rest = (x[i, :t, : u + 1].numpy() for x in best)
            encoded = codecs.encode_top_k(symbols, log_probs=log_probs, rest=rest, vocab_size=VOCAB_SIZE, band=bands[i])
            stored.append(codecs.decode_top_k(encoded, num_frames=t, num_labels=u))
        for name, shape, fill in zip(
            lattice.TopK._fields, ([K], [K], []), (0, *[lattice.NEGATIVE_INFINITY] * 2), strict=True
        ):
            values = [getattr(one, name) for one in stored]
            found[f"teacher_top_k_{name}"] = padded(values, [FRAMES, LABELS + 1, *shape], fill)
    return found


def evaluate(terms, batch, student=STUDENT):
    """({term: [B]}, gradient of their sum with respect to the student's encoder)."""
    objective = Objective(terms)
    with tf.GradientTape() as tape:
        encoder = tf.constant(student.encoder)
        tape.watch(encoder)
        student = student._replace(encoder=encoder)
        nodes = nodes_of(student)
        joint = TeacherJoint(TEACHER.kernel, TEACHER.bias) if "teacher_encoder" in batch else None
        given = teacher_inputs(batch, needs=objective.needs, student=nodes, lengths=LENGTHS, joint=joint)
        total, values = objective(LossInputs(nodes, student_joint=student, **LENGTHS, **given))
        total = tf.reduce_sum(total)
    return {name: value.numpy() for name, value in values.items()}, tape.gradient(total, encoder).numpy()


def live(terms, student=STUDENT, **given):
    nodes = nodes_of(student)
    given = {"teacher": nodes_of(TEACHER), "teacher_joint": TEACHER, **given}
    given["teacher_top_k"] = lattice.top_k(TEACHER, k=K, **LENGTHS)
    values = Objective(terms)(LossInputs(nodes, student_joint=student, **LENGTHS, **given))[1]
    return {name: value.numpy() for name, value in values.items()}


@pytest.mark.parametrize("artifacts", [("collapsed",), ("factored",), ("dense",), ("hard", "collapsed")])
def test_losses_over_nodes_are_those_of_the_live_teacher(artifacts):
    found, _ = evaluate(NODE_LOSSES, batch(*artifacts))
    for name, expected in live(NODE_LOSSES).items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-3, err_msg=name)


@pytest.mark.parametrize("artifact", ["factored", "dense"])
def test_losses_over_whole_distributions_are_those_of_the_live_teacher(artifact):
    terms = {"soft": {}, "soft by posterior": {"loss": "soft", "weigh_by": "posterior"}, "peak_alignment": {}}
    found, _ = evaluate(terms, batch(artifact))
    for name, expected in live(terms).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, err_msg=name)


def test_losses_over_the_best_symbols_are_those_of_the_live_teacher():
    found, _ = evaluate({"top_k": {}}, batch("top_k"))
    np.testing.assert_allclose(found["top_k"], live({"top_k": {}})["top_k"], rtol=2e-3)


def test_in_a_band_losses_over_nodes_and_symbols_see_its_nodes_only():
    path = lattice.viterbi(nodes_of(TEACHER), **LENGTHS).token_frames
    inside = np.zeros([3, FRAMES, LABELS + 1])
    for i, t, u in sizes():
        band = codecs.band_around(path[i, :u].numpy(), width=2, num_frames=t)
        width = u + 1 if band is None else band.width
        for frame in range(t):
            first = 0 if band is None else band.first[frame]
            inside[i, frame, first : first + width] = 1
    assert 0 < inside.sum() < sum(t * (u + 1) for _, t, u in sizes())
    terms = {"collapsed": {"reduction_over_nodes": "mean"}, "top_k": {"reduction_over_nodes": "mean"}}
    found, _ = evaluate(terms, batch("collapsed", "top_k", band_width=2))
    for name, expected in live(terms, node_weights=tf.constant(inside, tf.float32)).items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-3, err_msg=name)


def test_the_stored_score_is_exact_where_the_band_is_not_and_the_kl_stays_one():
    """alignment_kl of a model with itself is 0, though the band lacks alignments that the stored score counts."""
    everything = batch("hard", "collapsed", band_width=2)
    found, _ = evaluate({"full_sum": {}, "alignment_kl": {}}, everything, student=TEACHER)
    np.testing.assert_allclose(found["full_sum"], 0.0, atol=1e-4)
    assert (found["alignment_kl"] > -1e-3).all()
    without_score, _ = evaluate({"full_sum": {}}, batch("collapsed", band_width=2), student=TEACHER)
    assert without_score["full_sum"].max() > 0.1


@pytest.mark.parametrize(
    ("artifacts", "terms"),
    [
        (("hard", "collapsed"), NODE_LOSSES),
        (("factored",), {"soft": {}, "alignment_kl": {}}),
        (("top_k",), {"top_k": {}}),
        (("dense",), {"soft": {}, "collapsed": {}}),
    ],
)
def test_an_utterance_without_a_teacher_adds_nothing_and_moves_nothing(artifacts, terms):
    terms = {**terms, "rnnt": {"weight": 0.0}}
    whole, gradient = evaluate(terms, batch(*artifacts))
    without = batch(*artifacts)
    padding = {"teacher_nodes", "teacher_top_k_log_probs", "teacher_top_k_rest"}
    for name in list(without):
        if name.startswith("teacher"):
            fill = lattice.NEGATIVE_INFINITY if name in padding else 0
            first = np.arange(3).reshape([3] + [1] * (len(without[name].shape) - 1)) == 1
            without[name] = tf.where(first, tf.cast(fill, without[name].dtype), without[name])
    without["has_teacher"] = tf.constant([1.0, 0.0, 1.0])
    found, other = evaluate(terms, without)
    for name in found:
        np.testing.assert_allclose(found[name], np.where([1, 0, 1], whole[name], 0.0), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(other[[0, 2]], gradient[[0, 2]], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(other[1], 0.0)


def test_hypotheses_go_by_their_names():
    given = teacher_inputs(
        {
            "tokens": TOKENS, "has_teacher": tf.ones([3]),
            "nbest_tokens": tf.zeros([3, 2, 4], tf.int32), "nbest_num_tokens": tf.constant([[2, 0]] * 3),
            "nbest_log_prob": tf.constant([[-1.0, lattice.NEGATIVE_INFINITY]] * 3),
        },
        needs=("teacher_log_probs",), student=nodes_of(STUDENT), lengths=LENGTHS,
    )  # fmt: skip
    assert given["hypothesis_mask"].numpy().tolist() == [[True, False]] * 3
    assert given["hypothesis_lengths"].numpy().tolist() == [[2, 0]] * 3
    assert given["teacher_log_probs"].shape == (3, 2)
    assert teacher_inputs({"tokens": TOKENS}, needs=(), student=nodes_of(STUDENT), lengths=LENGTHS) == {}


def test_the_cheapest_artifact_that_serves_is_read():
    stored = {"hard", "collapsed", "factored", "top_k"}
    for terms, expected in (
        ({"rnnt": {}}, []),
        ({"collapsed": {}, "full_sum": {}}, ["collapsed", "hard"]),
        ({"soft": {}}, ["factored"]),
        ({"soft": {"weigh_by": "live"}}, ["collapsed", "factored"]),
        ({"top_k": {}, "full_sum": {}}, ["hard", "top_k"]),
    ):
        assert choose_artifacts(Objective(terms).needs, stored=stored) == expected
    assert choose_artifacts({"teacher"}, stored={"hard", "factored"}) == ["factored"]
    assert choose_artifacts({"teacher", "teacher_joint"}, stored={"hard", "dense"}) == ["dense"]
    with pytest.raises(ValueError, match="need teacher, which the artifacts collapsed or factored or dense give; the "
                                         "records have hard: .*--artifacts=hard,collapsed"):
        choose_artifacts({"teacher"}, stored={"hard"})
