"""Looks at the installation, the machine and your data, and says what to mend.

    python -m tf_rnnt_kd.doctor
    python -m tf_rnnt_kd.doctor --corpus=LibriSpeech --records=run/records --workdir=run

Checks Python and the versions of packages against the project's pins, loads TensorFlow and Beam, looks for GPUs,
memory, room on the disk, optional extras and programs; with --corpus a folder as prepare_corpus takes it, with
--records whether a dataset is complete and undamaged. Exit status: 0 where nothing is wrong, 1 after an error.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from tf_rnnt_kd import command_line
from tf_rnnt_kd.health import ERROR, NOTE, OK, WARNING, Finding, environment, packages

FLAGS = flags.FLAGS
_COLOURS = {OK: "32", NOTE: "36", WARNING: "33", ERROR: "31"}


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("corpus", None, "A corpus to look at: a folder, manifest or pattern.", **add)
    flags.DEFINE_list("records", [], "Folders of records to look at.", **add)
    flags.DEFINE_string("workdir", ".", "Where you would write: is there room?", **add)


def _doctor() -> int:
    counts: Counter[str] = Counter()
    for finding in _findings():
        counts[finding.level] += 1
        _show(finding)
    sys.stdout.write(f"\n{counts[ERROR]} errors, {counts[WARNING]} warnings\n")
    return int(counts[ERROR] > 0)


def _findings() -> Iterator[Finding]:
    yield from packages.interpreter()
    yield from packages.required()
    yield from packages.locked()
    yield from environment.variables()
    yield from environment.disk(
        {"what you make": Path(FLAGS.workdir), "temporary files": environment.temporary_folder()}
    )
    yield from environment.optional_programs()

    from tf_rnnt_kd.health import devices  # slow: TensorFlow and Beam

    broken = False
    for finding in devices.imports():
        broken |= finding.level == ERROR
        yield finding
    if broken:
        return
    yield from devices.accelerators()

    from tf_rnnt_kd.health import data

    if FLAGS.corpus:
        yield from data.corpus(FLAGS.corpus)
    for path in FLAGS.records:
        yield from data.records(path)


def _show(finding: Finding) -> None:
    level = f"{finding.level:8s}"
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        level = f"\033[{_COLOURS[finding.level]}m{level}\033[0m"
    sys.stdout.write(f"{level}{finding.text}\n")
    if finding.remedy:
        sys.stdout.write(f"        -> {finding.remedy}\n")
    sys.stdout.flush()


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_doctor, define_flags)


if __name__ == "__main__":
    main()
