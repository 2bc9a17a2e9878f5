"""A study before it is run: its jobs, whether they fit together, and what they take."""

import collections

from tf_rnnt_kd.stages import duration
from tf_rnnt_kd.studies import cost, run
from tf_rnnt_kd.studies.check import check, vocabulary
from tf_rnnt_kd.studies.plan import Study

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def describe(study: Study, *, devices: int = 1, teraflops: float | None = None) -> list[str]:
    """Lines for the terminal.

    Args:
      study: not declared yet.
      devices: replicas of each training.
      teraflops: what a device sustains, in 1e12 operations a second; measured here if not given. Only studies that know
        the hours of their corpus ask for it; of others the time follows from jobs that are done.

    Raises:
      ValueError: jobs do not fit together.
    """
    undecided = study.declare()
    check(study)
    left, lines = [], [f"# {study.definition.title}", ""]
    for job in study.jobs.values():
        marker = run.done(study.workdir, job)
        left += [] if marker else [job]
        lines += [f"{'done' if marker else '    '}  {job.title}", f"      {job.command}"]
    if undecided:
        lines.append(f"and what depends on {undecided}")
    kinds = collections.Counter(job.kind for job in study.jobs.values())
    steps = sum(job.size for job in left if job.kind == "training")
    seconds = run.remaining(left, finished=run.markers(study.workdir))
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    text = f"jobs: {counts}; {len(left)} are left, with {steps:,} training steps"
    if study.definition.corpus.hours:
        return [*lines, "", text, "", *_at_size(study, devices=devices, teraflops=teraflops)]
    time = "time not known before one of each kind is done" if seconds is None else f"about {duration(seconds)}"
    return [*lines, "", f"{text}, {time}"]


def _at_size(study, *, devices, teraflops):
    found = cost.costs(study, devices=devices)
    source = "as given"
    if teraflops is None:
        smallest = min(
            (job for job in study.jobs.values() if job.kind == "training"), key=lambda job: found[job.key].parameters
        )
        teraflops = cost.sustained(smallest.config, vocab_size=vocabulary(study)) / 1e12
        source = f"measured here with the encoder of: {smallest.title}"
    rate = teraflops * 1e12 * 3600
    lines = [
        f"A device of {teraflops:.3g} teraflops ({source}); {devices} in each training.",
        "",
        "| jobs | million weights | hours of audio each | 10^18 operations in all | device-hours in all | stored |",
        "|---|---|---|---|---|---|",
    ]
    by_kind: collections.Counter = collections.Counter()
    stored: collections.Counter = collections.Counter()
    for title, jobs in _alike(study, found).items():
        each, operations = found[jobs[0].key], sum(found[job.key].operations for job in jobs)
        kept = " + ".join(f"{name} {_bytes(size)}" for name, size in each.stored.items())
        by_kind[jobs[0].kind] += operations
        stored.update(each.stored)
        lines.append(
            f"| {title} | {each.parameters / 1e6:.1f} | {each.audio_hours:,.0f} | {operations / 1e18:,.3g} | "
            f"{operations / rate:,.1f} | {kept} |"
        )
    total = sum(by_kind.values())
    lines.append(f"| all | | | {total / 1e18:,.3g} | {total / rate:,.1f} | {_bytes(sum(stored.values()))} |")
    shares = ", ".join(f"{kind} {operations / rate:,.1f}" for kind, operations in by_kind.items() if operations)
    return [*lines, "", f"Device-hours: {shares}. Bytes are those before compression."]


def _alike(study, found):
    """Jobs that differ in their seed only, by title."""
    groups = collections.defaultdict(list)
    for job in study.jobs.values():
        if job.key in found:
            groups[job.title.rpartition(", seed ")[0] if job.kind == "training" else job.title].append(job)
    return {f"{title}, {len(jobs)} seeds" if len(jobs) > 1 else title: jobs for title, jobs in groups.items()}


def _bytes(count):
    power = 0
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {_UNITS[power]}"
