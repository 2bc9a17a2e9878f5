"""A training with a teacher in its step: hidden layers first, then the output; and going on from a checkpoint."""

import numpy as np
import pytest
import toy_teacher

from tf_rnnt_kd.records import dataset, reader, schema
from tf_rnnt_kd.speech.frontend import LogMelFrontend
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.session import Session

WORDS = ["ONE", "TWO", "THREE", "FOUR"]
TOKENIZER = Tokenizer.train_characters(WORDS)
SWITCH = 1
LOSSES = {
    "rnnt": {"weight": 1.0},
    "hidden": {"weight": {"kind": "step", "from": 2.0, "to": 0.0, "begin": SWITCH}, "layer": "block_0:high"},
    "soft": {"weight": {"kind": "step", "to": 0.5, "begin": SWITCH}},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("records"), np.random.default_rng(0)
    waveforms = [rng.normal(size=int(rng.integers(16_000, 24_000))).astype(np.float32) * 0.1 for _ in range(6)]
    records = [
        schema.encode_utterance(schema.Utterance(f"u{i}", waveform, str(rng.choice(WORDS)), "s", "plain"))
        for i, waveform in enumerate(waveforms)
    ]
    shard = dataset.write_shard(folder, file=dataset.shard_file("plain", index=0, num_shards=1), records=records)
    splits = {"plain": dataset.Split((shard,), len(records), 0.1, True)}
    dataset.DatasetInfo(kind="corpus", splits=splits, counts={}, rejected={}).save(folder)
    return [reader.Source(str(folder), "plain")]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "model"
    return toy_teacher.save(
        toy_teacher.ToyTeacher(TOKENIZER.vocab_size), folder, tokenizer_hash=TOKENIZER.hash
    )


def make(sources, teacher, losses=LOSSES, **changes):
    config = default_config()
    config.frontend.num_mel_bins = 20
    config.model.encoder.update(width=16, num_layers=1, num_heads=2, kernel_size=3, dropout=0.2)
    config.model.predictor.width = 4
    config.model.joint_width = 12
    config.data.update(frames_per_batch=640, num_buckets=1, shuffle_buffer=8)
    config.augment.update(freq_width=3, time_masks=1, speed_factors=(0.9, 1.0))
    config.distillation.online_teacher = str(teacher)
    config.losses = losses
    config.optimizer.warmup_steps = 0
    config.train.update(jit_compile=False, steps=4)
    config.update_from_flattened_dict(changes)
    return Session(config, sources=sources, tokenizer=TOKENIZER, frontend=LogMelFrontend(num_mel_bins=20))


def test_stages_follow_each_other_and_a_checkpoint_holds_the_projections(tmp_path, sources, teacher):
    session = make(sources, teacher)
    session.start()
    projection = session.forward.trainable_variables[-1]
    assert "hidden_layers" in projection.path
    before = projection.numpy()
    for step in range(SWITCH + 1):
        _, terms, finite = session.advance()
        assert finite and all(np.isfinite(float(terms[name])) and terms[name] > 0 for name in LOSSES)
        weights = {"rnnt": 1.0, "hidden": 2.0, "soft": 0.0}
        if step >= SWITCH:
            weights |= {"hidden": 0.0, "soft": 0.5}
        want = sum(weight * float(terms[name]) for name, weight in weights.items())
        np.testing.assert_allclose(float(terms["loss"]), want, rtol=1e-5)
        if step == SWITCH - 1:
            path = session.checkpoint.write(str(tmp_path / "ckpt"))
            halfway = projection.numpy()
    assert np.any(halfway != before)
    resumed = make(sources, teacher)
    resumed.restore(path)
    np.testing.assert_array_equal(resumed.forward.trainable_variables[-1], halfway)


def test_a_teacher_that_does_not_fit_is_refused_before_training(sources, teacher):
    with pytest.raises(ValueError, match="80 ms frames, this model 40 ms"):
        make(sources, teacher, **{"model.encoder.subsampling": 4})
    with pytest.raises(ValueError, match="the teacher has no layer 'middle', it has low, high"):
        make(sources, teacher, losses={"hidden": {"layer": "block_0:middle"}})
    with pytest.raises(ValueError, match="warps the time axis"):
        make(sources, teacher, **{"augment.policy": "LD"})
