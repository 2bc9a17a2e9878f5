"""What one process of the pipeline's benchmark does: a labelling run, a bare loop over the same, or its peak memory."""

import contextlib
import io
import os
import pathlib
import tempfile
import time

import numpy as np

from benchmarks import measure
from benchmarks.pipeline_inputs import SPLIT

BATCH_SIZE = 8


def label(records, teacher, *, beam_flags=(), artifacts="hard"):
    """Labels all of `records` into a folder that is thrown away; returns `_Stopwatch` seconds."""
    from absl import flags

    from beam_pipelines import command_line, pseudo_label

    values = flags.FlagValues()
    pseudo_label.define_flags(values)
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "benchmark", f"--records={records}", f"--split={SPLIT}", f"--teacher={teacher}", f"--output={folder}/out",
            f"--artifacts={artifacts}", f"--batch_size={BATCH_SIZE}", *beam_flags,
        ]  # fmt: skip
        left = command_line.parse(arguments, values=values, required={})
        with _Stopwatch() as stopwatch, contextlib.redirect_stderr(io.StringIO()):
            pseudo_label.run(values, left)
        return stopwatch.seconds


def loop_and_pipeline(few, many, teacher, repetitions):
    """Seconds of a bare loop and of the pipeline, in turn, over few records and over many, on one core.

    Returns:
        {"loop", "pipeline": {"few", "many": {"cpu", "wall": [seconds]}}}
    """
    _on_one_core()
    measure.one_thread_tensorflow()
    import tensorflow as tf

    from tf_rnnt_kd.model_versions import version_folder

    loaded = tf.saved_model.load(version_folder(teacher))
    batches = {"few": _batches(few), "many": _batches(many)}
    records = {"few": few, "many": many}
    for name in records:  # traces, fills caches
        _loop(loaded, batches[name])
    label(few, teacher)
    taken = {"loop": {"few": [], "many": []}, "pipeline": {"few": [], "many": []}}
    for _ in range(repetitions):
        for name in records:
            taken["loop"][name].append(_loop(loaded, batches[name]))
            taken["pipeline"][name].append(label(records[name], teacher))
    return {who: {name: _columns(rows) for name, rows in runs.items()} for who, runs in taken.items()}


def worker_processes(few, many, teacher, num_workers, repetitions):
    """Wall time with so many worker processes, over few records and over many: {"few", "many": [seconds]}."""
    flags = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", f"--direct_num_workers={num_workers}"]
    return {
        name: [label(records, teacher, beam_flags=flags)["wall"] for _ in range(repetitions)]
        for name, records in (("few", few), ("many", many))
    }


def peak(records, teacher, artifacts):
    """The largest resident memory of this process over one run, in bytes."""
    measure.one_thread_tensorflow()
    label(records, teacher, artifacts=artifacts)
    # Not getrusage's: that begins with what the parent held when it started this process.
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _loop(loaded, batches):
    signature = loaded.signatures["teacher"]
    with _Stopwatch() as stopwatch:
        for batch in batches:
            for value in signature(**batch).values():
                value.numpy()
    return stopwatch.seconds


class _Stopwatch:
    """`seconds` of what ran inside: {"cpu": of all threads of this process, "wall"}."""

    def __enter__(self):
        self._start = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = {"cpu": time.process_time() - self._start[0], "wall": time.perf_counter() - self._start[1]}


def _columns(rows):
    return {clock: [row[clock] for row in rows] for clock in ("cpu", "wall")}


def _batches(records):
    """The batches that the pipeline makes of the same records, as inputs of the signature."""
    import tensorflow as tf

    from beam_pipelines.transforms import batch
    from tf_rnnt_kd.records import DatasetInfo, decode_utterance, read_shard

    made = []
    for path in DatasetInfo.load(records).shard_paths(records, SPLIT):
        pending = (
            batch.Pending(SPLIT, 0, position, "", decode_utterance(record).waveform)
            for position, record in enumerate(read_shard(path))
        )
        for rows in batch.form_batches(pending, batch_size=BATCH_SIZE):
            count = batch.batch_rows(len(rows), batch_size=BATCH_SIZE)
            rows = [*rows, *[rows[0]] * (count - len(rows))]
            waveforms = np.zeros([count, batch.bucket_samples(len(rows[0].waveform))], np.float32)
            for index, row in enumerate(rows):
                waveforms[index, : len(row.waveform)] = row.waveform
            num_samples = tf.constant([len(row.waveform) for row in rows], tf.int32)
            made.append({"waveforms": tf.constant(waveforms), "num_samples": num_samples})
    return made


def _on_one_core():
    """So that wall time is comparable: threads of the runner cannot use a core that the loop has no use for."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
