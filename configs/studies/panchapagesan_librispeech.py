"""The study panchapagesan on LibriSpeech: Conformer L, pruned, and Conformer S (arXiv 2011.06110).

python -m tf_rnnt_kd.study --study=configs/studies/panchapagesan_librispeech.py --corpus=LIBRISPEECH --plan

Published: a small Conformer student gains 4.8 % relative on test-other. The published sparse models are of other audio,
and of sizes that could not be read; so here the dense Conformer L is pruned. The weight of the distillation loss could
not be read either.
"""

from tf_rnnt_kd.studies import libri
from tf_rnnt_kd.studies.definition import load_module

_STUDY = load_module("configs/studies/panchapagesan.py")
TITLE = f"{_STUDY.TITLE}, LibriSpeech"
QUESTION = _STUDY.QUESTION
CORPUS = libri.ALL
get_study = _STUDY.get_study


def get_config(variant):
    return _STUDY.get_config(
        variant, dense=lambda: libri.config("conformer_l"), smaller=lambda: libri.config("conformer_s"),
        going_on=libri.going_on,
    )  # fmt: skip
