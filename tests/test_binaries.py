"""All programs alike: a short --help with an example, one vocabulary of flags, one line for each mistake."""

import ast
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from tf_rnnt_kd import command_line, programs

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_MODULES = list(programs.PROGRAMS.values())
# Flags that several programs have mean the same in all of them, and have values of one kind: one, or several.
_SHARED = {
    "artifacts": "what records hold of a teacher",
    "batch_size": "utterances or files at once",
    "calibration": "JSON of tf_rnnt_kd.calibrate",
    "config": "settings, FILE:VARIANT",
    "corpus": "audio and transcripts as people have them",
    "dry_run": "only say what would be done",
    "hours": "of audio",
    "input": "folders and files to read",
    "json": "a file for all figures",
    "kind": "of what is made",
    "label_flag": "passed on to pseudo_label",
    "markdown": "print tables in Markdown",
    "max_seconds": "of an utterance",
    "model": "an exported model, or a folder of its versions",
    "n_best": "hypotheses",
    "name": "of a system or model, for people and clients",
    "output": "what is made",
    "records": "a dataset of records",
    "seed": "of random numbers",
    "split": "of the records or the corpus",
    "splits": "of a corpus, several",
    "student": "exported student",
    "teacher": "exported teacher",
    "tokenizer": "tokenizer folder",
    "version": "number of a model's version",
    "workdir": "folder of something that goes on where it stopped",
    "workers": "at once",
}
_OTHER_NAMES = {"saved_model", "batch", "vocab", "folder", "out", "output_dir", "verbose", "num_workers", "tokeniser"}


def _run(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", programs.typed(module), *arguments], cwd=_ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("module", _MODULES)
def test_help_is_short_and_complete(module):
    own = programs.flags_of(module)
    text = command_line.help_text(sys.modules[module].define_flags, width=100)
    lines = text.splitlines()
    assert f"python -m {programs.typed(module)}" in text, "no example"
    assert len(lines) < 100
    assert max(len(line) for line in lines[lines.index("Flags, with what holds where they are not given:") :]) <= 100
    for name, flag in own.items():
        assert name == name.lower()
        assert flag.help and flag.help.strip(), f"--{name} has no help"
        (line,) = [line for line in lines if line.startswith((f"  --{name}=", f"  --[no]{name}"))]
        if flag.default not in (None, "", []) and not flag.boolean and not isinstance(flag.default, list):
            assert str(flag.default) in line


def test_one_vocabulary():
    kinds, users = {}, {}
    for module in _MODULES:
        for name, flag in programs.flags_of(module).items():
            assert name not in _OTHER_NAMES, f"{module} --{name}: see the vocabulary in this test"
            users.setdefault(name, []).append(module)
            if not isinstance(flag.parser, flags.ListParser):
                kinds.setdefault(name, {})[module] = _kind(flag)
    shared = {name for name, modules in users.items() if len(modules) > 1}
    assert shared <= set(_SHARED), f"say what {shared - set(_SHARED)} means, or name it otherwise"
    for name in shared:
        assert len(set(kinds.get(name, {}).values())) < 2, (name, kinds[name])


def _kind(flag):
    """A number, a truth, or text."""
    kind = flag.flag_type()
    return kind if kind in ("int", "float", "bool") else "text"


def test_help_imports_nothing_slow():
    code = (
        "import sys\nfrom tf_rnnt_kd import programs\n"
        "for module in programs.PROGRAMS.values():\n    programs.flags_of(module)\n"
        "print(sorted({'tensorflow', 'keras', 'apache_beam', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_program_is_in_the_list():
    found = {
        ".".join(path.relative_to(_ROOT).with_suffix("").parts)
        for package in ("tf_rnnt_kd", "beam_pipelines")
        for path in (_ROOT / package).rglob("*.py")
        if _calls_start(path)
    }
    assert found == set(_MODULES)


def _calls_start(path):
    """Whether it has a main() that calls some `command_line.start`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            return "command_line.start(" in ast.unparse(node)
    return False


def test_help_is_no_mistake_and_a_closed_pipe_no_error():
    done = _run("tf_rnnt_kd.train", "--config=nowhere.py", "--help")
    assert done.returncode == 0 and "--dry_run" in done.stdout and not done.stderr
    shell = f"{sys.executable} -m tf_rnnt_kd.demo --dry_run --workdir=x | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0].startswith("[1/") and not done.stderr
    assert done.stdout.splitlines()[1] in ("0", "141")


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("tf_rnnt_kd.train", ["--worldir=x"], "Unknown command line flag 'worldir'. Did you mean: workdir"),
        ("tf_rnnt_kd.train", ["--strategy=all"], "flag --strategy=all: value should be one of"),
        ("tf_rnnt_kd.train", ["--config=configs/demo.py:no"], "--config=configs/demo.py:no: no variant 'no'"),
        (
            "tf_rnnt_kd.train",
            ["--config=configs/demo.py:teacher", "--config.train.stepz=3"],
            "--config has no such setting: 'stepz' Did you mean \"steps\"",
        ),
        ("tf_rnnt_kd.evaluate", ["--model=no", "--corpus=."], "--model=no: there is no such file or folder"),
        ("tf_rnnt_kd.transcribe", ["a.wav", "--model=no"], "--model=no: there is no such file or folder"),
        ("tf_rnnt_kd.calibrate", ["--result=no", "--output=x"], "--result=no: there is no such"),
        ("tf_rnnt_kd.report", ["--results=a,b", "--baseline=a", "--output=x"], "--results=a: there is no such"),
        ("tf_rnnt_kd.demo", ["stray"], "unexpected argument 'stray': everything is a flag, see --help"),
        ("beam_pipelines.fit_filter", ["--records=no", "--output=x"], "--records=no: there is no such"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag(module, arguments, message):
    done = _run(module, *arguments)
    assert done.returncode == 1 and not done.stdout
    assert message in done.stderr
    assert done.stderr.startswith(f"{module.rpartition('.')[2]}: ") and done.stderr.count("\n") == 1
