"""What all binaries share: mistakes end in one line, every setting is a flag, and other people's logs are quiet."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import app, flags, logging


def start(
    body: Callable[..., int | None],
    *,
    takes_arguments: bool = False,
    errors: tuple[type[Exception], ...] = (ValueError,),
    flags_parser: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> None:
    """Parses the flags, calls `body` and exits: with what it returns (None is 0), or with 1 where it raises `errors`.

    Args:
        body: the program. It imports what is slow itself, so that --help and mistakes in flags answer at once.
        takes_arguments: `body` gets the list of what the flags left over; otherwise nothing may be left.
        errors: exceptions whose text is one line for the user.
        flags_parser: argv (the program's name first) -> argv without the flags; absl's parser if not given.
    """
    # Before anything imports TensorFlow: its C++ part reads this once.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def main(argv: list[str]) -> int:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # app.run has just raised it to INFO
        if len(argv) > 1 and not takes_arguments:
            raise app.UsageError(f"unexpected argument {argv[1]!r}: everything is a flag, see --help")
        try:
            return body(argv[1:]) if takes_arguments else body()
        except errors as error:
            return fail(str(error), program=argv[0])

    app.run(main, **({"flags_parser": flags_parser} if flags_parser else {}))


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


def fail(message: str, *, program: str) -> int:
    """Prints one line, the program's name in front (of its package, for a __main__.py); returns the exit status."""
    path = Path(program)
    name = path.parent.name if path.stem == "__main__" else path.stem
    sys.stderr.write(f"{name}: {message}\n")
    return 1
