"""Batches: few shapes, little padding, one domain each, and refusals before the teacher."""

import apache_beam as beam
import numpy as np
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_pipelines.transforms.batch import Pending, ReadBatches, Task, batch_rows, bucket_samples, form_batches
from tf_rnnt_kd.records import Utterance, encode_utterance, shard_file, write_shard


def test_batches_have_few_shapes_and_little_padding():
    lengths = np.random.default_rng(0).integers(1, 40 * 16000, 2000)
    buckets = [bucket_samples(int(length)) for length in lengths]
    assert len(set(buckets)) < 30
    long = lengths > 8000
    assert (np.array(buckets) >= lengths).all()
    assert (np.array(buckets)[long] <= 1.35 * lengths[long]).all()
    assert bucket_samples(8000) == 8000 < bucket_samples(8001)
    pending = [Pending("s", 0, i, str(i), np.zeros(int(n), np.float32)) for i, n in enumerate(lengths[:200])]
    batches = list(form_batches(pending, batch_size=8))
    assert sorted(one.position for batch in batches for one in batch) == list(range(200))
    for batch in batches:
        assert len({bucket_samples(len(one.waveform)) for one in batch}) == 1
        assert len(batch) <= 8
    full = [len(batch) == 8 for batch in batches]
    assert full == sorted(full, reverse=True)
    assert {len(batch) for batch in batches} <= {1, 2, 4, 8}
    samples = sum(len(one.waveform) for batch in batches for one in batch)
    padded = sum(bucket_samples(len(batch[0].waveform)) * batch_rows(len(batch), batch_size=8) for batch in batches)
    assert padded <= 1.12 * samples
    assert [batch_rows(count, batch_size=12) for count in (1, 2, 3, 4, 5, 8, 9, 12)] == [1, 2, 4, 4, 8, 8, 12, 12]


def test_a_batch_has_one_domain():
    audio = np.zeros(9000, np.float32)
    pending = [Pending("s", 0, i, str(i), audio, domain="en" if i % 3 else "de") for i in range(20)]
    batches = list(form_batches(pending, batch_size=4))
    assert sorted(one.position for batch in batches for one in batch) == list(range(20))
    assert all(len({one.domain for one in batch}) == 1 for batch in batches)


def test_utterances_of_a_domain_without_a_teacher_are_refused(tmp_path):
    domains = ["en", "", "de", "fr"]
    records = [
        encode_utterance(Utterance(f"u{i}", np.ones(9000, np.float32) * 0.1, text, "s", "pool", domain=domain))
        for i, (domain, text) in enumerate(zip(domains, ["ONE", None, "ZWEI", None], strict=True))
    ]
    shard = write_shard(tmp_path, file=shard_file("pool", index=0, num_shards=1), records=records)
    task = Task("pool", 0, 1, f"{tmp_path}/{shard.file}", 4)

    for domains in EXPECTED:
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            tasks = pipeline | beam.Create([task])
            read = tasks | ReadBatches(batch_size=4, max_seconds=9.0, tokenizer=None, domains=domains)
            batched = read["batches"] | beam.FlatMap(lambda batch: [(u.utterance_id, u.domain, u.text) for u in batch])
            rejects = read["rejects"] | beam.MapTuple(lambda _, one: (one.utterance_id, one.reason, one.error))
            assert_that(batched, equal_to(EXPECTED[domains]), label="labelled")
            assert_that(rejects, equal_to(REFUSED[domains]), label="refused")


EXPECTED = {
    (): [("u0", "", "ONE"), ("u1", "", ""), ("u2", "", "ZWEI"), ("u3", "", "")],
    ("en", "de"): [("u0", "en", "ONE"), ("u2", "de", "ZWEI")],
}
REFUSED = {
    (): [],
    ("en", "de"): [
        (name, "no_teacher_for_domain", f"domain {domain!r}, --teacher has en, de")
        for name, domain in (("u1", ""), ("u3", "fr"))
    ],
}
