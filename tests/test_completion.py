"""The shell's script, run by the shells themselves."""

import shutil
import subprocess

import pytest

from tf_rnnt_kd import completion


def _completed(tmp_path, words, *, shell="bash"):
    """Replies to words as bash gives them: with `=` as a word of its own."""
    script = tmp_path / "completion"
    script.write_text(completion.script())
    listed = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _rnnt_kd; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    source = f"source {script}; {ask}"
    if shell == "zsh":
        source = f"autoload -U compinit && compinit -u -D; source {script}; setopt ksh_arrays sh_word_split; {ask}"
    done = subprocess.run([shell, "-c", source], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["rnnt-kd-train", "--str"], ["--strategy="]),
        (["rnnt-kd-train", "--strategy", "=", "m"], ["mirrored", "multi_worker_mirrored"]),
        (["/usr/bin/rnnt-kd-train", "--strategy", "="], ["none", "mirrored", "multi_worker_mirrored", "tpu"]),
        (["rnnt-kd-export", "--workdir", "=", ""], []),
        (["rnnt-kd-train", "--dr"], ["--dry_run"]),
        (["python", "-m", "tf_rnnt_kd.train"], ["tf_rnnt_kd.train", "tf_rnnt_kd.train_tokenizer"]),
        (["python3.11", "-m", "beam_pipelines.pseudo_label", "--targ"], ["--targets="]),
        (["python", "-m", "beam_pipelines.pseudo_label", "--targets", "=", "r"], ["reference"]),
        (["python", "-m", "json.tool", "--"], []),
        (["python", "script.py", "--"], []),
    ],
)
def test_bash(tmp_path, words, replies):
    assert _completed(tmp_path, words) == replies


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh on this machine")
@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["rnnt-kd-train", "--str"], ["--strategy="]),
        (["rnnt-kd-train", "--strategy=m"], ["--strategy=mirrored", "--strategy=multi_worker_mirrored"]),
        (["python", "-m", "beam_pipelines.pseudo_label", "--targ"], ["--targets="]),
    ],
)
def test_zsh(tmp_path, words, replies):
    assert _completed(tmp_path, words, shell="zsh") == replies
