"""All studies in miniature by the real programs, killed on the way; then generations, killed as well."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from toy_study import write_tones

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_STUDIES = ("hwang", "hwang_adapt", "panchapagesan", "zeineldeen", "tang", "frontier", "recipe")
_SIZES = {"train-labeled": 16, "train-unlabeled": 16, "dev": 4, "test": 4}


class Run:
    """A program that is killed once, and started again.

    Attributes:
      workdir: its own. spared: keys of the jobs that were done when it was killed. log: of the second start.
    """

    def __init__(self, module, *flags, workdir, kill_after):
        self.workdir = workdir
        command = [sys.executable, "-m", module, *flags, f"--workdir={workdir}"]
        logs = [workdir.parent / f"{workdir.name}-{number}.log" for number in (1, 2)]
        with logs[0].open("w") as log, subprocess.Popen(command, cwd=_PROJECT, stdout=log, stderr=log) as first:
            while len(self.done()) < kill_after:
                assert first.poll() is None, logs[0].read_text()[-5000:]
                time.sleep(0.05)
            first.send_signal(signal.SIGKILL)
        self.spared = self.done()
        with logs[1].open("w") as log:
            code = subprocess.run(command, cwd=_PROJECT, stdout=log, stderr=log, check=False).returncode
        self.log = logs[1].read_text()
        assert code == 0, self.log[-5000:]

    def done(self):
        """Commands of the jobs with markers, by key."""
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.workdir.glob("done/*.json"))}

    def started_again(self):
        """Commands of the jobs that the second start ran."""
        return re.findall(r"^      (python -m .*)$", self.log, re.MULTILINE)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    write_tones(root / "corpus", sizes=_SIZES)
    files = ",".join(f"configs/studies/{name}.py" for name in _STUDIES)
    flags = (f"--study={files}", f"--corpus={root / 'corpus'}", "--seeds=1", "--miniature", "--jobs=2")
    return Run("tf_rnnt_kd.study", *flags, workdir=root / "run", kill_after=5)


def test_what_was_done_is_not_done_again(studies):
    again = studies.started_again()
    assert len(studies.spared) >= 5 and len(again) == len(set(again)) == len(studies.done()) - len(studies.spared)
    assert not {marker["command"] for marker in studies.spared.values()} & set(again)


@pytest.mark.parametrize("name", _STUDIES)
def test_each_study_ends_with_its_page(studies, name):
    folder = studies.workdir / name
    summary = json.loads((folder / "results.json").read_text())
    page = (folder / "README.md").read_text()
    assert summary["claims"] and "**A miniature" in page and f"--study=configs/studies/{name}.py" in page
    for claim in summary["claims"]:
        assert 0 <= claim["probability"] <= 1 and claim["text"] in page
    for system in summary["systems"]:
        assert system["wer"] > 0 and f"| {system['name']} |" in page
    assert summary["made"]["jobs"]["training"] >= len(summary["systems"]) - 1
    for picture in re.findall(r"\]\((\w+\.png)\)", page):
        assert (folder / picture).stat().st_size > 5000
    assert len(summary["curves"]) == {"hwang": 2, "hwang_adapt": 2, "tang": 0, "recipe": 0}.get(name, 1)


def test_losses_are_those_of_the_methods(studies):
    """Each method's own terms were computed: they stand in the training logs, and are numbers."""
    terms = set()
    for log in studies.workdir.glob("training/*/*.jsonl"):
        for line in log.read_text().splitlines():
            terms |= {name for name, value in json.loads(line).items() if isinstance(value, float) and value == value}
    text = " ".join(terms)
    for name in ("rnnt", "soft", "collapsed", "discriminative", "hidden", "output", "top_k"):
        assert name in text, f"{name} in {sorted(terms)}"


def test_generations_killed_and_resumed(studies, tmp_path):
    def made(kind, start):
        (folder,) = studies.workdir.glob(f"{kind}/{start}*")
        return folder

    teacher = next(job["command"] for job in studies.done().values() if "self_teacher" in job["command"])
    teacher = re.search(r"--workdir=(\S+)", teacher).group(1)
    config = tmp_path / "student.py"
    config.write_text(
        "from tf_rnnt_kd.studies import small\n\n\ndef get_config():\n    config = small.student()\n"
        "    config.update_from_flattened_dict(small.MINIATURE)\n    return config\n"
    )
    run = Run(
        "tf_rnnt_kd.generations", "--rounds=1", f"--config={config}", f"--records={made('corpus', 'records')}",
        f"--tokenizer={made('tokenizer', '')}", f"--teacher_workdir={teacher}",
        "--promote_above=0", workdir=tmp_path / "generations", kill_after=2,
    )  # fmt: skip
    assert len(run.started_again()) == len(run.done()) - len(run.spared) >= 5
    summary = json.loads((run.workdir / "results.json").read_text())
    assert [each["promoted"] for each in summary["rounds"]] == [True]
    assert [system["name"] for system in summary["systems"]] == ["first teacher", "round 1"]
    promoted = json.loads((run.workdir / "promoted.json").read_text())
    assert pathlib.Path(promoted["saved_model"]).is_dir() and "improves on its teacher" in run.log
    assert (run.workdir / "over_the_rounds.png").exists()
