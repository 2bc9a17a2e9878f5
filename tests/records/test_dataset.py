import json

import pytest
import tensorflow as tf

from tf_rnnt_kd.records import DatasetInfo, Shard, Split, read_shard, shard_file, write_shard


def _info(*shards):
    split = Split(shards=tuple(shards), utterances=3, hours=0.5, labelled=True)
    return DatasetInfo(
        kind="utterances",
        splits={"dev": split},
        counts={"input": 4, "written": 3, "rejected": 1},
        rejected={"silence": 1},
        settings={"num_shards": 1},
    )


def _crc32c(data):
    """By the definition, bit by bit."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
    return f"{checksum ^ 0xFFFFFFFF:08x}"


def test_a_shard_is_plain_tfrecord_with_true_numbers(tmp_path):
    shard = write_shard(tmp_path, file="dev/x.tfrecord", records=[b"one", b"", b"three"])
    path = tmp_path / "dev" / "x.tfrecord"
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == [b"one", b"", b"three"]
    assert shard == Shard("dev/x.tfrecord", 3, len(path.read_bytes()), _crc32c(path.read_bytes()))
    assert list(read_shard(path)) == [b"one", b"", b"three"]
    assert [file.name for file in path.parent.iterdir()] == ["x.tfrecord"]


def test_a_run_that_dies_while_writing_leaves_the_old_shard(tmp_path):
    def dying():
        yield b"new"
        raise RuntimeError("killed")

    write_shard(tmp_path, file="x.tfrecord", records=[b"old"])
    with pytest.raises(RuntimeError, match="killed"):
        write_shard(tmp_path, file="x.tfrecord", records=dying())
    assert list(read_shard(tmp_path / "x.tfrecord")) == [b"old"]
    write_shard(tmp_path, file="x.tfrecord", records=[b"new"])
    assert list(read_shard(tmp_path / "x.tfrecord")) == [b"new"]
    assert [file.name for file in tmp_path.iterdir()] == ["x.tfrecord"]


def test_dataset_json_is_json_and_reads_back(tmp_path):
    shard = write_shard(tmp_path, file=shard_file("dev", index=0, num_shards=1), records=[b"a"])
    info = _info(shard)
    info.save(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert content["kind"] == "utterances"
    assert content["sample_rate"] == 16000
    assert content["splits"]["dev"]["shards"][0]["file"] == "dev/dev-00000-of-00001.tfrecord"
    assert "teacher" not in content
    assert DatasetInfo.load(tmp_path) == info
    assert info.shard_paths(tmp_path, "dev") == [f"{tmp_path}/dev/dev-00000-of-00001.tfrecord"]


def test_errors_name_the_file_and_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="no complete dataset.*prepare_corpus"):
        DatasetInfo.load(tmp_path)
    shard = write_shard(tmp_path, file="dev/x.tfrecord", records=[b"a"])
    info = _info(shard)
    with pytest.raises(ValueError, match="no split 'test' in this dataset, it has: dev"):
        info.shard_paths(tmp_path, "test")
    (tmp_path / "dev" / "x.tfrecord").write_bytes(b"short")
    with pytest.raises(ValueError, match="x.tfrecord has 5 bytes, dataset.json says"):
        info.shard_paths(tmp_path, "dev")
    (tmp_path / "dev" / "x.tfrecord").unlink()
    with pytest.raises(ValueError, match="x.tfrecord is missing"):
        info.shard_paths(tmp_path, "dev")
    (tmp_path / "dataset.json").write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(ValueError, match="schema version 99, this code reads 2: make it again"):
        DatasetInfo.load(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="make the dataset again"):
        DatasetInfo.load(tmp_path)
