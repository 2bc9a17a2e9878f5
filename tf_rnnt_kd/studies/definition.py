"""A study's file, and the settings that its variants resolve to."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tf_rnnt_kd import config_files
from tf_rnnt_kd.splits import SPLITS

_ITS_OWN_PARTS = {part: (part,) for part in SPLITS}


class Corpus(NamedTuple):
    """What plays which part in a study, and how it is prepared.

    splits: the corpus' own splits by part. hours: of each split, for plans. prepare, tokenizer: flags for
    beam_pipelines.prepare_corpus and tf_rnnt_kd.train_tokenizer. labelled_share: of the utterances that a training
    draws where it has both kinds, within a kind in proportion to the hours; None: each as often as any other.
    """

    splits: Mapping[str, tuple[str, ...]] = _ITS_OWN_PARTS
    hours: Mapping[str, float] = {}
    prepare: tuple[str, ...] = ()
    tokenizer: tuple[str, ...] = ()
    labelled_share: float | None = None


class Definition(NamedTuple):
    """What a study's file says.

    config: what stands before :VARIANT in --config. title, question: for the page. get_config: variant -> ConfigDict.
    get_study: is given the Study and declares what there is. miniature: {setting: value} of tiny models; none: it has
    no miniature. corpus: a Corpus.
    """

    name: str
    config: str
    title: str
    question: str
    get_config: Callable[[str], Any]
    get_study: Callable[[Any], None]
    miniature: Mapping[str, Any] = {}
    corpus: Corpus = Corpus()

    @classmethod
    def load(cls, path: str) -> "Definition":
        """Reads a Python file with TITLE, QUESTION, get_config, get_study, and MINIATURE and CORPUS where it has them.

        Raises:
          ValueError: it is not there, or lacks one of these.
        """
        module = load_module(path)
        names = ("TITLE", "QUESTION", "get_config", "get_study")
        missing = [name for name in names if not hasattr(module, name)]
        if missing:
            raise ValueError(f"{path} is no study, it lacks {', '.join(missing)}")
        title, question, get_config, get_study = (getattr(module, name) for name in names)
        miniature, corpus = getattr(module, "MINIATURE", {}), getattr(module, "CORPUS", Corpus())
        return cls(Path(path).stem, path, title, question, get_config, get_study, miniature, corpus)


def load_module(path: str) -> ModuleType:
    """A Python file as a module; one of the project is found from any folder.

    Raises:
      ValueError: it is not there, or no Python file.
    """
    path = config_files.find(path)
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolved(get_config: Callable[[str], Any], variant: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A variant's config with settings by dotted name, as a dictionary.

    Raises:
      ValueError: there is no such setting.
    """
    config = get_config(variant)
    config.lock()
    for name, value in settings.items():
        try:
            config.update_from_flattened_dict({name: value})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{variant} has no setting {name} for {value!r}: {error}") from error
    return config.to_dict()
