"""Calls of a served model's signatures, by gRPC or REST, with the same arguments and results."""

import json

import grpc
import numpy as np
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

_MAX_MESSAGE = 256 * 2**20


_REFUSALS = {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", 400, 413}


class ClientError(ValueError):
    """A server that is not there, or its refusal; the message is one line for people.

    of_this_request: whether the server refused what was asked, so that another request may well succeed.
    """

    def __init__(self, message, *, of_this_request=False):
        super().__init__(message)
        self.of_this_request = of_this_request


class GrpcConnection:
    """PredictionService at an address.

    Args:
      server: "host:port". model: name of the model. version: whole number; the newest if not given.
      seconds: that a call may take.
    """

    def __init__(self, server, *, model, version=None, seconds=60.0):
        self._server, self._seconds = server, seconds
        self._spec = {"name": model}
        if version is not None:
            self._spec["version"] = {"value": version}
        options = [("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.max_send_message_length", _MAX_MESSAGE)]
        self._channel = grpc.insecure_channel(server, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, signature, **inputs):
        """Runs a signature.

        Args:
          signature: its name. **inputs: arrays, or results of an earlier call.

        Returns:
          {name: array}.

        Raises:
          ClientError: the server is not there, or refuses.
        """
        request = predict_pb2.PredictRequest(model_spec={**self._spec, "signature_name": signature})
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            response = self._stub.Predict(request, timeout=self._seconds)
        except grpc.RpcError as error:
            code = error.code().name
            raise ClientError(
                f"{self._server}: {code}: {error.details()}", of_this_request=code in _REFUSALS
            ) from None
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def close(self):
        """Ends the connection."""
        self._channel.close()


class RestConnection:
    """The REST interface at an address; arguments and attributes as GrpcConnection's.

    Results are nested lists as JSON has them; they may be given back as arguments.
    """

    def __init__(self, server, *, model, version=None, seconds=60.0):
        self._server, self._seconds = server, seconds
        versions = "" if version is None else f"/versions/{version}"
        self._url = f"http://{server}/v1/models/{model}{versions}:predict"
        self._session = requests.Session()
        # Servers on this machine are not behind the proxy that the environment may name.
        self._session.trust_env = False

    def predict(self, signature, **inputs):
        """Runs a signature; see GrpcConnection.predict."""
        values = {
            name: np.asarray(value).tolist() if hasattr(value, "__array__") else value for name, value in inputs.items()
        }
        try:
            # Not requests' own JSON, which knows no NaN and infinity.
            body = json.dumps({"signature_name": signature, "inputs": values})
            response = self._session.post(self._url, data=body, timeout=self._seconds)
            answer = response.json()
        except requests.exceptions.JSONDecodeError:
            raise ClientError(f"{self._server}: HTTP status {response.status_code} and no JSON") from None
        except requests.exceptions.RequestException as error:
            raise ClientError(f"{self._server}: {_innermost(error)}") from None
        if not response.ok:
            raise ClientError(
                f"{self._server}: {response.status_code}: {answer.get('error', answer)}",
                of_this_request=response.status_code in _REFUSALS,
            )
        outputs = answer["outputs"]
        # A single result comes without its name; none of those that are asked for here is single.
        return outputs if isinstance(outputs, dict) else {"": outputs}

    def close(self):
        """Ends the connection."""
        self._session.close()


def connect(server, *, protocol="grpc", model, version=None, seconds=60.0):
    """A GrpcConnection or RestConnection.

    Args:
      server: "host:port". protocol: grpc or rest. Others: see GrpcConnection.

    Raises:
      ValueError: another protocol, or an address without a port.
    """
    kinds = {"grpc": GrpcConnection, "rest": RestConnection}
    if protocol not in kinds:
        raise ValueError(f"protocol must be grpc or rest, not {protocol!r}")
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"--server must be HOST:PORT, not {server!r}")
    return kinds[protocol](server, model=model, version=version, seconds=seconds)


def _innermost(error):
    """What lies at the bottom of requests' and urllib3's wrappers."""
    while error.__context__ is not None:
        error = error.__context__
    return error
