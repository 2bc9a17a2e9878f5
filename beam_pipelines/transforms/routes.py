"""Which teachers label what: the text of --teacher, and whether they can stand in one dataset.

    DIR                     one teacher
    DIR,DIR2,DIR3           the first labels; the others only say what they hear, for the agreement with the first
    en:DIR,de:DIR2          a teacher for each value of the utterances' `domain`; utterances of others are refused
    en:DIR,en:DIR2,de:DIR3  both

A domain is made of letters, digits, - and _, and what follows the colon does not start with //: so gs://bucket/teacher
is a folder, and en:gs://bucket/teacher one for the domain en. A folder whose own name looks like that is ./en:DIR.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from beam_pipelines.transforms.infer import load_metadata
from tf_rnnt_kd import lattice
from tf_rnnt_kd.model_versions import version_folder

ANY_DOMAIN = ""
_WITH_DOMAIN = re.compile(r"(?P<domain>[A-Za-z0-9_-]+):(?!//)(?P<folder>.+)")


@dataclasses.dataclass(frozen=True)
class Route:
    """The teachers of one domain (`ANY_DOMAIN`: of everything): folders of SavedModels; `others` do not label."""

    domain: str
    folder: str
    others: tuple[str, ...] = ()


def parse_routes(text: str) -> tuple[Route, ...]:
    """Routes of the text of --teacher, in its order.

    Raises:
        ValueError: no folder, the same folder twice for a domain, or folders with and without a domain.
    """
    folders: dict[str, list[str]] = {}
    for one in text.split(","):
        match = _WITH_DOMAIN.fullmatch(one.strip())
        domain, folder = match.group("domain", "folder") if match else (ANY_DOMAIN, one.strip())
        folder = folder.rstrip("/")
        if not folder:
            raise ValueError(f"--teacher={text} has an empty place: write DIR, DIR,DIR2 or en:DIR,de:DIR2")
        if folder in folders.setdefault(domain, []):
            raise ValueError(f"--teacher={text} has {folder} twice: its agreement with itself says nothing")
        folders[domain].append(folder)
    if ANY_DOMAIN in folders and len(folders) > 1:
        raise ValueError(
            f"--teacher={text} has folders with and without a domain: give each one, as in en:DIR,de:DIR2"
        )
    return tuple(Route(domain, *(names[0], tuple(names[1:]))) for domain, names in folders.items())


@dataclasses.dataclass(frozen=True)
class Teaching:
    """The teachers of a run, checked, and the metadata of each folder. Made by `load_teaching`."""

    routes: tuple[Route, ...]
    metadata: dict[str, dict[str, Any]]

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that have a teacher; none where one teacher labels everything."""
        return tuple(route.domain for route in self.routes if route.domain != ANY_DOMAIN)

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the teachers that label, each once."""
        return tuple(dict.fromkeys(route.folder for route in self.routes))

    @property
    def model_ids(self) -> dict[str, str]:
        """{folder of a teacher that labels: its model id}."""
        return {folder: self.metadata[folder]["model_id"] for folder in self.folders}

    @property
    def has_agreement(self) -> bool:
        """Whether each label is compared with another teacher's text."""
        return all(route.others for route in self.routes)

    @property
    def model_id(self) -> str:
        """Of the whole: "id" of one teacher; "id+id2" with one to agree; "en:id,de:id2" by domain."""
        parts = []
        for route in self.routes:
            ids = "+".join(self.metadata[folder]["model_id"] for folder in (route.folder, *route.others))
            parts.append(f"{route.domain}:{ids}" if route.domain != ANY_DOMAIN else ids)
        return ",".join(parts)

    def describe(self) -> dict[str, Any]:
        """What dataset.json says: the properties that all labels share, and the list of all teachers."""
        first = self.metadata[self.folders[0]]
        return {
            "model_id": self.model_id,
            "tokenizer_hash": first["tokenizer"]["hash"],
            "frame_seconds": first["frame_seconds"],
            "vocab_size": first["joint"]["vocab_size"],
            "joint_width": first["joint"]["width"],
            "teachers": [
                {"model_id": self.metadata[folder]["model_id"], "domain": route.domain, "labels": index == 0}
                for route in self.routes
                for index, folder in enumerate((route.folder, *route.others))
            ],
        }


def load_teaching(text: str, *, load: Callable[[str], dict[str, Any]] = load_metadata) -> Teaching:
    """The teachers of the text of --teacher, without loading the models.

    Args:
        text: see the module.
        load: folder of a teacher that labels -> its metadata, checked for what its labels need.

    Raises:
        ValueError: a wrong text, a folder that cannot teach, or teachers whose labels do not fit into one dataset.
    """
    # Here and for good: a version that is exported while the job runs must not label a part of the records.
    routes = tuple(
        dataclasses.replace(
            route, folder=version_folder(route.folder), others=tuple(version_folder(other) for other in route.others)
        )
        for route in parse_routes(text)
    )
    metadata = {folder: load(folder) for folder in dict.fromkeys(route.folder for route in routes)}
    for route in routes:
        for folder in route.others:
            metadata[folder] = metadata.get(folder) or load_metadata(folder, signatures=("serving_default",))
    teaching = Teaching(routes, metadata)
    first, *more = teaching.folders
    for name, of in (
        ("tokenizer", lambda content: content["tokenizer"]["hash"]),
        ("frames of (seconds)", lambda content: content["frame_seconds"]),
    ):
        for folder in more:
            here, there = of(metadata[first]), of(metadata[folder])
            if here != there:
                raise ValueError(
                    f"teachers of one dataset need the same {name}: {first} has {here}, {folder} has {there}; label "
                    "each domain into an --output of its own, as in --teacher=en:DIR"
                )
    return teaching


def read_joint(saved_model: str) -> dict[str, np.ndarray]:
    """{"kernel": [H, V], "bias": [V]} float32 of a teacher's joint, and arrays [] of `lattice.joint_settings`."""
    settings = lattice.joint_settings(load_metadata(saved_model)["joint"])
    loaded = tf.saved_model.load(saved_model)  # the name keeps the variables alive
    weights = {name: value.numpy() for name, value in loaded.signatures["joint"]().items()}
    return {**weights, **{name: np.array(value) for name, value in settings.items()}}


def common_joint(folders: Sequence[str]) -> dict[str, np.ndarray]:
    """The joint of teachers whose factored lattices are to stand in one dataset.

    Raises:
        ValueError: they have different ones.
    """
    first = read_joint(folders[0])
    for folder in folders[1:]:
        other = read_joint(folder)
        if any(not np.array_equal(first[name], other[name]) for name in first):
            raise ValueError(
                f"factored lattices of one dataset need one joint, {folders[0]} and {folder} have different ones: "
                "leave factored out of --artifacts, or label each domain into an --output of its own"
            )
    return first
