"""What all programs share: a short --help, mistakes that end in one line, all settings as flags, quiet logs."""

import inspect
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

DefineFlags = Callable[[flags.FlagValues], None]
_HELP = {"--help", "-help", "-h", "-?", "--helpshort"}
_COLUMN = 28
_WIDEST = 110


def start(
    body: Callable[..., int | None],
    define_flags: DefineFlags,
    *,
    takes_arguments: bool = False,
    errors: tuple[type[Exception], ...] = (ValueError,),
    flags_parser: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> None:
    """Parses the flags, calls `body` and exits: with what it returns (None is 0), or with 1 where it raises `errors`.

    Args:
        body: the program. It imports what is slow itself, so that --help and mistakes in flags answer at once.
        define_flags: defines the program's flags on what it is given. Its module's docstring is the help: what the
            program does, and an example.
        takes_arguments: `body` gets the list of what the flags left over; otherwise nothing may be left.
        errors: exceptions whose text is one line for the user.
        flags_parser: argv (the program's name first) -> argv without the flags; absl's parser if not given.
    """
    if folder := os.environ.pop("BUILD_WORKING_DIRECTORY", None):
        os.chdir(folder)  # where `bazel run` was typed; it starts programs in a folder of its own
    # Before anything imports TensorFlow: its C++ part reads this once.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    flags.FLAGS.set_gnu_getopt(True)  # else "transcribe a.wav --model=DIR" would hide the flag behind the file
    define_flags(flags.FLAGS)

    def parse(argv: Sequence[str]) -> Sequence[str]:
        if _HELP & set(argv[1 : argv.index("--") if "--" in argv else None]):
            sys.stdout.write(help_text(define_flags, width=shutil.get_terminal_size((_WIDEST, 24)).columns))
            sys.exit(0)
        try:
            return (flags_parser or flags.FLAGS)(argv)
        except flags.Error as error:
            sys.exit(fail(str(error), program=argv[0]))

    def main(argv: list[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # app.run has just raised it to INFO
        if len(argv) > 1 and not takes_arguments:
            return fail(f"unexpected argument {argv[1]!r}: everything is a flag, see --help", program=argv[0])
        try:
            return body(argv[1:]) if takes_arguments else body()
        except errors as error:
            return fail(str(error), program=argv[0])
        except BrokenPipeError:  # of "... | head"; what Python still holds for it would complain at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except KeyboardInterrupt:
            fail("interrupted", program=argv[0])
            return 128 + signal.SIGINT

    app.run(main, flags_parser=parse)  # type: ignore[misc]  # absl's own signature fits no function of a list


def require(values: flags.FlagValues, required: Mapping[str, str] | Sequence[str]) -> None:
    """Refuses flags without a value.

    Args:
        values: the parsed flags.
        required: names of flags, or {flag as it is written, such as "output=DIR": what it is}.

    Raises:
        ValueError: all names that are missing, or the first one and what it is.
    """
    missing = [spelling for spelling in required if not values[spelling.partition("=")[0]].value]
    if missing and isinstance(required, Mapping):
        raise ValueError(f"--{missing[0]} is missing: {required[missing[0]]}")
    if missing:
        raise ValueError(f"{', '.join(f'--{name}' for name in missing)} missing; see --help for an example")


def require_paths(values: flags.FlagValues, names: Sequence[str]) -> None:
    """Refuses files and folders that are not there; flags without a value, and addresses of other systems, may be so.

    Args:
        values: the parsed flags.
        names: flags that name a path, or several.

    Raises:
        ValueError: the flag, and the path that does not exist.
    """
    for name in names:
        given: Any = values[name].value or ()
        for path in [given] if isinstance(given, str) else given:
            if "://" not in path and not Path(path).exists():
                raise ValueError(f"--{name}={path}: there is no such file or folder")


def fail(message: str, *, program: str) -> int:
    """Prints one line, the program's name in front (of its package, for a __main__.py); returns the exit status."""
    path = Path(program)
    name = path.parent.name if path.stem == "__main__" else path.stem
    sys.stderr.write(f"{name}: {message}\n")
    return 1


def own_flags(define_flags: DefineFlags) -> dict[str, flags.Flag]:
    """A program's flags by name, in the order in which they are defined; without those of a config's fields."""
    values = flags.FlagValues()
    define_flags(values)
    return {name: values[name] for name in values if "." not in name and name == values[name].name}


def help_text(define_flags: DefineFlags, *, width: int) -> str:
    """The docstring of the program's module and its flags with their defaults, in lines of at most `width` letters."""
    text = inspect.cleandoc(sys.modules[define_flags.__module__].__doc__ or "")
    lines = [text, "", "Flags, with what holds where they are not given:", ""]
    for name, flag in own_flags(define_flags).items():
        left, right = f"  --{_usage(name, flag)}", _meaning(flag)
        wrapped = textwrap.wrap(right, max(min(width, _WIDEST) - _COLUMN, 30))
        if len(left) < _COLUMN:
            left += " " * (_COLUMN - len(left)) + wrapped.pop(0)
        lines += [left, *(" " * _COLUMN + line for line in wrapped)]
    return "\n".join([*lines, "", "Flags of logging and debugging: --helpfull", ""])


def _usage(name: str, flag: flags.Flag) -> str:
    if flag.boolean:
        return f"[no]{name}"
    default = flag.default
    if default is None or default == [] or default == "":
        return f"{name}=..."
    return f"{name}={','.join(map(str, default)) if isinstance(default, list) else default}"


def _meaning(flag: flags.Flag) -> str:
    """Its help, and what absl does not say in it."""
    text = flag.help or ""
    if flag.boolean and flag.default:
        text += " True if not given."
    if isinstance(flag, flags.MultiFlag):
        text += " May be given several times."
    return text
