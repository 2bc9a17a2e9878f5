"""Every `python -m ...` in README.md and docs/: the module exists, and it has these flags and takes these values."""

import importlib
import importlib.util
import inspect
import json
import pathlib
import re
import shlex
import sys

import pytest
from absl import flags
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import pseudo_label

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_OURS = ("tf_rnnt_kd", "beam_pipelines", "benchmarks", "tools")
_PAGES = [_ROOT / "README.md", _ROOT / "serving" / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
# A file that the reader is to write.
_STAND_INS = {"--config=my_student.py": "--config=configs/librispeech.py:student_soft"}
_NOTEBOOKS = sorted((_ROOT / "notebooks").glob("*.ipynb"))
_END = re.compile(r"\d?[|<>;&].*|-->")  # a pipe, a redirection, another command, the end of a comment


def _lines(text):
    """What looks like a shell's lines: of code blocks, backslashes joined, and of code within a paragraph."""
    # Pages are full of code in other languages; only lines that call python matter.
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.startswith("    ") or not re.search(r"`python", line):
            yield line.strip()
        else:
            yield from re.findall(r"`+(python[^`]*)`", line)


def _calls(text):
    """(module, arguments) of each `python -m`."""
    for line in _lines(text):
        if not re.search(r"python3? -m ", line):
            continue
        words = shlex.split(line, comments=True)
        while "-m" in words:
            start = words.index("-m")
            called, words = words[start + 1], words[start + 2 :]
            arguments = []
            for word in words:
                if _END.fullmatch(word) or (word == "--" and "-m" in words):
                    break
                arguments.append(_STAND_INS.get(word, word))
            if not called.endswith(".NAME"):
                yield called, [re.sub(r"=\.\.\.$", "=x", word) for word in arguments if word not in ("...", "\\")]


def _program(name):
    """The module that runs as `python -m name`."""
    module = importlib.import_module(name)
    return importlib.import_module(f"{name}.__main__") if hasattr(module, "__path__") else module


def check(name, arguments, monkeypatch):
    """Raises where the program would refuse these arguments."""
    program = _program(name)
    if not hasattr(program, "define_flags"):
        assert not [word for word in arguments if word.startswith("-")], f"{name} has no flags"
        return
    monkeypatch.setattr(sys, "argv", [name, *arguments])  # there config flags look for overrides
    values = _flags_of(program)
    if not name.startswith("beam_pipelines.") or "beam" not in inspect.getsource(program).lower():
        left = values([name, *arguments])[1:]
        assert not left or "takes_arguments=True" in inspect.getsource(program), f"{name} takes no {left}"
        return
    left = values([name, *arguments], known_only=True)
    if name == "beam_pipelines.plan":
        left = _flags_of(pseudo_label)(left, known_only=True)
    known = PipelineOptions(left[1:])
    unknown = known.get_all_options(retain_unknown_options=True).keys() - known.get_all_options().keys()
    assert not unknown, f"{name} has no {sorted(unknown)}"


def _flags_of(program):
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    program.define_flags(values)
    return values


def test_calls_are_found_wherever_they_stand():
    page = "Run `python -m a.b --x=1` or:\n\n    python -m c --y=... | head  # twice\n\n```bash\nX=1 python -m d \\\n"
    page += "  -- python -m e -z\n```\n"
    assert list(_calls(page)) == [("a.b", ["--x=1"]), ("c", ["--y=x"]), ("d", []), ("e", ["-z"])]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(_ROOT)
    monkeypatch.syspath_prepend(str(_ROOT))  # benchmarks and tools are not installed


@pytest.mark.parametrize("page", [*_PAGES, *_NOTEBOOKS], ids=lambda page: str(page.relative_to(_ROOT).with_suffix("")))
def test_commands_exist_with_these_flags(page, monkeypatch):
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    for name, arguments in _calls(text.replace("!{sys.executable} -m", "python -m")):
        assert importlib.util.find_spec(name), name
        if name.partition(".")[0] in _OURS:
            check(name, arguments, monkeypatch)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("tf_rnnt_kd.train", "--teacher=x"),
        ("tf_rnnt_kd.train", "--config=configs/demo.py:nobody"),
        ("beam_pipelines.pseudo_label", "--n_best=many"),
        ("beam_pipelines.pseudo_label", "--no_such_option=1"),
    ],
)
def test_a_wrong_command_would_be_found(name, wrong, monkeypatch):
    with pytest.raises((AssertionError, flags.Error)):
        check(name, [wrong], monkeypatch)


def test_a_wrong_setting_would_be_found(monkeypatch):
    arguments = ["--config=configs/demo.py:teacher", "--config.train.stepz=1"]
    with pytest.raises((AttributeError, KeyError)):
        check("tf_rnnt_kd.train", arguments, monkeypatch)


def test_the_one_liners_of_the_pages_run(capsys):
    """`python -c "..."`, all but those that wait for input or for an accelerator."""
    for page in _PAGES:
        for code in re.findall(r'python -c "([^"]*)"', page.read_text(encoding="utf-8").replace("\\\n", "")):
            if "stdin" not in code:
                exec(re.sub(r"\s{2,}", " ", code), {})
                assert capsys.readouterr().out.strip()
