"""Flags of the binaries here: absl's for the job, all others for Apache Beam, and mistakes end in one line."""

import itertools
import sys
from collections.abc import Mapping, Sequence

from absl import flags

# Their options are all known here; a remote runner may have some of its own.
_LOCAL_RUNNERS = (None, "FnApiRunner", "DirectRunner", "BundleBasedDirectRunner")


class CommandLineError(ValueError):
    """One line for the user."""


def parse(argv: Sequence[str], *, values: flags.FlagValues, required: Mapping[str, str]) -> list[str]:
    """Reads `argv` (the program's name first) into `values`; returns the arguments that are not among them.

    Args:
        required: {flag: what it is}, the flags that must be given.

    Raises:
        CommandLineError: a flag is missing or has a wrong value, or there is an argument that is no flag.
    """
    values.set_gnu_getopt(True)  # else "--runner FlinkRunner" would hide the flags behind it
    try:
        left = values(argv, known_only=True)
    except flags.Error as error:
        raise CommandLineError(str(error)) from error
    for before, argument in itertools.pairwise(left):
        if not argument.startswith("-") and (not before.startswith("-") or "=" in before):
            raise CommandLineError(f"unexpected argument {argument!r}: all settings are flags, see --help")
    for name, meaning in required.items():
        if not values[name].value:
            raise CommandLineError(f"--{name} is missing: {meaning}")
    return left[1:]


def beam_options(arguments: Sequence[str]):
    """PipelineOptions of what `parse` left over.

    Raises:
        CommandLineError: a flag that Apache Beam has not got either; remote runners may know it, and are not checked.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(list(arguments))
    known = options.get_all_options()
    unknown = sorted(options.get_all_options(retain_unknown_options=True).keys() - known.keys())
    if unknown and known["runner"] in _LOCAL_RUNNERS:
        name = unknown[0].removeprefix("--")
        raise CommandLineError(f"no flag --{name}, neither here nor in Apache Beam: see --help")
    return options


def fail(program: str, message: str) -> int:
    """Prints one line, and returns the exit status to end with."""
    sys.stderr.write(f"{program}: {message}\n")
    return 1
