"""Speed of a student's exports on one core: latency of a stream's chunks, throughput, and where the time goes.

    python -m benchmarks.serving_speed --markdown                       # a preset's size, random weights
    python -m benchmarks.serving_speed --model=exported/student --lite=exported/student_lite

Chunks last 160 ms, or the next multiple of the model's own. Each format runs in a process of its own with one thread.
Latency is wall-clock time, so nothing else should run; the rest is CPU time. The encoder's step is also timed in
OpenVINO, with the same weights and the same audio, where that is installed (docs/serving/export.md).
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

from absl import flags

from benchmarks import measure, outputs
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
_BATCHES = (1, 8, 32)


def run(saved_model, lite, *, seconds, utterance_seconds, repetitions):
    """{"chunks": {kind: figures}, "whole": {batch: figures}, "step", "encoder": figures} of serving_speed_runs."""
    files = json.loads((Path(lite) / "metadata.json").read_text(encoding="utf-8"))["files"]
    runs, streams = "benchmarks.serving_speed_runs", {}
    for kind in ("saved_model", *files):
        streams[kind] = measure.in_child(
            f"{runs}:chunks", kind=kind, saved_model=saved_model, lite=str(lite), seconds=seconds
        )
        streams[kind]["bytes"] = files[kind]["bytes"] if kind in files else None
    utterances = {
        batch: measure.in_child(
            f"{runs}:whole", saved_model=saved_model, seconds=utterance_seconds, batch=batch, repetitions=repetitions
        )
        for batch in _BATCHES
    }
    step = measure.in_child(f"{runs}:step_parts", saved_model=saved_model, repetitions=5 * repetitions)
    with tempfile.TemporaryDirectory() as folder:
        encoder = measure.in_child(
            f"{runs}:encoder_step", saved_model=saved_model, folder=folder, repetitions=20 * repetitions
        )
    return {
        "chunks": streams, "whole": utterances, "step": step, "encoder": encoder,
        "utterance_seconds": utterance_seconds,
    }  # fmt: skip


def tables(figures):
    """Three tables as lists of rows, the header first."""
    streams = [["chunks", "MB", "CPU s per s", "p50 ms", "p95 ms", "p99 ms"]]
    for kind, found in figures["chunks"].items():
        size = "" if found["bytes"] is None else f"{found['bytes'] / 1e6:.2f}"
        quantiles = [f"{1000 * _quantile(found['latency'], share):.2f}" for share in (0.5, 0.95, 0.99)]
        streams.append([kind, size, f"{found['cpu_per_second']:.4f}", *quantiles])
    rows = [["whole utterances", "audio s per CPU s", "n-best / greedy", "around the encoder"]]
    for batch, found in figures["whole"].items():
        middle = {name: measure.median(values) for name, values in found.items()}
        rows.append([
            f"batch {batch}",
            f"{int(batch) * figures['utterance_seconds'] / middle['greedy']:.0f}",
            f"{middle['nbest'] / middle['greedy']:.2f}",
            _around_the_encoder(middle, whole="greedy"),
        ])  # fmt: skip
    step = {name: measure.median(values) for name, values in figures["step"].items()}
    rows.append(["one chunk of a stream", "", "", f"at most {_around_the_encoder(step, whole='step')}"])
    encoder = dict(figures["encoder"])
    difference = encoder.pop("difference")
    runtimes = [["encoder's step", "CPU ms", "of TensorFlow's"]]
    for runtime, seconds in encoder.items():
        own, base = measure.median(seconds), measure.median(encoder["tensorflow"])
        runtimes.append([runtime, f"{1000 * own:.2f}", f"{own / base:.2f}"])
    runtimes.append(["largest difference", f"{difference:.1g}", ""])
    return streams, rows, runtimes


def _around_the_encoder(seconds, *, whole):
    """Features, search, text and the projection between: what of the whole is not the encoder."""
    return f"{100 * (1 - (seconds['to_encoder'] - seconds['features']) / seconds[whole]):.1f} %"


def main():
    if bool(FLAGS.model) != bool(FLAGS.lite):
        raise ValueError("--model=DIR and --lite=DIR (tf_rnnt_kd.export_lite) go together")
    with contextlib.ExitStack() as stack:
        if FLAGS.model:
            from tf_rnnt_kd.model_versions import version_folder

            saved_model, lite, about = version_folder(FLAGS.model), FLAGS.lite, FLAGS.model
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            rate = measure.in_child(
                "benchmarks.serving_speed_model:save", folder=str(folder), preset=FLAGS.preset,
                tokens_per_second=FLAGS.tokens_per_second,
            )  # fmt: skip
            saved_model, lite = str(folder / "saved_model" / "1"), folder / "lite"
            about = f"{FLAGS.preset}, random weights, {rate:.1f} tokens per second"
        figures = run(
            saved_model, lite, seconds=FLAGS.seconds, utterance_seconds=FLAGS.utterance_seconds,
            repetitions=FLAGS.repetitions,
        )  # fmt: skip
    outputs.keep(figures)
    sys.stdout.write(f"{about}; {measure.processor()}\n")
    for table in tables(figures):
        sys.stdout.write("\n" + "\n".join(_lines(table, markdown=FLAGS.markdown)) + "\n")


def _lines(table, *, markdown):
    if not markdown:
        return ["\t".join(row) for row in table]
    return ["| " + " | ".join(row) + " |" for row in [table[0], ["---"] * len(table[0]), *table[1:]]]


def _quantile(values, share):
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string(
        "model", None, "An exported model (tf_rnnt_kd.export); made from --preset if not given.", **add
    )
    flags.DEFINE_string("lite", None, "Its exports for devices (tf_rnnt_kd.export_lite).", **add)
    flags.DEFINE_string("preset", "streaming_small", "Size of the model that is made.", **add)
    flags.DEFINE_float("tokens_per_second", 3.0, "What that model says.", lower_bound=0.0, **add)
    flags.DEFINE_float("seconds", 60.0, "Of each stream.", lower_bound=2.0, **add)
    flags.DEFINE_float("utterance_seconds", 10.0, "Of each whole utterance.", lower_bound=1.0, **add)
    flags.DEFINE_integer("repetitions", 5, "How often whole utterances are timed.", lower_bound=1, **add)
    outputs.define_flags(values)


if __name__ == "__main__":
    command_line.start(main, define_flags)
