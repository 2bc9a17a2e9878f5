"""A whole training that starts from a dense one, with noise on its weights, and ends sparse."""

import json

import numpy as np
import pytest

from tf_rnnt_kd.models import build_transducer
from tf_rnnt_kd.records import dataset, reader, schema
from tf_rnnt_kd.text import Tokenizer
from tf_rnnt_kd.training import trainer, workdir
from tf_rnnt_kd.training.config import default_config
from tf_rnnt_kd.training.sparsity import Sparsity
from tf_rnnt_kd.training.true_sparsity import true_sparsity
from tf_rnnt_kd.training.warm_start import warm_start


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Eight utterances of noise of one length, so that there is one bucket."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    utterances = [
        schema.Utterance(f"u-{index}", 0.1 * rng.normal(size=8000).astype(np.float32), "yes no", "s", "train")
        for index in range(8)
    ]
    shard = dataset.write_shard(
        folder / "records", file=dataset.shard_file("train", index=0, num_shards=1),
        records=[schema.encode_utterance(utterance) for utterance in utterances],
    )
    splits = {"train": dataset.Split((shard,), 8, 0.01, True)}
    dataset.DatasetInfo(kind="utterances", splits=splits, counts={}, rejected={}).save(folder / "records")
    Tokenizer.train_sentencepiece(["yes", "no"], vocab_size=3, model_type="word").save(folder / "tokenizer")
    return folder


def settings():
    config = default_config()
    config.frontend.num_mel_bins = 20
    config.model.encoder.update(width=16, num_layers=1, num_heads=2, kernel_size=3)
    config.model.predictor.width = 8
    config.model.joint_width = 16
    config.data.update(frames_per_batch=400, num_buckets=1, shuffle_buffer=8)
    config.augment.update(freq_width=3, time_masks=1)
    config.optimizer.update(name="adafactor", schedule="transformer", warmup_steps=2)
    config.sparsity.update(target=0.8, end=8, frequency=3)
    config.variational_noise.update(deviation=0.01, begin=2, include=("/predictor/",))
    config.train.update(memory_limit_gb=-1.0, steps=10, log_every=1, eval_every=2, checkpoint_every=4)
    return config


@pytest.fixture(scope="module")
def dense(corpus):
    """A training's folder with fresh weights."""
    folder, tokenizer = corpus / "dense", Tokenizer.load(corpus / "tokenizer")
    tokenizer.save(folder / "tokenizer")
    workdir.write_json(folder / "config.json", {"config": settings().to_dict()})
    model = build_transducer(settings().model.to_dict(), vocab_size=tokenizer.vocab_size, num_features=20)
    workdir.save_best(folder, model=model, step=1, dev_wer=0.5)
    return folder


def test_from_dense_weights_to_sparse_ones(corpus, dense, monkeypatch):
    config, source = settings(), reader.Source(str(corpus / "records"), "train")
    config.train.update(warm_start=str(dense), warm_start_only=("/encoder/",))
    arguments = {
        "config": config, "workdir": corpus / "sparse", "train_sources": [source], "dev_source": source,
        "tokenizer_dir": corpus / "tokenizer",
    }
    done = trainer.train(**arguments)
    assert done["skipped_steps"] == 0
    # Dev WER is measured after 2, 4, ... steps, and weights are chosen among the sparse ones.
    assert done["best_step"] >= 8
    sparse = workdir.load_model(corpus / "sparse")
    report = true_sparsity(sparse.model, config=sparse.config["sparsity"])
    assert abs(report["pruned_share"] - 0.8) < 0.02 and len(report["pruned"]) > 5
    log = [json.loads(line) for line in (corpus / "sparse" / "train_log.jsonl").read_text().splitlines()]
    shares = [entry["sparsity"] for entry in log if "sparsity" in entry]
    assert len(shares) == 10 and shares == sorted(shares) and abs(shares[-1] - 0.8) < 0.02
    taken = json.loads((corpus / "sparse" / "warm_start.json").read_text())
    assert taken["matched"] and all("/encoder/" in name for name in taken["matched"])
    assert not (taken["missing"] or taken["unused"] or taken["shape_mismatch"])
    # The last checkpoint of a real training holds the model's variables where a warm start looks for them.
    last = workdir.load_model(corpus / "sparse").model
    for variable in last.weights:
        variable.assign(np.full(variable.shape, 7.0))
    warm_start(last, corpus / "sparse" / "checkpoints" / "ckpt-10")
    report = true_sparsity(last, config=sparse.config["sparsity"])
    assert abs(report["pruned_share"] - 0.8) < 0.02
    # As if the last steps had been skipped: no weights are the best ones, and that is no success.
    (corpus / "sparse" / "done.json").unlink()
    monkeypatch.setattr(Sparsity, "is_reached", False)
    with pytest.raises(ValueError, match="not as sparse as sparsity.target=0.8.*fewer than sparsity.end=8 updates"):
        trainer.train(**arguments)
    assert not (corpus / "sparse" / "done.json").exists()
