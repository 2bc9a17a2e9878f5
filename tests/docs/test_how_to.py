"""The pages on planning and engines: their commands exist, with these flags, and their links lead somewhere."""

import importlib.util
import pathlib
import re
import shlex

import pytest
from absl import flags
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import command_line, plan, pseudo_label

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PAGES = [_ROOT / "docs" / "how_to" / f"{name}.md" for name in ("dataflow", "flink", "plan")]


def _commands(page):
    """The words of each command in the page's bash blocks."""
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_commands_are_ours_or_beams_and_their_flags_exist(page):
    checked = 0
    for words in _commands(page):
        while "-m" in words:
            module, rest = words[words.index("-m") + 1], words[words.index("-m") + 2 :]
            assert importlib.util.find_spec(module), words
            if module in ("beam_pipelines.pseudo_label", "beam_pipelines.plan"):
                _check_flags([word for word in rest if word != "..."], with_plan=module.endswith("plan"))
                checked += 1
            words = rest
    assert checked


def _check_flags(arguments, *, with_plan):
    arguments = [argument.replace("=...", "=x") for argument in arguments]
    left = ["program", *arguments]
    for define in (plan.define_flags,) * with_plan + (pseudo_label.define_flags,):
        values = flags.FlagValues()
        define(values)
        left = ["program", *command_line.parse(left, values=values, required={})]
    options = PipelineOptions(left[1:])
    unknown = options.get_all_options(retain_unknown_options=True).keys() - options.get_all_options().keys()
    assert not unknown


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_files_and_links_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`((?:tests|containers|tools|benchmarks)/[\w/.]+)`", text):
        assert (_ROOT / path).exists(), path
