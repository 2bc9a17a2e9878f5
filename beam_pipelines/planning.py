"""The arithmetic of `python -m beam_pipelines.plan`: from what was measured to what a job takes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

# The longest a job may wait for its last shard, as a share of the whole: with so many shards per worker.
SHARDS_PER_WORKER = 10
# Every source record is read by the step that batches audio, and again by the step that puts labels beside it.
READS = 2
# What is grouped of an utterance and its batch: digests and places, see `transforms.same_text` and `transforms.merge`.
SHUFFLED_PER_UTTERANCE = 400
GIGABYTE = 1e9


class Measurement(NamedTuple):
    """Two runs of a job on one worker.

    hours, seconds: of labelled audio and of time, of each run. hours_per_worker_hour: audio by time, from their
    difference; start_seconds: the rest, paid once by a worker. peak_bytes: the process' memory. cores: of the machine.
    The others are per hour of audio: utterances; bytes of each artifact, of output records, of source records.
    padding_share of what the teacher computed.
    """

    hours: list[float]
    seconds: list[float]
    hours_per_worker_hour: float
    start_seconds: float
    peak_bytes: int
    cores: int
    utterances: float
    artifact_bytes: dict[str, float]
    record_bytes: float
    source_bytes: float
    padding_share: float


class Plan(NamedTuple):
    """What so many hours take. Bytes are of the whole job; `price` None where nobody named one.

    output_bytes stay. temporary_bytes are labels on their way into the output: they are written, read once and removed,
    and are in read_bytes and written_bytes.
    """

    hours: float
    workers: int
    worker_hours: float
    wall_hours: float
    shards: int
    artifact_bytes: dict[str, int]
    output_bytes: int
    temporary_bytes: int
    shuffle_bytes: int
    read_bytes: int
    written_bytes: int
    vcpu_hours: float
    memory_gb_hours: float
    price: float | None


def plan(
    measured: Measurement,
    *,
    hours: float,
    workers: int,
    hours_per_worker_hour: float | None = None,
    vcpus: float | None = None,
    memory_gb: float | None = None,
    price: float | None = None,
) -> Plan:
    """Extrapolates. The four optional values take the place of what was measured; `price` is per worker-hour.

    The wall time supposes at least `shards` input shards: a shard is read by one worker, and at the end the others wait
    for the last.
    """
    start = measured.start_seconds / 3600
    worker_hours = hours / (hours_per_worker_hour or measured.hours_per_worker_hour) + workers * start
    wall_hours = start + (worker_hours / workers - start) * (1 + 1 / SHARDS_PER_WORKER)
    artifacts = {name: round(size * hours) for name, size in measured.artifact_bytes.items()}
    output, temporary = round(measured.record_bytes * hours), sum(artifacts.values())
    return Plan(
        hours=hours,
        workers=workers,
        worker_hours=worker_hours,
        wall_hours=wall_hours,
        shards=workers * SHARDS_PER_WORKER,
        artifact_bytes=artifacts,
        output_bytes=output,
        temporary_bytes=temporary,
        shuffle_bytes=round(SHUFFLED_PER_UTTERANCE * measured.utterances * hours),
        read_bytes=round(READS * measured.source_bytes * hours) + temporary,
        written_bytes=output + temporary,
        vcpu_hours=worker_hours * (vcpus or measured.cores),
        memory_gb_hours=worker_hours * (memory_gb or measured.peak_bytes / GIGABYTE),
        price=None if price is None else price * worker_hours,
    )


def describe(measured: Measurement, plans: Sequence[Plan]) -> list[str]:
    """A Markdown table with a column for each plan, and under which conditions it holds."""
    runs = " and ".join(
        f"{60 * hours:.1f} minutes of audio in {seconds:.1f} s"
        for hours, seconds in zip(measured.hours, measured.seconds, strict=True)
    )
    rows = {
        "worker-hours": [f"{one.worker_hours:,.1f}" for one in plans],
        f"wall time with {plans[0].workers} workers": [_duration(one.wall_hours) for one in plans],
        "vCPU-hours": [f"{one.vcpu_hours:,.0f}" for one in plans],
        "memory, GB-hours": [f"{one.memory_gb_hours:,.0f}" for one in plans],
        "read": [_bytes(one.read_bytes) for one in plans],
        "shuffled": [_bytes(one.shuffle_bytes) for one in plans],
        "written": [_bytes(one.written_bytes) for one in plans],
        "storage on the way": [_bytes(one.temporary_bytes) for one in plans],
        "storage at the end": [_bytes(one.output_bytes) for one in plans],
        **{
            f"of that {name}": [_bytes(one.artifact_bytes[name]) for one in plans]
            for name in sorted(measured.artifact_bytes)
        },
    }
    if plans[0].price is not None:
        rows["price"] = [f"{one.price:,.2f}" for one in plans]
    return [
        f"measured here on {measured.cores} cores: {runs}",
        f"that is {measured.hours_per_worker_hour:.1f} hours of audio in a worker-hour, and "
        f"{measured.start_seconds:.0f} s to start a worker; {measured.peak_bytes / GIGABYTE:.1f} GB of memory; "
        f"padding {measured.padding_share:.0%}",
        "",
        "| | " + " | ".join(f"{one.hours:,g} hours" for one in plans) + " |",
        "|---" * (len(plans) + 1) + "|",
        *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()),
        "",
        f"The records must lie in at least {plans[0].shards} shards (prepare_corpus --num_shards), for a shard is read "
        "by one worker.",
    ]


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.1f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _bytes(count: float) -> str:
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = min(int(math.log(max(count, 1), 1000)), len(units) - 1)
    return f"{count / 1000**power:.3g} {units[power]}"
