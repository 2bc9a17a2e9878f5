"""The study hwang_adapt with 0.6 billion weights: LibriSpeech, and Libri-Light in other places (arXiv 2210.05793).

python -m tf_rnnt_kd.study --study=configs/studies/hwang_adapt_librispeech.py --corpus=LIBRISPEECH,LIBRI_LIGHT --plan

The paper adapts a production teacher on audio that is not public. --domains=NAME=DIR adds audio of your own.
"""

from types import SimpleNamespace

from tf_rnnt_kd.studies import libri
from tf_rnnt_kd.studies.definition import load_module

_STUDY = load_module("configs/studies/hwang_adapt.py")
TITLE = f"{_STUDY.TITLE}, LibriSpeech and Libri-Light"
QUESTION = _STUDY.QUESTION
CORPUS = libri.ALL_AND_LIGHT
MODELS = SimpleNamespace(teacher=lambda: libri.config("conformer_xl"))
get_study = _STUDY.get_study


def get_config(variant):
    config = _STUDY.get_config(variant, models=MODELS, soft_weight=0.001)
    if variant != "teacher":
        config.augment.policy = "conformer"  # without time warps, which stored lattices would not fit
    return config
