"""What a labelling job will take, from a short run of it on this machine:

    python -m beam_pipelines.plan --hours=1000,60000,600000 --workers=100 --price_per_worker_hour=0.4 \\
        --records=run/records --split=train-unlabeled --teacher=run/teacher_model --artifacts=hard,collapsed

All flags but those below go to python -m beam_pipelines.pseudo_label: the planned job is run as it would be, twice,
with --sample_minutes of audio and three times as much, so that what every worker pays once when it starts is told from
what an hour of audio costs. One worker is a process like this one, on a machine like this one.
--hours_per_worker_hour=X puts a speed measured elsewhere (on an accelerator) in the place of the one measured here.

Hours are hours of labelled audio. --measurement=FILE keeps what was measured, and uses it when the file is there.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from absl import flags

from beam_pipelines import command_line
from beam_pipelines.planning import Measurement, Plan, describe, plan

_REQUIRED = {"hours": "Hours of audio to plan for; several with commas."}
_LONGER = 3  # the second run has so many times the audio of the first
_MIN_SECONDS = 1.0
_PER_HOUR = ("utterances", "artifact_bytes", "record_bytes", "source_bytes", "padding_share")


def run(values: flags.FlagValues, arguments: list[str]) -> None:
    """Measures, or reads what was measured, and prints; every ValueError is one line for the user."""
    hours = [_positive(text) for text in values.hours]
    kept = pathlib.Path(values.measurement) if values.measurement else None
    if kept and kept.exists():
        measured = Measurement(**json.loads(kept.read_text(encoding="utf-8")))
    else:
        measured = measure(arguments, sample_minutes=values.sample_minutes)
        if kept:
            kept.write_text(json.dumps(measured._asdict(), indent=1) + "\n", encoding="utf-8")
    plans = [
        plan(
            measured,
            hours=wanted,
            workers=values.workers,
            hours_per_worker_hour=values.hours_per_worker_hour,
            vcpus=values.vcpus_per_worker,
            memory_gb=values.memory_gb_per_worker,
            price=values.price_per_worker_hour,
        )
        for wanted in hours
    ]
    if values.json:
        pathlib.Path(values.json).write_text(_json(measured, plans), encoding="utf-8")
    sys.stdout.write("\n".join(describe(measured, plans)) + "\n")


def measure(arguments: Sequence[str], *, sample_minutes: float) -> Measurement:
    """Runs the job twice on about so much audio and three times as much.

    Args:
        arguments: flags of pseudo_label, without --output and --max_hours.

    Raises:
        ValueError: the job does not run, with the last line it wrote; or there is too little audio to see a difference.
    """
    given = {argument.partition("=")[0].lstrip("-") for argument in arguments}
    for name in ("output", "max_hours"):
        if name in given:
            raise ValueError(f"--{name} is chosen by the plan: leave it out")
    runs = [_sample(arguments, max_hours=factor * sample_minutes / 60) for factor in (1, _LONGER)]
    (first, second) = runs
    seconds, hours = second["seconds"] - first["seconds"], second["hours"] - first["hours"]
    if seconds < _MIN_SECONDS or hours <= 0:
        raise ValueError(
            f"{first['hours']:.4f} and {second['hours']:.4f} hours took {first['seconds']:.1f} and "
            f"{second['seconds']:.1f} s: too little to measure by, give a larger --sample_minutes, or more records"
        )
    speed = hours / (seconds / 3600)
    return Measurement(
        hours=[one["hours"] for one in runs],
        seconds=[one["seconds"] for one in runs],
        hours_per_worker_hour=speed,
        start_seconds=max(first["seconds"] - first["hours"] / speed * 3600, 0.0),
        peak_bytes=second["peak_bytes"],
        cores=os.cpu_count() or 1,
        **{name: second[name] for name in _PER_HOUR},
    )


def _sample(arguments, *, max_hours):
    """One run: its seconds and peak memory, and from its dataset.json hours and bytes per hour."""
    # Not before the flags are known to be right: TensorFlow takes seconds to import.
    from tf_rnnt_kd.records import DatasetInfo

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "beam_pipelines.pseudo_label", *arguments, f"--output={folder}/out"]
        sys.stderr.write(f"plan: measuring with about {60 * max_hours:g} minutes of audio\n")
        start = time.monotonic()
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen([*command, f"--max_hours={max_hours}"], stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            lines = pathlib.Path(folder, "log").read_text(errors="replace").strip().splitlines()
            raise ValueError(f"the job to plan does not run: {lines[-1] if lines else process.returncode}")
        info = DatasetInfo.load(f"{folder}/out")
        hours = sum(split.hours for split in info.splits.values())
        written = sum(shard.bytes for split in info.splits.values() for shard in split.shards)
        artifacts = {name: size["bytes"] / hours for name, size in info.artifacts.items()}
        # A record is the source's with the artifacts added.
        source = (written - sum(size["bytes"] for size in info.artifacts.values())) / hours
        return {
            "hours": hours,
            "seconds": seconds,
            "peak_bytes": usage.ru_maxrss * 1024,
            "utterances": sum(split.utterances for split in info.splits.values()) / hours,
            "artifact_bytes": artifacts,
            "record_bytes": written / hours,
            "source_bytes": source,
            "padding_share": info.statistics["padding_share"],
        }


def _json(measured: Measurement, plans: Sequence[Plan]) -> str:
    content = {"measurement": measured._asdict(), "plans": [one._asdict() for one in plans]}
    return json.dumps(content, indent=1) + "\n"


def _positive(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < float("inf"):
        raise ValueError(f"--hours must be numbers above 0, with commas: got {text!r}")
    return hours


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_list("hours", [], _REQUIRED["hours"], **add)
    flags.DEFINE_integer("workers", 100, "Worker processes.", lower_bound=1, **add)
    flags.DEFINE_float("sample_minutes", 2.0, "Audio of the first run; the second has three times as much.",
                       lower_bound=0.001, **add)  # fmt: skip
    flags.DEFINE_float("hours_per_worker_hour", None, "Speed of a worker, if not the one measured here.",
                       lower_bound=1e-6, **add)  # fmt: skip
    flags.DEFINE_float("vcpus_per_worker", None, "For vCPU-hours; the measuring machine's by default.", **add)
    flags.DEFINE_float("memory_gb_per_worker", None, "For GB-hours; the measured peak by default.", **add)
    flags.DEFINE_float("price_per_worker_hour", None, "In any currency; without it no price is named.", **add)
    flags.DEFINE_string("measurement", None, "File to keep the measurement in, and to take it from.", **add)
    flags.DEFINE_string("json", None, "A file for all figures.", **add)


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(run, define_flags, required=_REQUIRED)


if __name__ == "__main__":
    main()
