"""Pages on all studies that were run, from their results.json alone.

    python -m tf_rnnt_kd.studies.publish --workdir=studies_run --output=docs/results

Writes OUTPUT/NAME/ with the page, pictures and numbers of each study in the work folder, and OUTPUT/README.md: a table
of all studies that OUTPUT then holds, and all that they claimed. So studies may be run and published one by one.
"""

import collections
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tf_rnnt_kd import command_line
from tf_rnnt_kd.stages import write_atomically

FLAGS = flags.FLAGS


def publish(workdir: Path, *, output: Path) -> list[str]:
    """Writes the pages; returns the names of the studies in `workdir`.

    Raises:
      ValueError: there is no results.json in a folder of `workdir`, or one is of a miniature.
    """
    from tf_rnnt_kd.studies import report

    paths = sorted(workdir.glob("*/results.json"))
    if not paths:
        raise ValueError(f"--workdir: no NAME/results.json in {workdir}; python -m tf_rnnt_kd.study makes them")
    summaries = [json.loads(path.read_text()) for path in paths]
    small = [summary["name"] for summary in summaries if summary["miniature"]]
    if small:
        raise ValueError(f"--workdir: {', '.join(small)} in {workdir} are miniatures, whose numbers say nothing")
    for summary in summaries:
        report.render(summary, output / summary["name"])
    published = [json.loads(path.read_text()) for path in sorted(output.glob("*/results.json"))]
    write_atomically(output / "README.md", content="\n".join(overview(published)) + "\n")
    return [summary["name"] for summary in summaries]


def overview(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown: a row for each study, then its claims."""
    from tf_rnnt_kd.studies import page
    from tf_rnnt_kd.studies.curves import FAILS, HOLDS, OPEN

    lines = [
        "# Results of the studies",
        "",
        "Made of their `results.json` by `python -m tf_rnnt_kd.studies.publish`; each page names the command and the "
        "revision that made it. What was claimed was written down before anything was measured.",
        "",
        f"| study | seeds | systems | best of them | WER % | 95 % interval | {HOLDS} | {FAILS} | {OPEN} |",
        "|" + "---|" * 9,
    ]
    for summary in summaries:
        best = min(summary["systems"], key=lambda system: system["wer"])
        low, high = best["interval"]
        made = [*summary["claims"], *(pair for curve in summary["curves"] for pair in curve["steeper"])]
        counts = collections.Counter(claim["verdict"] for claim in made)
        lines.append(
            f"| [{summary['title']}]({summary['name']}/README.md) | {len(summary['seeds'])} | "
            f"{len(summary['systems'])} | {best['name']} | {100 * best['wer']:.2f} | {100 * low:.2f} to "
            f"{100 * high:.2f} | {counts[HOLDS]} | {counts[FAILS]} | {counts[OPEN]} |"
        )
    for summary in summaries:
        lines += ["", f"## {summary['title']}", "", *page.claims(summary)]
    return lines


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string("workdir", "studies_run", "Work folder of tf_rnnt_kd.study.", **add)
    flags.DEFINE_string("output", None, "Folder to write, such as docs/results.", **add)


def _publish() -> None:
    command_line.require(FLAGS, ("output",))
    names = publish(Path(FLAGS.workdir), output=Path(FLAGS.output))
    sys.stdout.write(f"{FLAGS.output}/README.md tells of {', '.join(names)}\n")


def main() -> None:
    """What `python -m` calls."""
    command_line.start(_publish, define_flags)


if __name__ == "__main__":
    main()
