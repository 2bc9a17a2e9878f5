"""Speed and memory of the labelling pipeline, each against its bar:

    python -m benchmarks.pipeline
    python -m benchmarks.pipeline --bars=2 --repetitions=3 --json=pipeline.json

| bar | ratio | at least / at most |
|---|---|---|
| 1 | throughput of the pipeline by that of a bare Python loop over the same SavedModel and batches | 0.9 |
| 2 | throughput of two worker processes by that of one, the model on one thread in each | 1.7 |
| 3 | peak memory with ten times more input by that with one | 1.1 |

Bars 1 and 2 use a Conformer of the paper's size S with random weights, and compare what more input costs: the
difference between a run over some records and one over three times as many, so that imports, loading and tracing, which
a worker pays once, are not in it (they are printed). Bar 1 is in CPU time of one process on one core, bar 2 in wall
time: it needs a machine with two cores that do nothing else. Ends with status 1 if a bar is missed.
"""

import os
import sys
import tempfile

from absl import flags

from benchmarks import measure, outputs, pipeline_inputs
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS

LONGER, MORE = 3, 10
BARS = {"1": (0.9, "least"), "2": (1.7, "least"), "3": (1.1, "most")}


def passed(bar, ratio):
    """Whether a ratio meets its bar."""
    limit, kind = BARS[bar]
    return ratio >= limit if kind == "least" else ratio <= limit


def line(bar, ratio, text):
    """One line of the report."""
    limit, kind = BARS[bar]
    verdict = "PASS" if passed(bar, ratio) else "FAIL"
    return f"bar {bar}: {ratio:.3f} (at {kind} {limit})  {verdict}  {text}"


def more_input(seconds, clock=None):
    """Seconds that the additional records took: the medians' difference; `clock` is a key of both where there are."""
    many, few = (seconds[name] if clock is None else seconds[name][clock] for name in ("many", "few"))
    return measure.median(many) - measure.median(few)


def throughput(folder, *, model, utterances, repetitions):
    """Figures of bar 1: ratio, hours of audio per hour, seconds to start."""
    few, many, teacher, audio = _inputs(folder, model=model, utterances=utterances, factor=LONGER)
    found = measure.in_child(
        "benchmarks.pipeline_runs:loop_and_pipeline", few=few, many=many, teacher=teacher, repetitions=repetitions
    )
    loop, pipeline = ({clock: more_input(found[who], clock) for clock in ("cpu", "wall")} for who in found)
    start = measure.median(found["pipeline"]["few"]["wall"]) - pipeline["wall"] / (LONGER - 1)
    return {
        "ratio": loop["cpu"] / pipeline["cpu"],
        "wall_ratio": loop["wall"] / pipeline["wall"],
        "loop": audio / loop["cpu"],
        "pipeline": audio / pipeline["cpu"],
        "start": start,
        "seconds": found,
    }


def workers(folder, *, model, utterances, repetitions):
    """Figures of bar 2: ratio, and hours of audio per hour with one and two worker processes."""
    few, many, teacher, audio = _inputs(folder, model=model, utterances=utterances, factor=LONGER)
    found = {
        count: measure.in_child(
            "benchmarks.pipeline_runs:worker_processes", few=few, many=many, teacher=teacher, num_workers=count,
            repetitions=repetitions,
        )
        for count in (1, 2)
    }  # fmt: skip
    speeds = {count: audio / more_input(seconds) for count, seconds in found.items()}
    return {"ratio": speeds[2] / speeds[1], "one": speeds[1], "two": speeds[2], "seconds": found}


def memory(folder, *, utterances):
    """Figures of bar 3: ratio and peaks in bytes, with a light teacher."""
    few, many, teacher, audio = _inputs(folder, model="light", utterances=utterances, factor=MORE)
    peaks = {
        name: measure.in_child("benchmarks.pipeline_runs:peak", records=records, teacher=teacher, artifacts="hard")
        for name, records in (("few", few), ("many", many))
    }
    return {"ratio": peaks["many"] / peaks["few"], **peaks, "more_audio_seconds": audio}


def _inputs(folder, *, model, utterances, factor):
    """(few records, many records, teacher, seconds of audio that many have more)."""
    teacher, few, many = (f"{folder}/{name}" for name in (model, f"{utterances}", f"{utterances * factor}"))
    if not os.path.exists(teacher):  # noqa: PTH110 (a name for another process)
        pipeline_inputs.save_teacher(teacher, model=model)
    lengths = [pipeline_inputs.save_records(path, utterances=count)
               for path, count in ((few, utterances), (many, utterances * factor))]  # fmt: skip
    return few, many, teacher, lengths[1] - lengths[0]


def main():
    unknown = [bar for bar in FLAGS.bars if bar not in BARS]
    if unknown:
        raise ValueError(f"--bars={','.join(unknown)}: known are {', '.join(BARS)}")
    figures, good = {}, True
    sizes = {"model": FLAGS.model, "utterances": FLAGS.utterances, "repetitions": FLAGS.repetitions}
    with tempfile.TemporaryDirectory() as folder:
        for bar in FLAGS.bars:
            if bar == "1":
                found = throughput(folder, **sizes)
                text = (
                    f"pipeline {found['pipeline']:.1f}, bare loop {found['loop']:.1f} seconds of audio per second of "
                    f"CPU time; by wall time {found['wall_ratio']:.3f}; {found['start']:.1f} s to start"
                )
            elif bar == "2":
                found = workers(folder, **sizes)
                text = f"one worker {found['one']:.1f}, two {found['two']:.1f} seconds of audio per second"
            else:
                found = memory(folder, utterances=FLAGS.memory_utterances)
                text = f"peaks of {found['few'] / 1e6:.0f} and {found['many'] / 1e6:.0f} MB"
            figures[bar] = found
            good &= passed(bar, found["ratio"])
            sys.stdout.write(line(bar, found["ratio"], text) + "\n")
            sys.stdout.flush()
            about = {"processor": measure.processor(), "cores": os.cpu_count(), **sizes}
            outputs.keep({"about": about, "bars": figures})
    return int(not good)


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_list("bars", list("123"), "Which bars.", **add)
    flags.DEFINE_integer("repetitions", 3, "How often each run is timed.", lower_bound=1, **add)
    flags.DEFINE_integer(
        "utterances", 64, "Of a short run for bars 1 and 2, of 8 seconds on average.", lower_bound=32, **add
    )
    flags.DEFINE_integer("memory_utterances", 192, "Of the smaller run for bar 3.", lower_bound=32, **add)
    flags.DEFINE_enum("model", "conformer_s", sorted(pipeline_inputs.MODELS), "The teacher of bars 1 and 2.", **add)
    outputs.define_flags(values, markdown=False)


if __name__ == "__main__":
    command_line.start(main, define_flags)
