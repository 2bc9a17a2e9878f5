"""The study recipe on LibriSpeech: 100 hours with transcripts, 860 without.

python -m tf_rnnt_kd.study --study=configs/studies/recipe_librispeech.py --corpus=LIBRISPEECH --plan

Of no paper: the teacher is a Conformer L, the student a streaming one.
"""

import functools
from types import SimpleNamespace

from tf_rnnt_kd.studies import libri
from tf_rnnt_kd.studies.definition import load_module

_STUDY = load_module("configs/studies/recipe.py")
TITLE = f"{_STUDY.TITLE}, LibriSpeech"
QUESTION = _STUDY.QUESTION
CORPUS = libri.HUNDRED_AND_REST
MODELS = SimpleNamespace(
    teacher=functools.partial(libri.config, "conformer_l"), student=libri.student, going_on=libri.going_on
)
get_study = _STUDY.get_study


def get_config(variant):
    return _STUDY.get_config(variant, models=MODELS)
