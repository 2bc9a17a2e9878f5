"""How benchmarks give their figures: in Markdown with --markdown, and all of them to a file with --json."""

import json
from pathlib import Path

from absl import flags


def define_flags(values: flags.FlagValues, *, markdown: bool = True) -> None:
    """--json, and --markdown where there are tables."""
    if markdown:
        flags.DEFINE_bool("markdown", False, "Prints tables in Markdown.", flag_values=values)
    flags.DEFINE_string("json", None, "A file for all figures.", flag_values=values)


def keep(figures) -> None:
    """Writes what JSON takes to the file of --json, if one is given; may be called again as figures come in."""
    if flags.FLAGS.json:
        Path(flags.FLAGS.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
