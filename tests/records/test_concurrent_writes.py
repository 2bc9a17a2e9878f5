"""Two attempts at the same file at once, as a runner makes them when it believes a worker dead that is not."""

import json
import multiprocessing
import os
import signal

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.records import DatasetInfo, Split, write_atomically, write_shard

_RECORDS = [bytes([i]) * 50_000 for i in range(40)]  # more than a writer's buffer


def _read(path):
    return [record.numpy() for record in tf.data.TFRecordDataset(str(path))]


@pytest.mark.parametrize("sizes", [[], [0], [5, 0, 7], [1 << 20] * 3 + [1], [300_000] * 9])
def test_files_are_those_of_tensorflow_and_the_checksum_is_the_files(tmp_path, sizes):
    random = np.random.default_rng(0)
    records = [random.bytes(size) for size in sizes]
    shard = write_shard(tmp_path, file="x.tfrecord", records=records)
    with tf.io.TFRecordWriter(str(tmp_path / "plain")) as writer:
        for record in records:
            writer.write(record)
    content = (tmp_path / "x.tfrecord").read_bytes()
    assert content == (tmp_path / "plain").read_bytes()
    assert (shard.records, shard.bytes) == (len(records), len(content))
    assert shard.crc32c == f"{google_crc32c.value(content):08x}"


def test_an_attempt_inside_another_leaves_the_whole_file(tmp_path):
    inner = []

    def outer():
        for index, record in enumerate(_RECORDS):
            if index == 20:
                inner.append(write_shard(tmp_path, file="dev/x.tfrecord", records=_RECORDS))
                assert _read(tmp_path / "dev" / "x.tfrecord") == _RECORDS
            yield record

    shard = write_shard(tmp_path, file="dev/x.tfrecord", records=outer())
    assert [shard] == inner
    assert _read(tmp_path / "dev" / "x.tfrecord") == _RECORDS
    assert [path.name for path in (tmp_path / "dev").iterdir()] == ["x.tfrecord"]


def test_an_attempt_that_fails_late_does_not_touch_what_another_wrote(tmp_path):
    def outer():
        for index, record in enumerate(_RECORDS):
            if index == 20:
                write_shard(tmp_path, file="dev/x.tfrecord", records=_RECORDS)
            if index == 30:
                raise OSError("lost")
            yield record

    with pytest.raises(OSError, match="lost"):
        write_shard(tmp_path, file="dev/x.tfrecord", records=outer())
    assert _read(tmp_path / "dev" / "x.tfrecord") == _RECORDS
    assert [path.name for path in (tmp_path / "dev").iterdir()] == ["x.tfrecord"]


def _write_and_die(folder, kill_at):
    def records():
        for index, record in enumerate(_RECORDS):
            if index == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield record

    write_shard(folder, file="dev/x.tfrecord", records=records())


def test_what_a_killed_attempt_left_is_gone_when_the_dataset_is_complete(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=[tmp_path, 30])
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = (tmp_path / "dev").iterdir()
    assert left.name.startswith("x.tfrecord.") and left.name.endswith(".tmp")
    shard = write_shard(tmp_path, file="dev/x.tfrecord", records=_RECORDS)
    split = Split(shards=(shard,), utterances=40, hours=1.0, labelled=False)
    counts = {"input": 40, "written": 40, "rejected": 0}
    DatasetInfo(kind="utterances", splits={"dev": split}, counts=counts, rejected={}).save(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["dataset.json", "dev/x.tfrecord"]
    assert _read(tmp_path / "dev" / "x.tfrecord") == _RECORDS


def test_small_files_are_replaced_whole(tmp_path):
    path = tmp_path / "folder" / "page.json"
    for content in ("{}", json.dumps({"a": 1})):
        write_atomically(path, content=content)
        assert path.read_text() == content
    assert [file.name for file in path.parent.iterdir()] == ["page.json"]
