"""The study frontier on LibriSpeech: what 860 hours of Conformer L weigh, and what a streaming student makes of them.

python -m tf_rnnt_kd.study --study=configs/studies/frontier_librispeech.py --corpus=LIBRISPEECH --plan
"""

import functools
from types import SimpleNamespace

from tf_rnnt_kd.studies import libri
from tf_rnnt_kd.studies.definition import load_module

_STUDY = load_module("configs/studies/frontier.py")
TITLE = f"{_STUDY.TITLE}, LibriSpeech"
QUESTION = _STUDY.QUESTION
CORPUS = libri.HUNDRED_AND_REST
_TEACHER = functools.partial(libri.config, "conformer_l")
MODELS = SimpleNamespace(
    teacher=_TEACHER, teacher_again=_TEACHER, student=libri.student, going_on=libri.going_on
)  # fmt: skip
get_study = _STUDY.get_study


def get_config(variant):
    return _STUDY.get_config(variant, models=MODELS)
