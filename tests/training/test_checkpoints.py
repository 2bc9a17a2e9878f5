"""Checkpoints: only whole ones are restored, whatever was interrupted or damaged; a full disk spoils none."""

import json
import re
import resource

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.training import checkpoints as checkpoints_lib
from tf_rnnt_kd.training.checkpoints import Checkpoints
from tf_rnnt_kd.training.faults import StorageError


class State:
    """A state of some values that tells steps apart, and its checkpoints."""

    def __init__(self, folder, *, size=1000, keep=2, **worker):
        self.value, self.iterator = tf.Variable(tf.zeros([size])), iter(tf.data.Dataset.range(100))
        self.checkpoint = tf.train.Checkpoint(value=self.value, iterator=self.iterator)
        self.checkpoints = Checkpoints(self.checkpoint, folder, keep=keep, **worker)

    def at(self, step):
        self.value.assign(tf.fill(self.value.shape, float(step)))
        return self

    def save(self, *steps, **notes):
        for step in steps:
            next(self.iterator)
            self.at(step).checkpoints.save(step, **notes)
        return self


def restored(folder, **worker):
    """(step, value, position of the iterator, complaints) of a new process."""
    state = State(folder, **worker)
    found, complaints = state.checkpoints.find()
    if found is None:
        return None, None, None, complaints
    state.checkpoint.read(found.path).assert_consumed()
    assert len(set(state.value.numpy())) == 1
    return found.step, float(state.value[0]), int(next(state.iterator)), complaints


def test_the_newest_comes_back_and_old_ones_go(tmp_path):
    State(tmp_path).save(10, 20).save(30, evaluation_pending=True)
    assert restored(tmp_path) == (30, 30.0, 3, [])
    assert State(tmp_path).checkpoints.find()[0].notes == {"evaluation_pending": True}
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"ckpt-20", "ckpt-30"}
    assert restored(tmp_path / "new") == (None, None, None, [])


def remove(pattern):
    return lambda folder: [path.unlink() for path in folder.glob(f"ckpt-20{pattern}")]


def edit(pattern, change):
    def apply(folder):
        (path,) = folder.glob(f"ckpt-20{pattern}")
        path.write_bytes(change(bytearray(path.read_bytes())))

    return apply


def flip(content):
    content[len(content) // 2] ^= 1
    return content


DAMAGES = {
    "no data": (remove(".data*"), "data.* is missing"),
    "no index": (remove(".index"), "index is missing"),
    "no checksums": (remove(".json"), "interrupted"),
    "only checksums": (remove(".[id][na]*"), "missing"),
    "data cut short": (edit(".data*", lambda content: content[:-7]), "bytes, not"),
    "empty data": (edit(".data*", lambda content: b""), "has 0 bytes"),
    "a bit of the data": (edit(".data*", flip), "CRC32C"),
    "a bit of the index": (edit(".index", flip), "CRC32C"),
    "checksums cut short": (edit(".json", lambda content: content[:40]), "damaged"),
    "other notes": (edit(".json", lambda content: content.replace(b"workers\": 1", b"workers\": 2")), "damaged"),
    "another page": (edit(".json", lambda content: b'{"files": 1}'), "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_falls_back_and_is_written_anew(tmp_path, damage):
    apply, message = DAMAGES[damage]
    State(tmp_path).save(10, 20)
    apply(tmp_path)
    step, value, position, complaints = restored(tmp_path)
    assert (step, value, position) == (10, 10.0, 1)
    assert len(complaints) == 1 and complaints[0].startswith("the checkpoint of step 20 is not whole: ")
    assert re.search(message, complaints[0])
    state = State(tmp_path)
    state.checkpoints.find()
    state.save(20)
    assert restored(tmp_path)[:2] == (20, 20.0) and restored(tmp_path)[3] == []


class Killed(BaseException):
    """Nothing after it runs, as with SIGKILL."""


@pytest.mark.parametrize("place", ["write", "_flush", "_fingerprint", "write_atomically"])
@pytest.mark.parametrize("again", [False, True])
def test_killed_at_any_point_of_a_save(tmp_path, monkeypatch, place, again):
    state = State(tmp_path, keep=1).save(10)
    if again:  # the files of an earlier attempt at the same step are there
        State(tmp_path, keep=2).save(10, 20)
        state.checkpoints.find()

    def die(*arguments, **options):
        raise Killed

    with monkeypatch.context() as patch:
        if place == "write":
            # TensorFlow writes to a temporary folder first.
            (tmp_path / "ckpt-20_temp").mkdir(exist_ok=True)
            (tmp_path / "ckpt-20_temp" / "part-00000-of-00001.data").write_bytes(b"half")
            patch.setattr(state.checkpoint, "write", die)
        else:
            patch.setattr(checkpoints_lib, place, die)
        with pytest.raises(Killed):
            state.save(20)
    assert restored(tmp_path)[:2] == (10, 10.0)
    State(tmp_path, keep=1).save(20)
    assert restored(tmp_path)[:2] == (20, 20.0)
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"ckpt-20"}


def test_none_whole_is_an_error_and_not_a_new_start(tmp_path):
    State(tmp_path).save(10, 20)
    for path in tmp_path.glob("*.index"):
        path.unlink()
    with pytest.raises(ValueError, match="step 20.*step 10.*there is no other.*remove"):
        restored(tmp_path)


def test_an_unfinished_first_one_is_no_loss(tmp_path):
    State(tmp_path).save(10)
    (tmp_path / "ckpt-10.json").unlink()
    step, *_, complaints = restored(tmp_path)
    assert step is None and len(complaints) == 1


def test_a_full_disk_leaves_the_last_one_whole(tmp_path):
    state = State(tmp_path, size=50_000).save(10)
    before = sorted(path.name for path in tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=f"step 20 could not be written to {tmp_path}.*step 10 is whole.*room"):
            state.save(20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    new = State(tmp_path, size=50_000)
    new.checkpoint.read(new.checkpoints.find()[0].path).assert_consumed()
    np.testing.assert_array_equal(new.value, np.full(50_000, 10.0))
    state.save(20)
    assert new.checkpoints.find()[0].step == 20


def test_workers_go_on_from_what_all_of_them_have(tmp_path):
    first, second = (State(tmp_path, worker=worker, num_workers=2) for worker in (0, 1))
    for state in (first, second):
        state.save(10)
    next(second.iterator)
    first.save(20), second.save(20)
    assert restored(tmp_path, worker=0, num_workers=2)[:3] == (20, 20.0, 2)
    assert restored(tmp_path, worker=1, num_workers=2)[:3] == (20, 20.0, 3)
    (tmp_path / "worker-1" / "ckpt-20.json").unlink()
    for worker in (0, 1):
        step, value, position, complaints = restored(tmp_path, worker=worker, num_workers=2)
        assert (step, value, position) == (10, 10.0, 1) and "worker-1" in complaints[0]
    with pytest.raises(ValueError, match="of 2 workers, not of 1"):
        restored(tmp_path)


def test_at_least_one_is_kept(tmp_path):
    with pytest.raises(ValueError, match="keep_checkpoints"):
        State(tmp_path, keep=0)


def test_the_checksums_name_every_file(tmp_path):
    State(tmp_path).save(10)
    files = json.loads((tmp_path / "ckpt-10.json").read_text())["content"]["files"]
    assert {name: size for name, (size, _) in files.items()} == {
        path.name: path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".json"
    }
