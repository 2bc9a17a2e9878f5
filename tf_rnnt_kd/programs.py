"""The programs that people call: their names as console scripts, and their flags."""

import importlib

from absl import flags

from tf_rnnt_kd import command_line

# Each module has main() and define_flags(values), and a docstring that is its --help.
PROGRAMS = {
    "rnnt-kd-calibrate": "tf_rnnt_kd.calibrate",
    "rnnt-kd-client": "tf_rnnt_kd.serving.client.__main__",
    "rnnt-kd-completion": "tf_rnnt_kd.completion",
    "rnnt-kd-degrade": "tf_rnnt_kd.studies.degrade",
    "rnnt-kd-demo": "tf_rnnt_kd.demo",
    "rnnt-kd-doctor": "tf_rnnt_kd.doctor",
    "rnnt-kd-evaluate": "tf_rnnt_kd.evaluate",
    "rnnt-kd-export": "tf_rnnt_kd.export",
    "rnnt-kd-export-lite": "tf_rnnt_kd.export_lite",
    "rnnt-kd-fit-filter": "beam_pipelines.fit_filter",
    "rnnt-kd-generations": "tf_rnnt_kd.generations",
    "rnnt-kd-plan": "beam_pipelines.plan",
    "rnnt-kd-prepare-corpus": "beam_pipelines.prepare_corpus",
    "rnnt-kd-pseudo-label": "beam_pipelines.pseudo_label",
    "rnnt-kd-publish": "tf_rnnt_kd.studies.publish",
    "rnnt-kd-report": "tf_rnnt_kd.report",
    "rnnt-kd-serve": "tf_rnnt_kd.serving.server.__main__",
    "rnnt-kd-study": "tf_rnnt_kd.study",
    "rnnt-kd-synthesize-corpus": "tf_rnnt_kd.synthesize_corpus",
    "rnnt-kd-train": "tf_rnnt_kd.train",
    "rnnt-kd-train-tokenizer": "tf_rnnt_kd.train_tokenizer",
    "rnnt-kd-transcribe": "tf_rnnt_kd.transcribe",
}


def flags_of(module: str) -> dict[str, flags.Flag]:
    """A program's flags by name, in the order in which they are defined."""
    return command_line.own_flags(importlib.import_module(module).define_flags)


def typed(module: str) -> str:
    """As it stands after `python -m`."""
    return module.removesuffix(".__main__")
