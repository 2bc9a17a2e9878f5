"""Where an export comes from: the commit of this code, and what its training measured."""

import pathlib
import subprocess

import tf_rnnt_kd
from tf_rnnt_kd.training.workdir import read_json


def git_revision(folder=None):
    """The commit of the code that runs, 40 hexadecimal digits, with `+changes` where tracked files differ from it.

    Args:
      folder: a package's; None: that of tf_rnnt_kd.

    Returns:
      None where the folder's __init__.py is in no Git repository: an installed package, or one within somebody else's.
    """
    folder = pathlib.Path(folder or pathlib.Path(tf_rnnt_kd.__file__).parent)
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    revision = _git(folder, "rev-parse", "HEAD")
    if revision and _git(folder, "status", "--porcelain", "--untracked-files=no"):
        return f"{revision}+changes"
    return revision


def training_card(workdir, *, trained):
    """What a training's folder says of its model: dev_wer (a share), the step of the weights, and the records.

    Args:
      workdir: of the training. trained: its TrainedModel.
    """
    settings = read_json(pathlib.Path(workdir) / "config.json")
    return {
        "dev_wer": trained.dev_wer,
        "step": trained.step,
        "train_records": settings.get("train"),
        "dev_records": settings.get("dev"),
    }


def _git(folder, *arguments):
    """Output of a git command, None where it fails or there is no git."""
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
