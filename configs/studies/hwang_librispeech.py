"""The study hwang at the paper's size: 0.6 billion weights, LibriSpeech and Libri-Light (arXiv 2210.05793).

python -m tf_rnnt_kd.study --study=configs/studies/hwang_librispeech.py --corpus=LIBRISPEECH,LIBRI_LIGHT --plan

Published: Conformers of 0.6 billion weights, 60,000 hours without transcripts, and the sum over nodes weighted by 0.01
or 0.001 (that grid is of the entropy-semiring paper). The streaming student's size and the share of labelled
utterances, 1 in 10 here as in related work, are settings. The paper's teachers are pre-trained; give such weights with
--train_flag=--config.train.warm_start=DIR.
"""

from types import SimpleNamespace

from tf_rnnt_kd.studies import libri
from tf_rnnt_kd.studies.definition import load_module

_STUDY = load_module("configs/studies/hwang.py")
TITLE = f"{_STUDY.TITLE}, LibriSpeech and Libri-Light"
QUESTION = _STUDY.QUESTION
CORPUS = libri.ALL_AND_LIGHT
MODELS = SimpleNamespace(teacher=lambda: libri.config("conformer_xl"), student=libri.student, going_on=libri.going_on)
get_study = _STUDY.get_study


def get_config(variant):
    config = _STUDY.get_config(variant, models=MODELS, soft_weight=0.001)
    if not variant.endswith(("_teacher", "_start")):
        config.augment.policy = "conformer"  # without time warps, which stored lattices would not fit
    return config
