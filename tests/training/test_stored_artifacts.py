"""Training reads what its losses need from records: each artifact in a step or two, and a split without a teacher."""

import math

import numpy as np
import pytest

from tf_rnnt_kd.records import bytes_feature, codecs, dataset, features, reader, schema
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.session import Session

WIDTH, K, WORDS = 6, 3, ["ONE", "TWO", "THREE", "FOUR"]
TOKENIZER = Tokenizer.train_characters(WORDS)
SUBSAMPLING = 8


def utterance(index, split):
    random = np.random.default_rng(index)
    waveform = random.normal(size=int(random.integers(16000, 24000))).astype(np.float32) * 0.1
    return schema.Utterance(f"u{index}", waveform, str(random.choice(WORDS)), "s", split)


def labelled(one, joint, artifacts, *, band_width, factored_type):
    """A distillation record with artifacts of random projections."""
    random = np.random.default_rng(len(one.waveform))
    tokens = TOKENIZER.encode(one.text)
    num_frames = math.ceil(math.ceil(len(one.waveform) / 160) / SUBSAMPLING)
    projections = [random.normal(size=[n, WIDTH]).astype(np.float32) for n in (num_frames, len(tokens) + 1)]
    logits = np.tanh(projections[0][:, None] + projections[1]) @ joint["kernel"] + joint["bias"]
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    order = np.argsort(-log_probs, axis=-1)
    best = np.take_along_axis(log_probs, order, -1)
    rest = np.logaddexp.reduce(best[..., K:], axis=-1)
    label = np.full(log_probs.shape[:2], -np.inf)
    for u, token in enumerate(tokens):
        label[:, u] = log_probs[:, u, token]
    others = np.log1p(-np.exp(np.logaddexp(log_probs[..., 0], label)))
    frames = np.linspace(0, num_frames - 1, len(tokens)).astype(int)
    band = codecs.band_around(frames, width=band_width, num_frames=num_frames) if band_width else None
    nodes = np.stack([log_probs[..., 0], label, others], -1)
    top_k = codecs.encode_top_k(
        order[..., :K], log_probs=best[..., :K], rest=rest, vocab_size=len(joint["bias"]), band=band
    )
    made = {
        "collapsed": features.collapsed_features(nodes, bits=8, band=band),
        "factored": features.factored_features(*projections, factored_type=factored_type),
        "top_k": {"top_k": bytes_feature(top_k)},
        "dense": {"dense": bytes_feature(codecs.encode_dense(log_probs))},
    }
    teacher = schema.TeacherLabels(tokens, one.text, -7.5, num_frames, frames, [0.5] * len(tokens), [0.5])
    chosen = {name: feature for artifact in artifacts for name, feature in made[artifact].items()}
    return schema.encode_distillation(schema.encode_utterance(one), teacher=teacher, artifacts=chosen)


def write(folder, split, records, **info):
    shard = dataset.write_shard(folder, file=dataset.shard_file(split, index=0, num_shards=1), records=records)
    splits = {split: dataset.Split((shard,), len(records), 0.1, True)}
    dataset.DatasetInfo(kind="distillation", splits=splits, counts={}, rejected={}, **info).save(folder)
    return reader.Source(str(folder), split)


def sources(folder, *artifacts, band_width=0, factored_type="bfloat16", frame_seconds=0.08):
    random = np.random.default_rng(0)
    joint = {"kernel": random.normal(size=[WIDTH, TOKENIZER.vocab_size]), "bias": np.zeros(TOKENIZER.vocab_size)}
    joint = {name: array.astype(np.float32) for name, array in joint.items()}
    records = [
        labelled(utterance(i, "soft"), joint, artifacts, band_width=band_width, factored_type=factored_type)
        for i in range(8)
    ]
    teacher = {
        "model_id": "a", "tokenizer_hash": TOKENIZER.hash, "frame_seconds": frame_seconds, "joint_width": WIDTH,
        "vocab_size": TOKENIZER.vocab_size,
    }  # fmt: skip
    sizes = {name: {"bytes": 1, "bytes_per_hour": 1} for name in ("hard", *artifacts)}
    taught = write(folder / "soft", "soft", records, teacher=teacher, artifacts=sizes)
    np.savez(folder / "soft" / "joint.npz", **joint)
    plain = [schema.encode_utterance(utterance(100 + i, "plain")) for i in range(2)]
    return [taught, write(folder / "plain", "plain", plain)]


def session(sources, losses):
    config = default_config()
    config.frontend.num_mel_bins = 20
    config.model.encoder.update(width=16, num_layers=1, num_heads=2, kernel_size=3, subsampling=SUBSAMPLING)
    config.model.predictor.width = 4
    config.model.joint_width = 12
    config.data.update(frames_per_batch=1600, num_buckets=1, shuffle_buffer=16)
    config.augment.update(freq_width=3, time_masks=1)
    config.optimizer.ema_decay = 0.0  # a second model would take seconds to build
    config.losses = {"rnnt": {"weight": 1.0}, **losses}
    made = Session(config, sources=sources, tokenizer=TOKENIZER, frontend=LogMelFrontend(num_mel_bins=20))
    made.start()
    return made


@pytest.mark.parametrize(
    ("artifacts", "kwargs", "losses"),
    [
        (("collapsed",), {"band_width": 3}, {"collapsed": {}, "alignment_kl": {}, "full_sum": {}}),
        (("factored",), {"factored_type": "int8"}, {"soft": {}, "collapsed": {"reduction_over_nodes": "mean"}}),
        (("top_k", "collapsed"), {"band_width": 3}, {"top_k": {"weigh_by": "posterior"}}),
        (("dense",), {}, {"soft": {}, "best_path": {}}),
    ],
)
def test_a_step_with_each_artifact(tmp_path, artifacts, kwargs, losses):
    made = session(sources(tmp_path, *artifacts, **kwargs), losses)
    with_teacher = []
    for _ in range(2):
        batch, terms, finite = made.advance()
        assert finite
        with_teacher.append(batch["has_teacher"].numpy())
        for name in losses:
            assert np.isfinite(terms[name]) and terms[name] > 0
    assert {0.0, 1.0} == set(np.concatenate(with_teacher))


def test_scores_serve_a_student_of_another_frame_rate_and_lattices_do_not(tmp_path):
    found = sources(tmp_path, "collapsed", frame_seconds=0.04)
    _, terms, finite = session(found, {"full_sum": {}}).advance()
    assert finite and terms["full_sum"] > 0
    with pytest.raises(ValueError, match="40 ms frames, this model 80 ms"):
        session(found, {"collapsed": {}})


def test_losses_without_their_artifact_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="the losses need teacher_joint, .*the records have collapsed, hard"):
        session(sources(tmp_path, "collapsed"), {"soft": {}})
