"""A teacher within the step gives what records hold of it, up to what storing rounds; misfits are refused."""

import math

import numpy as np
import pytest
import tensorflow as tf
import toy_teacher

from tf_rnnt_kd import lattice
from tf_rnnt_kd.losses import LossInputs, Objective
from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.records import dataset, features, reader, schema
from tf_rnnt_kd.serving import Recognizer
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import workdir
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.online_teacher import OnlineTeacher
from tf_rnnt_kd.training.teacher_inputs import TeacherJoint, teacher_inputs

WORDS = ["ONE", "TWO", "THREE", "FOUR"]
TOKENIZER, FRONTEND = Tokenizer.train_characters(WORDS), LogMelFrontend(num_mel_bins=20)
STUDENT = {"tokenizer_hash": TOKENIZER.hash, "sample_rate": 16_000, "frame_seconds": 0.08}
TERMS = {
    "collapsed": {}, "alignment_kl": {}, "soft": {}, "full_sum": {}, "best_path": {},
    "top_k": {"weigh_by": "posterior"},
}


@pytest.fixture(scope="module")
def toy():
    return toy_teacher.ToyTeacher(TOKENIZER.vocab_size)


@pytest.fixture(scope="module")
def saved(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "model"
    return toy_teacher.save(toy, folder, tokenizer_hash=TOKENIZER.hash)


@pytest.fixture(scope="module")
def batch(toy, tmp_path_factory):
    """A batch of records that hold the toy teacher's factored lattices, score and hidden layers; and its waveforms."""
    folder, rng, records = tmp_path_factory.mktemp("records"), np.random.default_rng(0), []
    for index in range(3):
        waveform = rng.normal(size=int(rng.integers(16_000, 24_000))).astype(np.float32) * 0.1
        one = schema.Utterance(f"u{index}", waveform, str(rng.choice(WORDS)), "s", "soft")
        encoded = schema.encode_utterance(one)
        # What a pipeline labels is the record's audio, which has 16 bits.
        heard = schema.from_pcm16_tf(schema.parse_example(encoded)["audio"].bytes_list.value[0])[None]
        tokens = TOKENIZER.encode(one.text)
        size = tf.constant([len(waveform)])
        forced = toy.teacher_forced(heard, size, tf.constant([tokens]), tf.constant([len(tokens)]))
        projections = [forced[f"{part}_projection"][0].numpy() for part in ("encoder", "predictor")]
        layers = {name: values[0].numpy() for name, values in toy.hidden(heard, size).items() if name != "num_frames"}
        made = {
            **features.factored_features(*projections, factored_type="bfloat16"), **features.hidden_features(layers),
        }
        num_frames = math.ceil(len(waveform) / 1280)
        score = float(forced["full_sum_log_prob"][0])
        labels = schema.TeacherLabels(
            tokens, one.text, score, num_frames, [0] * len(tokens), [0.5] * len(tokens), [0.5]
        )
        records.append(schema.encode_distillation(encoded, teacher=labels, artifacts=made))
    shard = dataset.write_shard(folder, file=dataset.shard_file("soft", index=0, num_shards=1), records=records)
    sizes = {name: {"bytes": 1, "bytes_per_hour": 1} for name in ("hard", "factored", "hidden")}
    teacher = {"model_id": "toy", "tokenizer_hash": TOKENIZER.hash, "frame_seconds": 0.08}
    dataset.DatasetInfo(
        kind="distillation", splits={"soft": dataset.Split((shard,), 3, 0.1, True)}, counts={}, rejected={},
        teacher=teacher, artifacts=sizes,
    ).save(folder)
    batches = reader.training_batches(
        [reader.Source(str(folder), "soft")], tokenizer=TOKENIZER, frontend=FRONTEND, subsampling=8,
        buckets=[reader.Bucket(160, 8, 3)], seed=1, shuffle_buffer=4, artifacts=("hard", "factored", "hidden"),
        waveforms=True,
    )
    return next(iter(batches))


def sizes_of(batch):
    return {"logit_lengths": -(-batch["num_frames"] // 8), "label_lengths": batch["num_tokens"]}


def losses(batch, terms, joint):
    """{term: [B]} of a random student on this batch."""
    rng, count = np.random.default_rng(5), batch["tokens"].shape
    student = lattice.Joint(
        rng.normal(size=[count[0], 20, 4]).astype(np.float32), rng.normal(size=[count[0], count[1] + 1, 4]),
        rng.normal(size=[4, TOKENIZER.vocab_size]), np.zeros(TOKENIZER.vocab_size),
    )
    sizes, objective = sizes_of(batch), Objective(terms)
    nodes = lattice.node_log_probs(**student._asdict(), labels=batch["tokens"], **sizes)
    given = teacher_inputs(batch, needs=objective.needs, student=nodes, lengths=sizes, joint=joint)
    values = objective(LossInputs(nodes, student_joint=student, **sizes, **given))[1]
    return {name: value.numpy() for name, value in values.items()}


def heard(batch, teacher, needs):
    """The batch with nothing but the online teacher's tensors."""
    plain = {name: value for name, value in batch.items() if "teacher" not in name}
    return {**plain, **teacher(plain, needs=needs, num_frames=20, **sizes_of(batch))}


def test_online_and_stored_agree_up_to_the_rounding_of_what_is_stored(toy, saved, batch):
    stored_terms = {name: TERMS[name] for name in TERMS if name != "top_k"}
    teacher = OnlineTeacher(saved, top_k=4)
    joint = TeacherJoint(toy.kernel.numpy(), toy.bias.numpy())
    np.testing.assert_array_equal(teacher.joint.kernel, joint.kernel)
    online = heard(batch, teacher, Objective({**TERMS, "hidden": {}}).needs)
    np.testing.assert_array_equal(online["has_teacher"], batch["has_teacher"])
    np.testing.assert_array_equal(online["has_teacher"], 1.0)
    for name in ("teacher_encoder", "teacher_hidden/low", "teacher_hidden/high", "teacher_predictor"):
        axis = "label_lengths" if name == "teacher_predictor" else "logit_lengths"
        exists = tf.sequence_mask(sizes_of(batch)[axis] + (axis == "label_lengths"), online[name].shape[1])
        got, want = (tf.boolean_mask(values[name], exists).numpy() for values in (online, batch))
        np.testing.assert_allclose(got, want, rtol=2**-8, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(online["teacher_log_prob"], batch["teacher_log_prob"], rtol=1e-4)
    stored = losses(batch, stored_terms, joint)
    found = losses(online, TERMS, teacher.joint)
    for name, value in stored.items():
        np.testing.assert_allclose(found[name], value, rtol=0.02, err_msg=name)
    # With all symbols, the best K are a whole distribution.
    everything = heard(batch, OnlineTeacher(saved, top_k=TOKENIZER.vocab_size), {"teacher_top_k"})
    whole = losses(everything, {"top_k": {}}, teacher.joint)
    np.testing.assert_allclose(whole["top_k"], losses(online, {"soft": {}}, teacher.joint)["soft"], rtol=1e-3)


def test_hypotheses_are_cut_and_filled_to_one_number(saved, batch):
    for count in (1, 2, 3):
        found = heard(batch, OnlineTeacher(saved, num_hypotheses=count), {"teacher_log_probs"})
        assert found["nbest_tokens"].shape[:2] == (3, count)
        exists = found["nbest_log_prob"].numpy() > -1e29
        assert exists.tolist() == [[True, True, False][:count]] * 3
        assert found["nbest_num_tokens"].numpy().tolist() == [[3, 1, 0][:count]] * 3


@pytest.mark.parametrize(("extra", "teaches"), [(-1, True), (3, False)])
def test_a_frame_more_or_less_is_fitted_and_other_counts_do_not_teach(tmp_path, batch, extra, teaches):
    other = toy_teacher.ToyTeacher(TOKENIZER.vocab_size, extra_frames=extra)
    folder = toy_teacher.save(other, tmp_path / "m", tokenizer_hash=TOKENIZER.hash)
    found = heard(batch, OnlineTeacher(folder), {"teacher_joint"})
    assert found["teacher_encoder"].shape == (3, 20, toy_teacher.JOINT_WIDTH)
    np.testing.assert_array_equal(found["has_teacher"], float(teaches))
    if extra == -1:
        for row, last in enumerate(sizes_of(batch)["logit_lengths"].numpy() - 1):
            np.testing.assert_array_equal(found["teacher_encoder"][row, last], found["teacher_encoder"][row, last - 1])
    # Scores need no frames.
    np.testing.assert_array_equal(heard(batch, OnlineTeacher(folder), {"teacher_log_prob"})["has_teacher"], 1.0)


def test_a_workdir_teaches_what_its_export_would(tmp_path, batch):
    config = default_config()
    config.frontend.num_mel_bins = 20
    config.model.encoder.update(width=8, num_layers=2, num_heads=2, kernel_size=3)
    config.model.predictor.width = 4
    config.model.joint_width = 6
    model = build_transducer(config.model.to_dict(), vocab_size=TOKENIZER.vocab_size, num_features=20)
    TOKENIZER.save(tmp_path / "tokenizer")
    workdir.write_json(tmp_path / "config.json", {"config": config.to_dict()})
    workdir.save_best(tmp_path, model=model, step=1, dev_wer=0.5)
    with pytest.raises(ValueError, match="nor a complete training"):
        OnlineTeacher(tmp_path)
    workdir.write_json(tmp_path / "done.json", {})
    teacher = OnlineTeacher(tmp_path)
    teacher.check(needs={"teacher", "teacher_hidden"}, **STUDENT)
    found = heard(batch, teacher, {"teacher_joint", "teacher_log_prob", "teacher_hidden"})
    recognizer = Recognizer(model, tokenizer=TOKENIZER, frontend=FRONTEND)
    audio = {name: batch[name] for name in ("waveforms", "num_samples")}
    forced = recognizer.teacher_forced(**audio, tokens=batch["tokens"], num_tokens=batch["num_tokens"])
    layer = recognizer.hidden(**audio)["block_0"]
    np.testing.assert_allclose(found["teacher_log_prob"], forced["full_sum_log_prob"], rtol=1e-5)
    for row, (frames, labels) in enumerate(zip(forced["num_frames"].numpy(), batch["num_tokens"].numpy(), strict=True)):
        for name, want, size in (
            ("teacher_encoder", forced["encoder_projection"], frames),
            ("teacher_predictor", forced["predictor_projection"], labels + 1),
            ("teacher_hidden/block_0", layer, frames),
        ):
            np.testing.assert_allclose(found[name][row, :size], want[row, :size], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(teacher.joint.kernel, recognizer.joint()["kernel"])


def test_misfits_are_refused(tmp_path, toy, saved):
    teacher = OnlineTeacher(saved)
    teacher.check(needs={"teacher", "teacher_log_probs"}, **STUDENT)
    teacher.check(needs={"teacher_log_prob"}, **STUDENT | {"frame_seconds": 0.04})
    for change, message in (
        ({"tokenizer_hash": "other"}, "--tokenizer"), ({"sample_rate": 8000}, "hears 16000 Hz"),
        ({"frame_seconds": 0.04}, "80 ms frames, this model 40 ms"),
    ):
        with pytest.raises(ValueError, match=message):
            teacher.check(needs={"teacher"}, **STUDENT | change)
    bare = toy_teacher.save(
        toy, tmp_path / "bare", tokenizer_hash=TOKENIZER.hash, signatures=("teacher_forced", "joint")
    )
    with pytest.raises(ValueError, match="has no signature hidden"):
        OnlineTeacher(bare).check(needs={"teacher_hidden"}, **STUDENT)
    (bare / "assets.extra" / "metadata.json").unlink()
    with pytest.raises(ValueError, match="lacks assets.extra/metadata.json"):
        OnlineTeacher(bare)
    with pytest.raises(ValueError, match="neither a SavedModel nor a complete training"):
        OnlineTeacher(tmp_path)
