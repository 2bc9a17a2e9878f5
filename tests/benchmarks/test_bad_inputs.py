"""Bad inputs: the same seed makes the same ones, all are accounted for, and the check finds what is not."""

import collections
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmarks import bad_input_check, bad_input_damage, bad_input_files, bad_input_lines
from tf_rnnt_kd.speech.audio import decode_audio
from tf_rnnt_kd.speech.errors import AudioError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, items) with every kind in every format."""
    folder = tmp_path_factory.mktemp("bad") / "inputs"
    return folder, bad_input_files.write(folder, count=450, seed=1)


def _digest(folder):
    digest = hashlib.md5()
    for path in sorted(folder.rglob("*"), key=os.fsencode):
        digest.update(os.fsencode(path.relative_to(folder)))
        if path.is_file() and path.stat().st_size < 1 << 30:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_the_same_seed_makes_the_same_and_another_one_others(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        bad_input_files.write(tmp_path / name, count=120, seed=seed)
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b") != _digest(tmp_path / "c")
    with pytest.raises(ValueError, match="not empty"):
        bad_input_files.write(tmp_path / "a", count=1, seed=0)


def test_there_are_as_many_as_asked_for_of_every_kind(made):
    folder, items = made
    kinds = collections.Counter(item.kind for item in items)
    assert kinds.total() == 450 + kinds["good"] + kinds["good line"]
    assert kinds["good"] == kinds["good line"] == 45
    lines = {f"line: {kind.name}" for kind in bad_input_lines.KINDS}
    damages = {damage.name for damage in bad_input_damage.KINDS}
    assert lines | damages <= kinds.keys() and len(kinds) == len(lines) + len(damages) + 14 + 2
    assert len({item.id for item in items}) == len(items)
    assert bad_input_check.read_expected(folder) == items


@pytest.mark.timeout(300)
def test_each_file_decodes_or_not_as_it_should(made):
    """Without pipelines: what `decode_audio` says of each file, in this process."""
    folder, items = made
    wrong = []
    for item in items:
        if not item.path or item.expect == "either":
            continue
        try:
            decode_audio(folder / item.path, min_seconds=0.1)
            outcome = "written"
        except AudioError:
            outcome = "refused"
        if outcome != item.expect:
            wrong.append((item, outcome))
    assert not wrong


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    from beam_pipelines.corpus import prepare_corpus

    folder = tmp_path_factory.mktemp("prepared") / "inputs"
    items = bad_input_files.write(folder, count=200, seed=2)
    output = folder.parent / "records"
    prepare_corpus([str(folder / "files"), str(folder / "manifest")], output=str(output), decoder_processes=1)
    return folder, output, items


def test_a_corpus_of_them_is_prepared_and_all_are_accounted_for(prepared):
    kinds, problems = bad_input_check.check(*prepared)
    assert not problems
    assert kinds["good"] == kinds["good line"] == {"written": 20}
    assert not any(counter["decoder_crashed"] + counter["decoder_timeout"] for counter in kinds.values())
    lines = bad_input_check.table(kinds)
    assert len(lines) == len(kinds) + 2
    assert lines[-1].split()[:2] == ["all", "240"]


def test_the_check_finds_what_is_wrong(prepared, tmp_path):
    folder, output, items = prepared
    shutil.copytree(output, tmp_path / "records")
    path = tmp_path / "records" / "dead_letter.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()

    def problems(changed, expected=items):
        path.write_text("\n".join(changed) + "\n", encoding="utf-8")
        return bad_input_check.check(folder, tmp_path / "records", expected)[1]

    assert problems(lines) == []
    assert any("0 outcomes" in problem for problem in problems(lines[1:]))
    assert any("2 outcomes" in problem for problem in problems([*lines, lines[3]]))
    silent = json.dumps(json.loads(lines[5]) | {"reason": ""})
    assert any("says nothing" in problem for problem in problems([*lines[:5], silent, *lines[6:]]))
    good = next(item for item in items if item.kind == "good")
    other = next(item for item in items if item.kind == "good" and item.id != good.id)
    swapped = [bad_input_files.Item(**vars(item) | {"path": other.path}) if item is good else item for item in items]
    assert any("not the samples" in problem for problem in problems(lines, swapped))
    turned = [bad_input_files.Item(**vars(item) | {"expect": "refused"}) if item is good else item for item in items]
    assert any("written, should be refused" in problem for problem in problems(lines, turned))


def test_the_command_writes_and_says_what_it_wrote(tmp_path):
    command = [sys.executable, "-m", "benchmarks.bad_inputs", f"--output={tmp_path / 'new'}", "--count=20"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "24 inputs" in done.stdout
    assert (tmp_path / "new" / "expected.jsonl").is_file()
