"""What became of the bad inputs, read back with plain TensorFlow, JSON and soundfile."""

import collections
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf

from benchmarks.bad_input_files import EXPECTED, Item

_ID = re.compile(r"[bvw]\d{6}")
_LINE = re.compile(r"\.jsonl:(\d+)$")
# Records hold 16 bits; MP3 is decoded by another decoder.
_STEPS, _STEPS_MP3 = 1, 3


def read_expected(folder: Path) -> list[Item]:
    """The items that `bad_input_files.write` made in `folder`."""
    lines = (folder / EXPECTED).read_text(encoding="utf-8").splitlines()
    return [Item(**json.loads(line)) for line in lines]


def check(folder: Path, output: Path, items: Sequence[Item]) -> tuple[dict[str, collections.Counter], list[str]]:
    """Compares a dataset with what was expected of its inputs.

    Args:
        folder: the inputs. output: the dataset that prepare_corpus made of them.
        items: what they are.

    Returns:
        {kind: how many were "written", or refused for each reason}, and what is wrong, a line for each.
    """
    known = {item.id: item for item in items}
    by_line = {item.line: item for item in items if item.line}
    outcomes: dict[str, list[str]] = {item.id: [] for item in items}
    problems, samples = [], {}
    for name, waveform in _records(output):
        found = _ID.search(name)
        if not found or found.group() not in known:
            problems.append(f"a record that nobody asked for: {name}")
            continue
        outcomes[found.group()].append("written")
        samples[found.group()] = waveform
    with (output / "dead_letter.jsonl").open(encoding="utf-8") as file:
        refused = [json.loads(line) for line in file]
    for line in refused:
        found = _ID.search(line["id"]) or _ID.search(line["source"].rpartition("/")[2])
        number = _LINE.search(line["source"])
        item = known.get(found.group()) if found else by_line.get(int(number.group(1))) if number else None
        if item is None or not line["reason"] or not line["error"]:
            problems.append(f"a refusal that says nothing, or of something else: {line}")
            continue
        outcomes[item.id].append(line["reason"])
    kinds: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for item in items:
        kinds[item.kind].update(outcomes[item.id])
        problems += _problems(folder, item, outcomes[item.id], samples.get(item.id))
    counts = json.loads((output / "dataset.json").read_text(encoding="utf-8"))["counts"]
    written = sum(counter["written"] for counter in kinds.values())
    expected = {"input": len(items), "written": written, "rejected": len(refused)}
    if {name: counts[name] for name in expected} != expected:
        problems.append(f"dataset.json says {counts}, there are {expected}")
    return dict(kinds), problems


def table(kinds: dict[str, collections.Counter]) -> list[str]:
    """Lines for people: each kind, how many, how many were written, and why the others were not."""
    width = max(len(kind) for kind in kinds)
    lines = [f"{'kind':{width}}  inputs  written  refused for"]
    total: collections.Counter = collections.Counter()
    for kind, counter in [*sorted(kinds.items()), ("all", total)]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counter.most_common() if reason != "written")
        lines.append(f"{kind:{width}}  {counter.total():6d}  {counter['written']:7d}  {reasons}")
        if counter is not total:
            total.update(counter)
    return lines


def _records(output: Path):
    for path in sorted(output.glob("*/*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            audio = feature["audio"].bytes_list.value[0]
            yield feature["utterance_id"].bytes_list.value[0].decode(), np.frombuffer(audio, "<i2")


def _problems(folder: Path, item: Item, outcomes: list[str], waveform: np.ndarray | None) -> list[str]:
    about = f"{item.id} ({item.kind}{', ' if item.format else ''}{item.format}; {item.path or f'line {item.line}'})"
    if len(outcomes) != 1:
        return [f"{about}: {len(outcomes)} outcomes, {outcomes}"]
    (outcome,) = outcomes
    if outcome == "decoder_failed":
        return [f"{about}: an error that nobody expected"]
    # What has the sound of another input was decoded, too.
    became = "written" if outcome in ("written", "duplicate_audio") else "refused"
    if item.expect != "either" and item.expect != became:
        return [f"{about}: {outcome}, should be {item.expect}"]
    if item.expect != "written":
        return []
    if outcome != "written":
        return [f"{about}: {outcome}, though there is no other like it"]
    expected, rate = soundfile.read(folder / item.path, dtype="float64")
    expected = np.clip(np.rint(expected * 32768), -32768, 32767)
    steps = _STEPS_MP3 if item.format == "mp3" else _STEPS
    if rate != 16000 or len(expected) != len(waveform) or np.abs(expected - waveform).max() > steps:
        return [f"{about}: not the samples of the file ({len(waveform)} of {len(expected)})"]
    return []
