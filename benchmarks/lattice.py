"""Speed, memory and exactness of the lattice, each against its bar:

    python -m benchmarks.lattice --shape=large,medium --json=lattice.json --plot=docs/pictures/lattice_growth.png
    python -m benchmarks.lattice --shape=tiny --bars=1,4 --markdown
    python -m benchmarks.lattice --list

One thread, CPU time. Every row is timed in a process of its own, in turn with its yardstick. `floor` is the three
matrix products of a joint's forward and backward pass over all nodes, alone; what leaves out nodes without a gradient
can be faster. Peak memory is that of another process, which then checks the gradients. Bars 2 to 7 are set for the
large shape only. A line per row goes to stderr. Ends with status 1 if a bar is missed or a row cannot be measured.
"""

import importlib.metadata
import sys
from pathlib import Path

from absl import flags

from benchmarks import lattice_growth, lattice_shape, lattice_table, measure, outputs
from benchmarks.lattice_inputs import SHAPES
from benchmarks.lattice_rows import ROWS
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_list(
        "shape", ["large"], f"Of {', '.join(f'{name} ({shape})' for name, shape in SHAPES.items())}.", **add
    )
    flags.DEFINE_list("bars", list("1234567"), "Which bars.", **add)
    flags.DEFINE_list("rows", [], "Only these rows of theirs, see --list; all if empty.", **add)
    flags.DEFINE_integer("repetitions", 5, "How often each call is timed.", lower_bound=1, **add)
    flags.DEFINE_enum(
        "mode", "graph", ["graph", "xla", "eager"], "A tf.function, one that XLA compiles as a whole, or neither.",
        **add,
    )
    flags.DEFINE_list(
        "exact", list("12345"), "Bars whose gradients are compared with float64 NumPy: slow at the large shape.",
        **add,
    )
    outputs.define_flags(values)
    flags.DEFINE_string("plot", None, "A PNG for the picture of how the cost grows (bar 7, the first shape).", **add)
    flags.DEFINE_bool("list", False, "Prints the rows and their bars, and ends.", **add)


def main():
    if FLAGS.list:
        sys.stdout.write("".join(line + "\n" for line in lattice_table.listing()))
        return 0
    _check("shape", FLAGS.shape, SHAPES)
    _check("bars", FLAGS.bars, "1234567")
    _check("rows", FLAGS.rows, ROWS)
    about = {
        "processor": measure.processor(),
        "tensorflow": importlib.metadata.version("tensorflow"),
        "repetitions": FLAGS.repetitions,
        "mode": FLAGS.mode,
    }
    options = {name: FLAGS[name].value for name in ("bars", "rows", "repetitions", "mode", "exact")}
    shapes, missed = {}, False

    def report(line, figures):
        sys.stderr.write(line + "\n")
        # After every row: a long run that is stopped has given something.
        outputs.keep({"about": about, "shapes": shapes | {name: figures}})

    for name in FLAGS.shape:
        shapes[name] = lattice_shape.measured(name, report=report, **options)
    for name, figures in shapes.items():
        lines, good = lattice_table.table(name, figures, about=about, markdown=FLAGS.markdown)
        sys.stdout.write("\n".join(lines) + "\n\n")
        missed |= not good
    found = shapes[FLAGS.shape[0]]["bar_7"].get("growth", {})
    if FLAGS.plot and "failed" not in found and found:
        lattice_growth.plot(found, Path(FLAGS.plot))
    return int(missed)


def _check(flag, given, known):
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"--{flag}={','.join(unknown)}: known are {', '.join(known)}")


if __name__ == "__main__":
    command_line.start(main, define_flags)
