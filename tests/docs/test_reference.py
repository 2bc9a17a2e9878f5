"""The tables of docs/reference: every setting, field, signature and option is there, and nothing else."""

import ast
import dataclasses
import inspect
import pathlib
import re

import numpy as np
import pytest

from tf_rnnt_kd import losses, records
from tf_rnnt_kd.losses import registry
from tf_rnnt_kd.models.build import ENCODERS, PREDICTORS
from tf_rnnt_kd.records import codecs, features
from tf_rnnt_kd.training.config import default_config

_REFERENCE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "reference"
_NOT_SETTINGS = {"self", "kwargs", "vocab_size"}


def _rows(page, *titles):
    """Cells of the tables under these headings, of all tables where none is named."""
    sections = re.split(r"^## (.*)$", (_REFERENCE / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for title, text in zip(["", *sections[1::2]], sections[::2], strict=True):
        if not titles or title in titles:
            for line in text.splitlines():
                cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
                if line.startswith("|") and cells[0].startswith("`"):
                    yield cells


def _code(cell):
    return re.findall(r"`([^`]+)`", cell)


def _flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_every_setting_stands_with_its_default():
    written = {}
    for name, default, _ in (cells for cells in _rows("config.md") if len(cells) == 3):
        (written[_code(name)[0]],) = (ast.literal_eval(value) for value in _code(default))
    expected = dict(_flat(default_config().to_dict()))
    assert written == expected, "put the setting, its default and its meaning into docs/reference/config.md"


def _signature(cls):
    parameters = inspect.signature(cls.__init__).parameters
    return {
        name: "required" if parameter.default is parameter.empty else repr(parameter.default)
        for name, parameter in parameters.items()
        if name not in _NOT_SETTINGS
    }


def test_settings_of_each_type():
    written = {}
    for kind, settings in _rows("config.md", "Settings of each type"):
        pairs = re.findall(r"`(\w+)(?:=([^`]+))?`( required)?", settings)
        written[kind.replace("`", "")] = {name: default or required.strip() for name, default, required in pairs}
    predictors = {name if name not in ENCODERS else f"{name} predictor": cls for name, cls in PREDICTORS.items()}
    assert written == {name: _signature(cls) for name, cls in {**ENCODERS, **predictors}.items()}


def test_options_of_the_losses():
    written = {}
    for name, options in _rows("config.md", "Options of the losses"):
        written[_code(name)[0]] = dict(option.split("=", 1) for option in _code(options))
    expected = {
        name: {key: repr(value) for key, value in registry.get(name).options.items()} for name in losses.names()
    }
    assert written == expected


@pytest.fixture(scope="module")
def complete_record():
    """An utterance with every field, labelled with every artifact."""
    utterance = records.Utterance(
        "id", np.zeros(160, np.float32), "A B", "speaker", "split", (("A", 0.0, 0.1), ("B", 0.1, 0.2)), "en",
        "recording", 1.0, 2.0,
    )  # fmt: skip
    labels = records.TeacherLabels([1, 2], "A B", -1.0, 3, [0, 1], [0.5, 0.5], [0.5, 0.5], "teacher", 0.5)
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.ones(4), size=[3, 3])).astype(np.float32)
    nodes = np.log(rng.dirichlet(np.ones(3), size=[3, 3])).astype(np.float32)
    best = np.argsort(-log_probs, axis=-1)[..., :2]
    rest = np.log1p(-np.exp(np.take_along_axis(log_probs, best, -1)).sum(-1))
    artifacts = {
        **features.nbest_features(features.NBest(([1, 2],), np.zeros(1, np.float32), ("A B",))),
        **features.collapsed_features(nodes, bits=8),
        **features.factored_features(rng.normal(size=[3, 4]), rng.normal(size=[3, 4]), factored_type=features.INT8),
        **features.hidden_features({"block_0": rng.normal(size=[3, 4])}),
        "top_k": records.bytes_feature(
            codecs.encode_top_k(best, log_probs=np.take_along_axis(log_probs, best, -1), rest=rest, vocab_size=4)
        ),
        "dense": records.bytes_feature(codecs.encode_dense(log_probs)),
    }
    plain = records.encode_utterance(utterance)
    return records.parse_example(plain), records.parse_example(
        records.encode_distillation(plain, teacher=labels, artifacts=artifacts)
    )


def test_every_field_of_a_record(complete_record):
    utterance, labelled = complete_record
    kinds = {}
    for name, kind, *_ in _rows("records.md", "Fields of an utterance", "Fields of a teacher"):
        kinds[_code(name)[0].replace("<layer>", "block_0")] = kind.split()[0]
    found = {name: feature.WhichOneof("kind").removesuffix("_list") for name, feature in labelled.items()}
    assert kinds == found
    assert {_code(cells[0])[0] for cells in _rows("records.md", "Fields of an utterance")} == set(utterance)


def test_every_field_of_the_dataset():
    written = {_code(name)[0] for name, _ in _rows("records.md", "dataset.json")}
    assert written == {field.name for field in dataclasses.fields(records.DatasetInfo)}
    text = (_REFERENCE / "records.md").read_text(encoding="utf-8")
    for cls in (records.Shard, records.Split):
        assert all(f"`{field.name}`" in text for field in dataclasses.fields(cls))


def _strings(module, function):
    """Keys of all dictionaries that are written out in a function."""
    tree = ast.parse(inspect.getsource(module))
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
    keys = [key for node in ast.walk(found) if isinstance(node, ast.Dict) for key in node.keys]
    names = {key.value for key in keys if isinstance(key, ast.Constant)}
    return names | {key.id for key in keys if isinstance(key, ast.Name)}


def test_every_signature_and_every_field_of_the_metadata():
    from tf_rnnt_kd.serving import freeze, metadata, signatures

    written = {name for cells in list(_rows("saved_model.md", ""))[:12] for name in _code(cells[0])}
    traced = _strings(signatures, "trace_signatures") - {"batch_size", "waveforms", "DEVICE_SIGNATURE"}
    assert written == traced | {freeze.DEVICE_SIGNATURE}
    described = _strings(metadata, "describe_model")
    inner = {"hash", "kind", "width", "vocab_size", "activation", "combination", "factorised_blank"}
    assert {_code(cells[0])[0] for cells in _rows("saved_model.md", "Metadata")} == described - inner


def test_every_metric_of_the_server_stands_on_its_page():
    from tf_rnnt_kd.serving.server.metrics import Metrics

    page = (_REFERENCE.parent / "serving" / "server.md").read_text(encoding="utf-8")
    written = {name for name in re.findall(r"`(tf_rnnt_kd_\w+)(?:\{[^`]*\})?`", page)}
    shown = re.findall(r"^# TYPE (tf_rnnt_kd_\w+) \w+$", Metrics().text().decode(), re.MULTILINE)
    assert written == {name for name in shown if not name.endswith("_created")}
