"""TensorFlow Serving's REST interface over one model, the page, health and metrics."""

import asyncio
import json
import logging
import pathlib
import time

from aiohttp import web
from google.protobuf import json_format

from tf_rnnt_kd.serving.server import metrics as metrics_module
from tf_rnnt_kd.serving.server.errors import RequestError
from tf_rnnt_kd.serving.server.grpc_service import status_of
from tf_rnnt_kd.serving.server.sessions import Sessions
from tf_rnnt_kd.serving.server.tensors import predict_arguments, to_json

PAGE = pathlib.Path(__file__).with_name("page")
_MODEL = "/v1/models/{name:[^/:]+}"
_VERSION = _MODEL + "/versions/{version:[0-9]+}"
# Bodies that may be received at once, each of the largest size allowed.
_BODIES = 16
# The page needs nothing from anywhere else, and so nothing else may be loaded into it.
_PAGE_HEADERS = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "no-cache"}


def application(model, *, scheduler, limits, metrics):
    """An aiohttp application.

    Args:
      model: a ServedModel. scheduler: a Scheduler. limits: Limits. metrics: Metrics.

    Returns:
      web.Application; its key `SESSIONS` holds the Sessions, `STATE` a dictionary whose 'stopping' tells /healthz.
    """
    app = web.Application(middlewares=[_errors_as_json])
    app[SESSIONS] = Sessions(model, scheduler=scheduler, limits=limits, metrics=metrics)
    app[STATE] = {"stopping": False}
    routes = _Routes(model, scheduler=scheduler, limits=limits, metrics=metrics)
    for base in (_MODEL, _VERSION):
        app.router.add_get(base, routes.status)
        app.router.add_get(base + "/metadata", routes.metadata)
        app.router.add_post(base + ":predict", routes.predict)
        app.router.add_get(base + ":stream", app[SESSIONS].handle)
        app.router.add_post(base + ":{verb:classify|regress}", routes.not_offered)
    app.router.add_get("/v1/models", routes.models)
    app.router.add_get("/healthz", routes.health)
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        app.router.add_get(path, routes.metrics)
    app.router.add_get("/", _page_file("index.html"))
    app.router.add_get("/favicon.ico", routes.no_picture)
    for path in sorted(PAGE.iterdir()):
        app.router.add_get(f"/{path.name}", _page_file(path.name))
    return app


SESSIONS = web.AppKey("sessions", Sessions)
STATE = web.AppKey("state", dict)


class _Routes:
    def __init__(self, model, *, scheduler, limits, metrics):
        self._model, self._scheduler, self._limits, self._metrics = model, scheduler, limits, metrics
        self._reading = 0

    async def predict(self, request):
        started, signature, code = time.monotonic(), "", "CANCELLED"
        try:
            self._require(request)
            body = await self._body(request)
            # In a thread, so that others are answered between the steps of a long one.
            signature, inputs, in_rows = await asyncio.to_thread(
                predict_arguments, body, arguments_of=self._model.arguments_of
            )
            if "waveforms" in inputs:
                self._metrics.audio(inputs["waveforms"].size / self._model.sample_rate)
            outputs = await self._scheduler.run(signature, inputs)
            answer = await asyncio.to_thread(to_json, outputs, in_rows=in_rows)
            code = "OK"
            return web.Response(body=answer, content_type="application/json")
        except RequestError as error:
            code = error.code
            raise
        except web.HTTPException:
            code = "INVALID_ARGUMENT"
            raise
        finally:
            self._metrics.answered(
                protocol="rest", signature=signature, code=code, seconds=time.monotonic() - started
            )

    async def status(self, request):
        self._require(request)
        # Proto3 leaves out what is 0; TensorFlow Serving writes it.
        answer = json_format.MessageToDict(status_of(self._model), preserving_proto_field_name=True)
        for version in answer["model_version_status"]:
            version["status"] = {"error_code": "OK", "error_message": ""}
        return web.json_response(answer)

    async def metadata(self, request):
        self._require(request)
        signatures = {
            name: json_format.MessageToDict(signature, preserving_proto_field_name=True)
            for name, signature in self._model.signature_defs.items()
        }
        spec = {"name": self._model.name, "signature_name": "", "version": str(self._model.version)}
        return web.json_response(
            {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}
        )

    async def models(self, request):
        """What the page must know; TensorFlow Serving has no such list."""
        del request
        keys = ("sample_rate", "chunk_samples", "look_ahead_seconds", "streaming", "model_id")
        known = {key: self._model.metadata.get(key) for key in keys}
        limit = self._limits.stream_seconds if self._model.streams else self._limits.audio_seconds
        return web.json_response(
            {"models": [{"name": self._model.name, "version": self._model.version, "limit_seconds": limit, **known}]}
        )

    async def health(self, request):
        stopping = request.app[STATE]["stopping"]
        body = {"status": "NOT_SERVING" if stopping else "SERVING"}
        return web.json_response(body, status=503 if stopping else 200)

    async def metrics(self, request):
        del request
        return web.Response(body=self._metrics.text(), headers={"Content-Type": metrics_module.CONTENT_TYPE})

    async def no_picture(self, request):
        """Browsers ask for one with every page."""
        del request
        return web.Response(status=204)

    async def not_offered(self, request):
        raise RequestError("UNIMPLEMENTED", f"{request.match_info['verb']} is not offered: this server has :predict")

    async def _body(self, request):
        """Content of a request, within the limits of bytes and time."""
        body = bytearray()
        try:
            await asyncio.wait_for(self._read(request, body), self._limits.request_seconds)
        except asyncio.TimeoutError:
            raise web.HTTPRequestTimeout(
                text=f"the body did not arrive within {self._limits.request_seconds:g} s"
            ) from None
        except web.RequestPayloadError as error:
            raise RequestError("INVALID_ARGUMENT", f"the body cannot be read: {error}") from None
        finally:
            self._reading -= len(body)
        return bytes(body)

    async def _read(self, request, body):
        """Appends what comes to `body`."""
        limit = self._limits.request_bytes
        async for part in request.content.iter_any():
            body += part
            self._reading += len(part)
            if len(body) > limit:
                raise web.HTTPRequestEntityTooLarge(
                    limit, len(body), text=f"the body is larger than {limit} bytes: send less audio, or stream it"
                )
            # Not a number of requests: those that come slowly hold little, and would keep out the others.
            if self._reading > _BODIES * limit:
                raise RequestError("RESOURCE_EXHAUSTED", "too much is being received: try again in a moment")

    def _require(self, request):
        version = request.match_info.get("version")
        self._model.require(request.match_info["name"], version=None if version is None else int(version))


def _page_file(name):
    async def answer(request):
        del request
        return web.FileResponse(PAGE / name, headers=_PAGE_HEADERS)

    return answer


@web.middleware
async def _errors_as_json(request, handler):
    """Whatever goes wrong, the body is {"error": ...} as TensorFlow Serving has it."""
    try:
        return await handler(request)
    except RequestError as error:
        status, message = error.http_status, str(error)
    except web.HTTPException as error:
        status, message = error.status, error.text
        if status in (404, 405):
            message = f"Malformed request: {request.method} {request.path}: docs/serving/server.md lists what there is"
    except ConnectionError:
        status, message = 400, "the connection broke off"  # who hung up reads no answer; the log need not hear of it
    except Exception:
        logging.exception("a request failed: %s %s", request.method, request.path)
        status, message = 500, "the server failed; its log says more"
    response = web.Response(
        status=status, body=json.dumps({"error": message}, ensure_ascii=False).encode(), content_type="application/json"
    )
    if status in (408, 413):
        response.force_close()  # what is left of the body is not worth reading
    return response
