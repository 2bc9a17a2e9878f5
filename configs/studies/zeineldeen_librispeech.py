"""The study zeineldeen on LibriSpeech: 100 hours with transcripts, 860 without (arXiv 2303.05958).

python -m tf_rnnt_kd.study --study=configs/studies/zeineldeen_librispeech.py --corpus=LIBRISPEECH --plan

The paper's architectures and weights could not be read: Conformer M teaches a streaming student.
"""

import functools
from types import SimpleNamespace

from tf_rnnt_kd.studies import libri
from tf_rnnt_kd.studies.definition import load_module

_STUDY = load_module("configs/studies/zeineldeen.py")
TITLE = f"{_STUDY.TITLE}, LibriSpeech"
QUESTION = _STUDY.QUESTION
CORPUS = libri.HUNDRED_AND_REST
_TEACHER = functools.partial(libri.config, "conformer_m")
MODELS = SimpleNamespace(
    teacher=_TEACHER, teacher_again=_TEACHER, student=libri.student, going_on=libri.going_on
)  # fmt: skip
get_study = _STUDY.get_study


def get_config(variant):
    return _STUDY.get_config(variant, models=MODELS)
