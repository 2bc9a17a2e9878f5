"""Writing and reading shards, by plain TensorFlow on the same bytes:

    python -m benchmarks.records_io --megabytes=400 --repetitions=7

A shard is written by `records.write_shard` (to a temporary name, with the checksum that dataset.json states) and by a
bare tf.io.TFRecordWriter; it is read by `records.read_shard` and by a bare tf.data.TFRecordDataset. They take turns;
wall time, medians. Both ratios must be at most 1.1. Ends with status 1 if one is not.
"""

import os
import sys
import tempfile
import time

import numpy as np
from absl import flags

from benchmarks import measure
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS

BAR = 1.1


def measured(folder, *, megabytes, kilobytes, repetitions):
    """{"write", "read": {"ours", "plain": [seconds]}}, and "bytes" of the shard."""
    import tensorflow as tf

    from tf_rnnt_kd.records import read_shard, write_shard

    random = np.random.default_rng(0)
    payloads = [random.bytes(1000 * kilobytes) for _ in range(16)]
    records = [payloads[i % len(payloads)] for i in range(max(1, 1000 * megabytes // kilobytes))]
    plain = f"{folder}/plain.tfrecord"

    def write_plain():
        with tf.io.TFRecordWriter(plain) as writer:
            for record in records:
                writer.write(record)

    def read_plain():
        for _ in tf.data.TFRecordDataset(plain).as_numpy_iterator():
            pass

    def write_ours():
        write_shard(folder, file="ours.tfrecord", records=records)

    def read_ours():
        for _ in read_shard(f"{folder}/ours.tfrecord"):
            pass

    found = {"bytes": sum(map(len, records))}
    for name, ours, plainly in (("write", write_ours, write_plain), ("read", read_ours, read_plain)):
        seconds = measure.interleaved(
            {"plain": plainly, "ours": ours}, repetitions=repetitions, clock=time.perf_counter
        )
        found[name] = seconds
    return found


def report(found):
    """(lines, whether both bars are met)."""
    lines, good = [], True
    for name in ("write", "read"):
        ours, plain = (measure.median(found[name][who]) for who in ("ours", "plain"))
        ratio = ours / plain
        good &= ratio <= BAR
        speeds = [found["bytes"] / seconds / 1e6 for seconds in (ours, plain)]
        lines.append(
            f"{name}: {ratio:.3f} (at most {BAR})  {'PASS' if ratio <= BAR else 'FAIL'}  "
            f"{speeds[0]:.0f} MB/s, plain TensorFlow {speeds[1]:.0f} MB/s"
        )
    return lines, good


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sizes = {name: FLAGS[name].value for name in ("megabytes", "kilobytes", "repetitions")}
    with tempfile.TemporaryDirectory(dir=FLAGS.workdir) as folder:
        lines, good = report(measured(folder, **sizes))
    sys.stdout.write("\n".join(lines) + "\n")
    return int(not good)


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_integer("megabytes", 400, "Size of the shard.", lower_bound=1, **add)
    flags.DEFINE_integer("kilobytes", 256, "Size of a record: 8 seconds of audio are 256.", lower_bound=1, **add)
    flags.DEFINE_integer("repetitions", 7, "How often each is timed.", lower_bound=1, **add)
    flags.DEFINE_string("workdir", None, "Where to write; a temporary folder by default.", **add)


if __name__ == "__main__":
    command_line.start(main, define_flags)
