"""A small corpus, the fake teacher of tests/beam_pipelines, and what the runner of this process makes of them."""

import concurrent.futures
import hashlib
import importlib.util
import pathlib
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from beam_pipelines import command_line, pseudo_label
from tf_rnnt_kd.records import DatasetInfo, Split, Utterance, encode_utterance, shard_file, write_shard

NUM_SHARDS = 5
_BURNT_SIZE, _BURNT_PRODUCTS = 600, 60  # the work of a slow teacher
FRAME = 1280  # samples of the fake teacher's frames
# Files that name what was made; beside them lie summaries for a rerun.
_RESULT = ("*/*.tfrecord", "dataset.json", "dead_letter.jsonl", "joint.npz")


@pytest.fixture(scope="session")
def engines():
    """This module: test folders are no packages, so tests cannot import it."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def fake_teacher():
    """The module tests/beam_pipelines/conftest.py."""
    path = pathlib.Path(__file__).parents[1] / "beam_pipelines" / "conftest.py"
    specification = importlib.util.spec_from_file_location("fake_teacher", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def world(tmp_path_factory, fake_teacher):
    """{"records", "teacher", "expected"}: two folders, and the digests of what the runner of this process writes."""
    root = tmp_path_factory.mktemp("engines")
    fake_teacher.save(root / "teacher")
    write_corpus(root / "records")
    made = {"records": root / "records", "teacher": root / "teacher"}
    label(made, root / "expected", "--runner=FnApiRunner")
    return {**made, "expected": digests(root / "expected")}


def write_corpus(folder, *, utterances=30):
    """Utterance records of noise bursts in `NUM_SHARDS` shards; three of them are ones that cannot be labelled."""
    waveforms = {f"good-{i}": _bursts(i) for i in range(utterances)}
    crashing = _bursts(100)
    crashing[5] = -1.0  # the fake teacher fails on it, and on the batch that it is in
    waveforms |= {"crashing": crashing, "silent": np.zeros(9000, np.float32)}
    records = [
        encode_utterance(Utterance(utterance_id=name, waveform=waveform, text=None, speaker="x", split="pool"))
        for name, waveform in waveforms.items()
    ]
    records.append(b"no example at all")
    shards = [
        write_shard(folder, file=shard_file("pool", index=i, num_shards=NUM_SHARDS), records=records[i::NUM_SHARDS])
        for i in range(NUM_SHARDS)
    ]
    split = Split(shards=tuple(shards), utterances=len(records), hours=0.01, labelled=False)
    counts = {"input": len(records), "written": len(records), "rejected": 0}
    DatasetInfo(kind="utterances", splits={"pool": split}, counts=counts, rejected={}).save(folder)


def arguments(world, output):
    """Flags of `python -m beam_pipelines.pseudo_label` for this corpus, without those for Beam."""
    return [
        f"--records={world['records']}", "--split=pool", f"--teacher={world['teacher']}", f"--output={output}",
        "--artifacts=hard,collapsed,factored", "--batch_size=4", "--max_seconds=5",
    ]  # fmt: skip


def label(world, output, *beam_flags):
    """The pipeline with these flags for Beam, submitted by this process."""
    values = flags.FlagValues()
    pseudo_label.define_flags(values)
    left = command_line.parse(["program", *arguments(world, output), *beam_flags], values=values, required={})
    return pseudo_label.run(values, left)


def digests(folder):
    """{relative path: SHA-256} of shards and of what describes them; ValueError where there are none."""
    files = sorted(path for pattern in _RESULT for path in folder.glob(pattern))
    found = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    if len(found) < NUM_SHARDS + 3:
        raise ValueError(f"{folder} is not complete: {sorted(found)}")
    return found


def record_ids(folder):
    """Ids of all records below a folder, in order, with TensorFlow's own reader."""
    ids = []
    for path in sorted(folder.glob("*/*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            ids += tf.train.Example.FromString(record.numpy()).features.feature["utterance_id"].bytes_list.value
    return [one.decode() for one in ids]


class SlowTeacher:
    """A SavedModel that says the same as the fake teacher, but takes its time and leaves a file at each call."""

    def __init__(self, fake_teacher, folder):
        self.path, self._calls = folder / "slow_teacher", folder / "calls"
        self._calls.mkdir()
        original, calls = fake_teacher.FakeTeacher, self._calls

        class Slow(original):
            def energies(self, waveforms, num_samples):
                # Named by the audio, so that a batch that is computed again makes no new file.
                name = tf.strings.join([f"{calls}/", tf.as_string(tf.reduce_sum(num_samples))])
                matrix = tf.fill([_BURNT_SIZE, _BURNT_SIZE], 1.0 / _BURNT_SIZE)
                burnt = tf.while_loop(
                    lambda step, _: step < _BURNT_PRODUCTS,
                    lambda step, product: (step + 1, product @ matrix),
                    [tf.constant(0), matrix * tf.reduce_mean(waveforms)],
                )
                with tf.control_dependencies([tf.io.write_file(name, ""), burnt[1]]):
                    return super().energies(tf.identity(waveforms), num_samples)

        fake_teacher.FakeTeacher = Slow
        try:
            fake_teacher.save(self.path)
        finally:
            fake_teacher.FakeTeacher = original

    def label(self, world, output, *beam_flags, meanwhile, calls=4):
        """Labels, and has a thread do `meanwhile()` once the teacher was called `calls` times, and not all is done.

        The job has the main thread: Flink's job server takes no other.
        """
        ended = threading.Event()

        def work():
            while len(list(self._calls.iterdir())) < calls:
                if ended.wait(0.02):
                    raise RuntimeError(f"the job ended before the teacher was called {calls} times")
            assert not (output / "dataset.json").exists()
            meanwhile()

        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
            done = pool.submit(work)
            try:
                label({**world, "teacher": self.path}, output, *beam_flags)
            finally:
                ended.set()
                done.result()


@pytest.fixture
def slow_teacher(fake_teacher, tmp_path):
    return SlowTeacher(fake_teacher, tmp_path)


def _bursts(seed):
    random = np.random.default_rng(seed)
    frames = 8 + seed % 20
    waveform = np.zeros(frames * FRAME + int(random.integers(0, FRAME)), np.float32)
    for start in range(0, frames - 3, 5):
        waveform[start * FRAME : (start + 2) * FRAME] = random.uniform(0.2, 0.8) * random.uniform(-1, 1, 2 * FRAME)
    return waveform
