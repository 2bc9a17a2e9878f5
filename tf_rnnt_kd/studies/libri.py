"""Corpora and models of the studies at the papers' sizes: LibriSpeech and Libri-Light, Conformers of 10 M to 0.6 B."""

import functools

from tf_rnnt_kd.splits import DEV, LABELLED, TEST, UNLABELLED
from tf_rnnt_kd.studies.definition import Corpus, load_module

_LIBRISPEECH = {
    "train-clean-100": 100.6, "train-clean-360": 363.6, "train-other-500": 496.7, "dev-other": 5.3, "test-clean": 5.4,
    "test-other": 5.1,
}  # fmt: skip
_LIBRI_LIGHT = {"small": 577.2, "medium": 5193.0, "large": 51934.0}
_TESTS = {DEV: ("dev-other",), TEST: ("test-other", "test-clean")}
_PIECES = ("--kind=sentencepiece", "--vocab_size=1025")

ALL_AND_LIGHT = Corpus(
    splits={
        LABELLED: ("train-clean-100", "train-clean-360", "train-other-500"),
        UNLABELLED: tuple(_LIBRI_LIGHT),
        **_TESTS,
    },
    hours=_LIBRISPEECH | _LIBRI_LIGHT,
    prepare=("--num_shards=1000",),
    tokenizer=_PIECES,
    labelled_share=0.1,
)
"""960 hours with transcripts, 60,000 without. --corpus=LIBRISPEECH,LIBRI_LIGHT names their folders."""

HUNDRED_AND_REST = Corpus(
    splits={LABELLED: ("train-clean-100",), UNLABELLED: ("train-clean-360", "train-other-500"), **_TESTS},
    hours=_LIBRISPEECH,
    prepare=("--num_shards=100",),
    tokenizer=_PIECES,
)
"""100 hours with transcripts, and 860 whose transcripts nobody reads."""

ALL = Corpus(
    splits={LABELLED: ALL_AND_LIGHT.splits[LABELLED], UNLABELLED: (), **_TESTS},
    hours=_LIBRISPEECH,
    prepare=("--num_shards=100",),
    tokenizer=_PIECES,
)
"""960 hours with transcripts."""


_module = functools.cache(load_module)


def config(variant: str):
    """Of configs/librispeech.py."""
    return _module("configs/librispeech.py").get_config(variant)


def student():
    """A streaming student of words; the studies add their losses, with shifts and weights of their own."""
    return config("student_hard")


def streaming(variant: str):
    """A published full-context model made causal: chunks of 160 ms, 2.56 s of the past."""
    causal = config(variant)
    causal.model.encoder.left_context, causal.model.encoder.chunk_size = 64, 4
    causal.model.encoder.convolution_norm = "layer"
    return causal


def going_on(config):
    """From weights that the labelled part gave it a model is trained for as long as from scratch."""
    return config
