"""The study tang on LibriSpeech: a Conformer of full context teaches the same one in chunks (arXiv 2306.15171).

python -m tf_rnnt_kd.study --study=configs/studies/tang_librispeech.py --corpus=LIBRISPEECH --plan

Published: 19 % relative on LibriSpeech. Layers, chunks and weights could not be read; so hidden layers of equal width,
chunks of 160 ms, 100 hours with transcripts and 860 without.
"""

import functools
from types import SimpleNamespace

from tf_rnnt_kd.studies import libri
from tf_rnnt_kd.studies.definition import load_module

_STUDY = load_module("configs/studies/tang.py")
TITLE = f"{_STUDY.TITLE}, LibriSpeech"
QUESTION = _STUDY.QUESTION
CORPUS = libri.HUNDRED_AND_REST
_TEACHER = functools.partial(libri.config, "conformer_m")
MODELS = SimpleNamespace(
    teacher=_TEACHER, teacher_again=_TEACHER, student=lambda: libri.streaming("conformer_m"), going_on=libri.going_on
)  # fmt: skip
get_study = _STUDY.get_study


def get_config(variant):
    return _STUDY.get_config(variant, models=MODELS, output_weight=0.001)
