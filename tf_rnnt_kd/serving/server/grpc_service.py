"""TensorFlow Serving's gRPC services over one model: PredictionService and ModelService."""

import asyncio
import logging
import time

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tf_rnnt_kd.serving.server.errors import RequestError
from tf_rnnt_kd.serving.server.tensors import from_proto


def handlers(model, *, scheduler, limits, metrics):
    """Generic handlers for a grpc.aio server.

    Messages are parsed here and not by gRPC, so that one that cannot be read is the sender's fault, in words.

    Args:
      model: a ServedModel. scheduler: a Scheduler. limits: Limits. metrics: Metrics.
    """
    services = _Services(model, scheduler=scheduler, limits=limits, metrics=metrics)
    methods = {
        "tensorflow.serving.PredictionService": {
            "Predict": services.predict,
            "GetModelMetadata": services.model_metadata,
            "Classify": services.not_offered,
            "Regress": services.not_offered,
            "MultiInference": services.not_offered,
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": services.model_status,
            "HandleReloadConfigRequest": services.not_offered,
        },
    }
    return [
        grpc.method_handlers_generic_handler(
            service, {name: grpc.unary_unary_rpc_method_handler(_answering(handle)) for name, handle in handles.items()}
        )
        for service, handles in methods.items()
    ]


def _answering(handle):
    """A handler that turns what is raised into the status of the call."""

    async def answer(body, context):
        try:
            return await handle(body)
        except RequestError as error:
            failure = error
        except Exception:
            logging.exception("a request failed")
            failure = RequestError("INTERNAL", "the server failed; its log says more")
        return await context.abort(failure.grpc_code, str(failure))

    return answer


class _Services:
    def __init__(self, model, *, scheduler, limits, metrics):
        self._model, self._scheduler, self._limits, self._metrics = model, scheduler, limits, metrics

    async def predict(self, body):
        started, signature, code = time.monotonic(), "", "CANCELLED"
        try:
            # In a thread: a minute of audio takes a while to unpack.
            request, inputs = await asyncio.to_thread(self._unpacked, body)
            signature = request.model_spec.signature_name or "serving_default"
            if "waveforms" in inputs:
                self._metrics.audio(inputs["waveforms"].size / self._model.sample_rate)
            outputs = await self._scheduler.run(signature, inputs)
            answer = await asyncio.to_thread(self._packed, request, signature, outputs)
            code = "OK"
            return answer
        except RequestError as error:
            code = error.code
            raise
        finally:
            self._metrics.answered(
                protocol="grpc", signature=signature if signature in self._model.inputs else "", code=code,
                seconds=time.monotonic() - started,
            )  # fmt: skip

    async def model_metadata(self, body):
        request = _parsed(get_model_metadata_pb2.GetModelMetadataRequest, body)
        self._require(request.model_spec)
        if list(request.metadata_field) != ["signature_def"]:
            raise RequestError("INVALID_ARGUMENT", "metadata_field must be 'signature_def': there is no other metadata")
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name = self._model.name
        answer.model_spec.version.value = self._model.version
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=self._model.signature_defs)
        answer.metadata["signature_def"].Pack(signatures)
        return answer.SerializeToString()

    async def model_status(self, body):
        request = _parsed(get_model_status_pb2.GetModelStatusRequest, body)
        self._require(request.model_spec)
        return status_of(self._model).SerializeToString()

    async def not_offered(self, body):
        del body
        raise RequestError("UNIMPLEMENTED", "this server offers Predict, GetModelMetadata and GetModelStatus")

    def _require(self, spec):
        if spec.version_label:
            raise RequestError("INVALID_ARGUMENT", f"version label {spec.version_label!r}: this server knows no labels")
        self._model.require(spec.name, version=spec.version.value if spec.HasField("version") else None)

    def _unpacked(self, body):
        """(PredictRequest, {name: array})."""
        request = _parsed(predict_pb2.PredictRequest, body)
        self._require(request.model_spec)
        limit = self._limits.request_bytes
        return request, {name: from_proto(proto, name=name, limit=limit) for name, proto in request.inputs.items()}

    def _packed(self, request, signature, outputs):
        unknown = sorted(set(request.output_filter) - set(outputs))
        if unknown:
            raise RequestError("INVALID_ARGUMENT", f"output_filter has unknown {', '.join(unknown)}")
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name = self._model.name
        answer.model_spec.version.value = self._model.version
        answer.model_spec.signature_name = signature
        for name in request.output_filter or outputs:
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return answer.SerializeToString()


def status_of(model):
    """GetModelStatusResponse of a model that is loaded."""
    answer = get_model_status_pb2.GetModelStatusResponse()
    answer.model_version_status.add(
        version=model.version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
    ).status.error_code = 0
    return answer


def _parsed(kind, body):
    try:
        return kind.FromString(body)
    except DecodeError:
        raise RequestError("INVALID_ARGUMENT", f"the message is no {kind.DESCRIPTOR.name}") from None
