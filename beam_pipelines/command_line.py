"""Flags of the binaries here: absl's for the job, all others for Apache Beam."""

import itertools
import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence

from absl import flags

from tf_rnnt_kd import command_line

# Their options are all known here; a remote runner may have some of its own.
_LOCAL_RUNNERS = (None, "FnApiRunner", "DirectRunner", "BundleBasedDirectRunner")

# Warnings of Beam about what is not used here: its own TFRecords (TensorFlow writes ours), and memory metrics.
_NOT_FOR_USERS = ("crcmod package not found", "Resource module is not available")


class CommandLineError(ValueError):
    """One line for the user."""


def start(
    body: Callable[[flags.FlagValues, list[str]], int | None],
    define_flags: command_line.DefineFlags,
    *,
    required: Mapping[str, str],
) -> None:
    """As `tf_rnnt_kd.command_line.start`, with absl's flags and the arguments for Apache Beam given to `body`.

    Args:
        body: the program.
        define_flags: defines its flags.
        required: {flag: what it is}, the flags that must be given.
    """
    # What Beam's Google Cloud modules say about themselves when they are imported, also to those who do not use them.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core\._python_version_support")
    logging.getLogger().addFilter(lambda record: not record.getMessage().startswith(_NOT_FOR_USERS))

    def parser(argv: Sequence[str]) -> list[str]:
        try:
            return [argv[0], *parse(argv, values=flags.FLAGS, required=required)]
        except CommandLineError as error:
            sys.exit(command_line.fail(str(error), program=argv[0]))

    command_line.start(
        lambda arguments: body(flags.FLAGS, arguments), define_flags, takes_arguments=True, flags_parser=parser
    )


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
    try:
        command_line.require(values, required)
    except ValueError as error:
        raise CommandLineError(str(error)) from error
    return left[1:]


def beam_options(arguments: Sequence[str]):
    """PipelineOptions of what `parse` left over.

    DirectRunner becomes the runner of this process that it stands for, so that its --direct_running_mode means
    something: Beam's own would first try to fetch Prism from the network, and ignore the mode where it has one.

    Raises:
        CommandLineError: a flag that Apache Beam has not got either; remote runners may know it, and are not checked.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    options = PipelineOptions(list(arguments))
    known = options.get_all_options()
    unknown = sorted(options.get_all_options(retain_unknown_options=True).keys() - known.keys())
    if unknown and known["runner"] in _LOCAL_RUNNERS:
        name = unknown[0].removeprefix("--")
        raise CommandLineError(f"no flag --{name}, neither here nor in Apache Beam: see --help")
    if (known["runner"] or "").lower().removesuffix("runner") == "direct":
        options.view_as(StandardOptions).runner = "FnApiRunner"
    return options
