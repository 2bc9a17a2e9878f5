"""The development server under many streams at once: are all words right, and is its memory flat?

    python -m benchmarks.server_load --model=exported/student --audio=DIR
    python -m benchmarks.server_load --model=exported/student --audio=DIR --streams=32 --minutes=10 --json=load.json
    python -m benchmarks.server_load --model=exported/student --audio=DIR --costs     # what a batch costs, alone

Starts the server in a process of its own, and speaks to it from this one at a microphone's pace, in chunks of 160 ms:
half of the streams by sessions, half by gRPC with their state in each request. Each stream's text and tokens must be
those of `serving_default` for the whole utterance. Meanwhile others send malformed, oversized, aborted and slow
requests (--nodisturb: none do). Ends with status 1 if a word is wrong, a request failed, or memory grew.

Latency is from the end of a chunk, as the microphone gives it, to its answer.
"""

import asyncio
import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time
import types
import urllib.request

from absl import flags

from benchmarks import outputs
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS

GROWTH = 1.05
"""Bar: resident memory in the last fifth of the time by that in the second fifth."""


def load_utterances(model, audio, *, most):
    """(Utterances of the audio files in a folder, with the export's own results; its metadata).

    Raises:
      ValueError: no file there can be used.
    """
    import tensorflow as tf

    from benchmarks.server_load_streams import Utterance
    from tf_rnnt_kd.model_versions import version_folder
    from tf_rnnt_kd.serving.metadata import read_metadata
    from tf_rnnt_kd.speech.audio import decode_audio
    from tf_rnnt_kd.speech.errors import AudioError

    folder = version_folder(model)
    metadata = read_metadata(folder)
    waveforms = []
    for path in sorted(pathlib.Path(audio).rglob("*")):
        if path.suffix.lower() in (".flac", ".wav", ".ogg", ".mp3") and len(waveforms) < most:
            with contextlib.suppress(AudioError):
                waveforms.append(decode_audio(path, target_rate=metadata["sample_rate"]))
    if not waveforms:
        raise ValueError(f"{audio} has no audio file that can be used")
    loaded, found = tf.saved_model.load(folder), []
    for waveform in waveforms:
        result = loaded.signatures["serving_default"](
            waveforms=tf.constant(waveform[None]), num_samples=tf.constant([len(waveform)])
        )
        tokens = result["tokens"].numpy()[0, : int(result["num_tokens"][0])].tolist()
        found.append(Utterance(waveform, result["text"].numpy()[0].decode(), tokens))
    return found, metadata


def start_server(model, arguments):
    """(process, namespace of name, grpc, rest)."""
    command = [sys.executable, "-m", "tf_rnnt_kd.serving.server", f"--model={model}", "--port=0", "--rest_port=0"]
    process = subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    line = process.stdout.readline()
    said = re.fullmatch(r"(\S+), version \d+: gRPC (\S+), REST and page http://(\S+)\n", line)
    if not said:
        raise ValueError(f"the server did not start: {line!r}")
    return process, types.SimpleNamespace(name=said[1], grpc=said[2], rest=said[3])


def read_metrics(rest):
    """{name: value} of the metrics without labels."""
    with urllib.request.urlopen(f"http://{rest}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    plain = [line.split(" ") for line in lines if not line.startswith("#") and "{" not in line]
    return {name: float(value) for name, value in plain}


async def watched(server, streams, *, every):
    """(result of the coroutine `streams`, [(seconds, resident bytes)] while it ran)."""
    task, memory, started = asyncio.create_task(streams), [], time.monotonic()
    while not task.done():
        now = await asyncio.to_thread(read_metrics, server.rest)
        memory.append((time.monotonic() - started, now["process_resident_memory_bytes"]))
        await asyncio.wait([task], timeout=every)
    return await task, memory


def growth(memory):
    """Median memory in the last fifth of the time by that in the second; 1 where there is too little to say."""
    end = memory[-1][0]
    second, last = (
        [size for seconds, size in memory if low * end <= seconds < high * end + 1e-9]
        for low, high in ((0.2, 0.4), (0.8, 1.0))
    )
    return statistics.median(last) / statistics.median(second) if second and last else 1.0


def percentile(values, share):
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def lines(report):
    """The report as text."""
    found = [
        f"{report['streams']} streams for {report['minutes']:g} minutes: {report['finished']} utterances, "
        f"{report['words']} words of {report['tokens']} tokens, {report['audio_seconds'] / 3600:.2f} h of audio; "
        f"{report['disturbances']} bad requests",
        f"wrong: {len(report['wrong'])}, failed: {len(report['failed'])}",
        f"memory: {report['memory_first'] / 2**20:.0f} MiB, {report['memory_last'] / 2**20:.0f} MiB at the end; "
        f"last fifth by second fifth {report['growth']:.3f} (at most {GROWTH})",
        f"server: {report['cpu_per_audio']:.4f} CPU seconds per second of audio, "
        f"{report['rows_per_batch']:.1f} rows a call",
    ]
    for protocol, values in report["latency_ms"].items():
        figures = ", ".join(f"{name} {milliseconds:.0f} ms" for name, milliseconds in values.items())
        found.append(f"latency of a chunk by {protocol}: {figures}")
    return found


def measure(model, audio, *, streams, sessions, minutes, most, disturb, server_arguments):
    """The report, a dictionary."""
    from benchmarks.server_load_streams import run_streams

    utterances, metadata = load_utterances(model, audio, most=most)
    process, server = start_server(model, server_arguments)
    server.chunk_samples, server.sample_rate = metadata["chunk_samples"], metadata["sample_rate"]
    try:
        before = read_metrics(server.rest)
        figures, memory = asyncio.run(watched(server, run_streams(
            server, utterances, sessions=sessions, states=streams - sessions, seconds=60 * minutes, disturb=disturb
        ), every=max(0.6 * minutes, 0.2)))  # fmt: skip
        after = read_metrics(server.rest)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    spent = {name: after[name] - before[name] for name in after if name in before}
    return {
        "streams": streams, "minutes": minutes, "finished": figures.finished, "words": figures.words,
        "tokens": figures.tokens, "audio_seconds": figures.audio_seconds, "disturbances": figures.disturbances,
        "wrong": figures.wrong, "failed": figures.failed, "growth": growth(memory), "memory": memory,
        "memory_first": memory[0][1], "memory_last": memory[-1][1],
        "cpu_per_audio": spent["process_cpu_seconds_total"] / max(figures.audio_seconds, 1e-9),
        "rows_per_batch": spent["tf_rnnt_kd_batch_rows_sum"] / max(spent["tf_rnnt_kd_batch_rows_count"], 1),
        "latency_ms": {
            protocol: {name: 1000 * percentile(values, share) for name, share in
                       (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("worst", 1.0))}
            for protocol, values in figures.latencies.items() if values
        },
    }  # fmt: skip


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("model", None, "An exported model that streams.", **add)
    flags.DEFINE_string("audio", None, "Folder of audio files.", **add)
    flags.DEFINE_integer("streams", 32, "At once.", lower_bound=1, **add)
    flags.DEFINE_integer("sessions", None, "Of them by WebSocket; half if not given.", lower_bound=0, **add)
    flags.DEFINE_float("minutes", 10.0, "How long.", lower_bound=0.01, **add)
    flags.DEFINE_integer("utterances", 64, "Files that are used, at most.", lower_bound=1, **add)
    flags.DEFINE_bool("disturb", True, "Whether others misbehave meanwhile.", **add)
    flags.DEFINE_multi_string("server_flag", [], "Passed on to it, such as --server_flag=--max_batch_size=1.", **add)
    outputs.define_flags(values, markdown=False)
    flags.DEFINE_bool("costs", False, "Only measure a step of 1 to 32 rows, on one thread.", **add)


def _main():
    command_line.require(FLAGS, {"model=DIR": "an exported model that streams"})
    if FLAGS.costs:
        from benchmarks.measure import in_child

        for rows, milliseconds in in_child("benchmarks.server_load_costs:step_costs", model=FLAGS.model):
            sys.stdout.write(f"{rows:2d} rows: {milliseconds:7.2f} ms, {milliseconds / rows:6.2f} ms a row\n")
        return 0
    command_line.require(FLAGS, {"audio=DIR": "a folder of audio files"})
    sessions = FLAGS.streams // 2 if FLAGS.sessions is None else FLAGS.sessions
    report = measure(
        FLAGS.model, FLAGS.audio, streams=FLAGS.streams, sessions=sessions, minutes=FLAGS.minutes,
        most=FLAGS.utterances, disturb=FLAGS.disturb, server_arguments=FLAGS.server_flag,
    )  # fmt: skip
    sys.stdout.write("\n".join(lines(report)) + "\n")
    for wrong in [*report["wrong"], *report["failed"]][:10]:
        sys.stdout.write(f"  {wrong}\n")
    outputs.keep(report)
    return int(bool(report["wrong"] or report["failed"]) or report["growth"] > GROWTH)


if __name__ == "__main__":
    command_line.start(_main, define_flags)
