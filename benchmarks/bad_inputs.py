"""Bad inputs by the thousand, and whether preparing a corpus survives them:

    python -m benchmarks.bad_inputs --output=bad --count=10000 --run

Writes truncated, damaged and misnamed audio of every format, things that are no audio or no files, and manifest lines
that lead astray, with a good file for every ten of them (bad/files, bad/manifest; bad/expected.jsonl says what must
become of each). With --run it prepares records of them in bad/records and checks that every input is accounted for
once, that each bad one was refused with a reason, and that good neighbours have the right samples. Prints a table by
kind and reason. Ends with status 1 if anything is wrong.
"""

import collections
import sys
import time
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS
_SHOWN = 20


def main():
    command_line.require(FLAGS, {"output": "a new folder"})
    from benchmarks import bad_input_files

    folder = Path(FLAGS.output)
    start = time.monotonic()
    items = bad_input_files.write(folder, count=FLAGS.count, seed=FLAGS.seed)
    kinds = collections.Counter(item.expect for item in items)
    _say(
        f"{len(items)} inputs in {time.monotonic() - start:.1f} s: {kinds['refused']} to be refused, "
        f"{kinds['written']} to be written, {kinds['either']} either; {folder / bad_input_files.EXPECTED}"
    )
    return _run(folder, items) if FLAGS.run else 0


def _run(folder: Path, items) -> int:
    import tensorflow as tf

    from beam_pipelines.corpus import prepare_corpus
    from benchmarks import bad_input_check

    tf.get_logger().setLevel("ERROR")
    output = folder / "records"
    start = time.monotonic()
    prepare_corpus(
        [str(folder / "files"), str(folder / "manifest")],
        output=str(output),
        decoder_processes=FLAGS.decoder_processes,
    )
    seconds = time.monotonic() - start
    kinds, problems = bad_input_check.check(folder, output, items)
    for line in bad_input_check.table(kinds):
        _say(line)
    lost = sum(counter["decoder_crashed"] + counter["decoder_timeout"] for counter in kinds.values())
    _say(f"{seconds:.1f} s, {len(items) / seconds:.0f} inputs per second; decoders that crashed or hung: {lost}")
    for problem in problems[:_SHOWN]:
        _say(f"WRONG: {problem}")
    _say(f"{len(problems)} wrong" if problems else "all accounted for")
    return int(bool(problems))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("output", None, "A new folder for the inputs, and for the records made of them.", **add)
    flags.DEFINE_integer("count", 10000, "Bad inputs.", lower_bound=1, **add)
    flags.DEFINE_integer("seed", 0, "Of all random choices.", lower_bound=0, **add)
    flags.DEFINE_bool("run", False, "Prepares a corpus of them and checks what becomes of them.", **add)
    flags.DEFINE_integer("decoder_processes", None, "That decode; one per core by default.", lower_bound=0, **add)


if __name__ == "__main__":
    command_line.start(main, define_flags)
