"""Runs that are killed, retried or repeated: what is labelled stays, and the result is the same to the last byte.

Also across shards: who is kept among utterances that say the same does not depend on what was complete before.
"""

import collections
import hashlib
import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from labelled_corpus import FRAME, NUM_SHARDS, read, tree

from beam_pipelines.job import LabellingOptions
from beam_pipelines.labelling import pseudo_label
from beam_pipelines.transforms import merge
from beam_pipelines.transforms.artifacts import Encoding
from beam_pipelines.transforms.filters import Filters
from beam_pipelines.transforms.parts import Part, PartsPlace
from beam_pipelines.transforms.scores import Row, from_tsv
from beam_pipelines.transforms.teachers import Teachers
from tf_rnnt_kd.records import DatasetInfo, Split, Utterance, encode_utterance, shard_file, write_shard

ENCODING = Encoding(artifacts=("hard", "collapsed"))
SAME = Filters(max_same_text=2, drop_duplicates=True)


def speech(seed):
    """One or two bursts, so that many utterances are heard alike; each fourth is the same as the one before."""
    seed -= seed % 4 == 3
    random = np.random.default_rng(seed)
    waveform = np.zeros((6 + 4 * (seed % 3)) * FRAME, np.float32)
    for start in range(0, len(waveform) // FRAME - 4, 4):
        waveform[start * FRAME :][: 2 * FRAME] = random.uniform(0.2, 0.8) * random.uniform(-1, 1, 2 * FRAME)
    return waveform


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_teacher):
    """48 short utterances in three shards, a teacher, and what it makes of them without and with filters."""
    root = tmp_path_factory.mktemp("resuming")
    fake_teacher.save(root / "teacher")
    records = [encode_utterance(Utterance(f"u{i}", speech(i), None, "speaker", "pool")) for i in range(48)]
    shards = [
        write_shard(root / "records", file=shard_file("pool", index=i, num_shards=NUM_SHARDS), records=records[i::3])
        for i in range(NUM_SHARDS)
    ]
    split = Split(shards=tuple(shards), utterances=48, hours=0.01, labelled=False)
    counts = {"input": 48, "written": 48, "rejected": 0}
    DatasetInfo(kind="utterances", splits={"pool": split}, counts=counts, rejected={}).save(root / "records")
    label(root, root / "all")
    label(root, root / "same", filters=SAME)
    return root


def label(root, output, *, filters=None, **changed):
    options = LabellingOptions(ENCODING, filters=filters or Filters(), **{"batch_size": 4, **changed})
    return pseudo_label(
        str(root / "records"), splits=["pool"], teacher=str(root / "teacher"), output=str(output), options=options
    )


def texts(directory):
    """{utterance id: (hypothesis, samples)} of the records."""
    return {
        name: (record["teacher/text"][0], record["audio"][0]) for name, record in read(directory).items()
    }


def counted_calls(monkeypatch):
    """A list that gets the ids of each batch that the teacher is asked about."""
    asked = []
    ask = Teachers.label

    def label_and_count(self, utterances):
        asked.append([utterance.utterance_id for utterance in utterances])
        return ask(self, utterances)

    monkeypatch.setattr(Teachers, "label", label_and_count)
    return asked


def test_parts_are_read_back_and_those_of_other_settings_are_not(tmp_path):
    place, key = PartsPlace(str(tmp_path), "settings"), ("pool", 3)
    rows = [Row(position=position, utterance_id=f"u{position}", teacher="t", seconds=1.0, tokens=2,
                reason="low_confidence" if position == 9 else "") for position in (7, 9, 12)]  # fmt: skip
    part, payloads = Part(key, 7, rows), {7: b"seven", 12: b"\0twelve"}
    assert place.find(key, first=7) is None
    place.write(part, payloads=payloads)
    before = tree(tmp_path)
    assert list(before) == ["parts/pool-00003/00000007.zip"]
    assert place.find(key, first=7) == part
    assert dict(place.labels(part)) == payloads
    assert PartsPlace(str(tmp_path), "others").find(key, first=7) is None
    place.write(part, payloads=payloads)
    assert tree(tmp_path) == before
    place.remove(key)
    place.remove(key)
    assert place.find(key, first=7) is None


def test_who_is_kept_among_those_that_say_the_same(world):
    everything = texts(world / "all")
    assert len(everything) == 48
    order = sorted(everything, key=lambda name: hashlib.md5(name.encode()).hexdigest())
    kept, heard, of_text = set(), set(), collections.Counter()
    for name in order:  # the definition, over the whole run at once
        text, _ = everything[name]
        if everything[name] not in heard and of_text[text] < 2:
            kept.add(name)
            of_text[text] += 1
        heard.add(everything[name])
    assert len(heard) < 48
    assert max(collections.Counter(text for text, _ in everything.values()).values()) > 4
    assert texts(world / "same").keys() == kept
    info = DatasetInfo.load(world / "same")
    assert info.rejected.keys() == {"duplicate_audio", "same_text"}
    assert info.counts == {"input": 48, "written": len(kept), "rejected": 48 - len(kept)}
    rows = [row for path in (world / "all" / "scores").iterdir() for row in from_tsv(path.read_text())]
    counts = collections.Counter(text for text, _ in everything.values())
    assert {row.utterance_id: row.same_text for row in rows} == {
        name: counts[text] for name, (text, _) in everything.items()
    }


@pytest.mark.parametrize("lost", [(0,), (2,), (0, 1)])
def test_the_choice_does_not_depend_on_which_shards_are_complete(world, tmp_path, monkeypatch, lost):
    label(world, tmp_path, filters=SAME)
    (tmp_path / "dataset.json").unlink()
    for index in lost:
        (tmp_path / shard_file("pool", index=index, num_shards=NUM_SHARDS)).unlink()
    asked = counted_calls(monkeypatch)
    label(world, tmp_path, filters=SAME)
    assert sum(map(len, asked)) == 16 * len(lost)
    assert tree(tmp_path) == tree(world / "same")


def test_batches_that_were_labelled_are_not_labelled_again(world, tmp_path, monkeypatch):
    write, written = PartsPlace.write, []

    def dying(self, part, *, payloads):
        if len(written) == 5:
            raise SystemError("killed")
        write(self, part, payloads=payloads)
        written.append([row.utterance_id for row in part.rows])

    monkeypatch.setattr(PartsPlace, "write", dying)
    with pytest.raises(Exception, match="killed"):
        label(world, tmp_path, filters=SAME)
    assert len(list(tmp_path.rglob("parts/*/*.zip"))) == 5
    assert not (tmp_path / "dataset.json").exists()
    monkeypatch.setattr(PartsPlace, "write", write)
    asked = counted_calls(monkeypatch)
    label(world, tmp_path, filters=SAME)
    assert sorted(sum(asked + written, [])) == sorted(f"u{i}" for i in range(48))
    assert tree(tmp_path) == tree(world / "same")


def test_sigkill_costs_a_batch(world, tmp_path):
    program = f"""
import os, signal
from beam_pipelines.transforms.parts import Part, PartsPlace
from beam_pipelines.transforms.artifacts import Encoding
from beam_pipelines.transforms.filters import Filters
from beam_pipelines.job import LabellingOptions
from beam_pipelines.labelling import pseudo_label
write, count = PartsPlace.write, []
def dying(self, part, *, payloads):
    count.append(0)
    if len(count) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, part, payloads=payloads)
PartsPlace.write = dying
options = LabellingOptions(Encoding(artifacts=("hard", "collapsed")), batch_size=4,
                           filters=Filters(max_same_text=2, drop_duplicates=True))
pseudo_label({str(world / "records")!r}, splits=["pool"], teacher={str(world / "teacher")!r},
             output={str(tmp_path)!r}, options=options)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=pathlib.Path(__file__).parents[2], check=False,
                          capture_output=True, timeout=300)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(tmp_path.rglob("parts/*/*.zip"))) == 7
    label(world, tmp_path, filters=SAME)
    assert tree(tmp_path) == tree(world / "same")


def test_a_kill_between_two_steps_of_a_shard(world, tmp_path, monkeypatch):
    save = merge.Summary.save

    def dying(self, output):
        if self.index == 1:
            raise SystemError("killed")  # the records are written, the parts still there
        save(self, output)

    monkeypatch.setattr(merge.Summary, "save", dying)
    with pytest.raises(Exception, match="killed"):
        label(world, tmp_path)
    monkeypatch.setattr(merge.Summary, "save", save)
    asked = counted_calls(monkeypatch)
    label(world, tmp_path)
    assert asked == []
    assert tree(tmp_path) == tree(world / "all")


def test_parts_that_are_left_over_go(world, tmp_path):
    label(world, tmp_path)
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "parts" / "pool-00001").mkdir(parents=True)
    (tmp_path / "parts" / "pool-00001" / "00000000.zip").write_bytes(b"left by a run that was killed")
    label(world, tmp_path)
    assert tree(tmp_path) == tree(world / "all")


def test_runs_with_other_settings_keep_out_of_unfinished_work(world, tmp_path, monkeypatch):
    def dying(self, part, *, payloads):
        raise SystemError("killed")

    with monkeypatch.context() as patch, pytest.raises(Exception, match="killed"):
        patch.setattr(PartsPlace, "write", dying)
        label(world, tmp_path)
    with pytest.raises(ValueError, match=r"holds other records \(batch_size 4, not 3, min_confidence None, not 0.5\)"):
        label(world, tmp_path, batch_size=3, filters=Filters(min_confidence=0.5))
    (tmp_path / "settings.json").unlink()
    (tmp_path / "summaries").mkdir()
    with pytest.raises(ValueError, match="holds an unfinished run of another version"):
        label(world, tmp_path)
    with pytest.raises(ValueError, match=r"holds other records \(max_same_text 2, not None"):
        label(world, world / "same", filters=Filters(drop_duplicates=True))
    content = json.loads((world / "all" / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "schema_version": 1}))
    with pytest.raises(ValueError, match="has schema version 1, this code reads 2.* choose another --output"):
        label(world, tmp_path)


def test_a_run_without_any_label_is_in_nobodys_way(world, tmp_path):
    with pytest.raises(ValueError, match=r"none of 48 utterances was labelled \({'few_tokens_per_second': 48}\)"):
        label(world, tmp_path, filters=Filters(min_tokens_per_second=1000.0))
    label(world, tmp_path)
    expected = tree(world / "all")
    assert {name: digest for name, digest in tree(tmp_path).items() if name in expected} == expected


def test_a_bundle_that_is_tried_again_finds_its_shard_done(world, tmp_path, monkeypatch):
    process, tries = merge._MergeDoFn.process, collections.Counter()

    def twice(self, element):
        key, grouped = element
        grouped = {name: list(values) for name, values in grouped.items()}
        for _ in range(2):
            tries[key] += 1
            keys = list(process(self, (key, grouped)))
        yield from keys

    monkeypatch.setattr(merge._MergeDoFn, "process", twice)
    label(world, tmp_path, filters=SAME)
    assert dict(tries) == {("pool", index): 2 for index in range(NUM_SHARDS)}
    assert tree(tmp_path) == tree(world / "same")
