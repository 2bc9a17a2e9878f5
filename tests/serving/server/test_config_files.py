"""The files in serving/ say what tensorflow_model_server takes, and agree with each other."""

import pathlib
import re

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

FOLDER = pathlib.Path(__file__).parents[3] / "serving"
BATCHING = {  # of BatchingParameters in TensorFlow Serving's session_bundle_config.proto
    "max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads", "pad_variable_length_inputs",
}  # fmt: skip


def without_comments(name):
    return "\n".join(line.partition("#")[0] for line in (FOLDER / name).read_text().splitlines())


@pytest.mark.parametrize(("file", "name"), [("models.config", "student"), ("teacher_models.config", "teacher")])
def test_models(file, name):
    parsed = text_format.Parse((FOLDER / file).read_text(), model_server_config_pb2.ModelServerConfig())
    (config,) = parsed.model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == (name, f"/models/{name}", "tensorflow")
    assert config.model_version_policy.latest.num_versions == 1


def test_batching_and_monitoring():
    text = without_comments("batching_parameters.txt")
    values = dict(re.findall(r"(\w+) \{ value: (\d+) \}", text))
    assert set(values) | {"pad_variable_length_inputs"} == BATCHING
    assert all(int(value) > 0 for value in values.values()) and "pad_variable_length_inputs: true" in text
    assert re.search(r'prometheus_config \{\s+enable: true\s+path: "/\S+"\s+\}', without_comments("monitoring.config"))


def test_compose_names_files_that_are_there():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert set(services) == {"student", "teacher"} and "profiles" not in services["student"]
    ports = [port for service in services.values() for port in service["ports"]]
    assert len({port.split(":")[1] for port in ports}) == 4
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "only on this machine"
        assert ".:/config:ro" in service["volumes"]
        named = [flag.partition("=/config/")[2] for flag in service["command"] if "=/config/" in flag]
        assert named and all((FOLDER / name).is_file() for name in named)
    batched = [name for name, service in services.items() if "--enable_batching" in service["command"]]
    assert batched == ["teacher"], "streams cannot be batched by TensorFlow Serving"
