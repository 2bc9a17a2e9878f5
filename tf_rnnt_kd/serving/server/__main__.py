"""Serves an exported model on this machine: gRPC and REST of TensorFlow Serving, a page to try it, health and metrics.

    python -m tf_rnnt_kd.serving.server --model=exported/student

Then http://localhost:8501 is the page, and clients of TensorFlow Serving find the model at localhost:8500 (gRPC) and
localhost:8501 (REST). Ends on SIGTERM or Ctrl-C, when the requests that run are answered. For development and tests:
serving/README.md says how tensorflow/serving takes over.
"""

import asyncio
import sys

from absl import flags

from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_string(
        "model", None, "An exported model (tf_rnnt_kd.export), or a folder of versions: then the newest.", **add
    )
    flags.DEFINE_string("name", None, "By which clients call it; the folder's name if not given.", **add)
    flags.DEFINE_string(
        "host", "127.0.0.1", "Address to listen on. There is no password: keep it on this machine.", **add
    )
    flags.DEFINE_integer("port", 8500, "Of gRPC; 0 takes a free one.", lower_bound=0, **add)
    flags.DEFINE_integer(
        "rest_port", 8501, "Of REST, page, health and metrics; 0 takes a free one.", lower_bound=0, **add
    )
    flags.DEFINE_integer(
        "workers", 2, "Batches that run at once, of streams and of whole utterances each.", lower_bound=1, **add
    )
    flags.DEFINE_integer("max_batch_size", 32, "Streams that run as one batch; 1: each alone.", lower_bound=1, **add)
    flags.DEFINE_bool(
        "warm_up", True, "Run the warm-up requests of the export before the first client may come.", **add
    )
    flags.DEFINE_float(
        "grace_seconds", 10.0, "That running requests have when the server stops.", lower_bound=0.0, **add
    )
    flags.DEFINE_integer("max_request_bytes", 16 * 2**20, "Of one request.", **add)
    flags.DEFINE_float("max_audio_seconds", 120.0, "Of all audio of one request together.", **add)
    flags.DEFINE_float("max_stream_seconds", 3600.0, "Of a session's audio.", **add)
    flags.DEFINE_float("max_request_seconds", 30.0, "From a request's first byte to its result.", **add)
    flags.DEFINE_float("max_idle_seconds", 30.0, "That a session or connection may send nothing.", **add)
    flags.DEFINE_integer("max_pending", 128, "Requests that wait or run at once.", **add)
    flags.DEFINE_integer("max_sessions", 64, "Sessions at once.", **add)
    flags.DEFINE_integer("max_rows", 64, "Of a batch that a client sends.", **add)
    flags.DEFINE_integer("max_tokens", 4096, "Of an utterance that is scored.", **add)


def _serve() -> None:
    command_line.require(FLAGS, {"model=DIR": "an exported model (python -m tf_rnnt_kd.export makes one)"})
    command_line.require_paths(FLAGS, ("model",))

    # Here, so that mistakes in flags answer at once.
    from tf_rnnt_kd.serving.server.app import Server, serve_until_stopped
    from tf_rnnt_kd.serving.server.limits import Limits
    from tf_rnnt_kd.serving.server.model import ServedModel
    from tf_rnnt_kd.serving.server.warm_up import warm_up

    limits = Limits(**{name: FLAGS[f"max_{name}"].value for name in Limits.__dataclass_fields__})
    model = ServedModel(FLAGS.model, name=FLAGS.name)
    if FLAGS.warm_up:
        warm_up(model)

    def say_where():
        sys.stdout.write(
            f"{model.name}, version {model.version}: gRPC {server.host}:{server.port}, "
            f"REST and page http://{server.host}:{server.rest_port}\n"
        )
        sys.stdout.flush()

    async def serve():
        nonlocal server
        server = Server(
            model, host=FLAGS.host, port=FLAGS.port, rest_port=FLAGS.rest_port, limits=limits, workers=FLAGS.workers,
            max_batch=FLAGS.max_batch_size,
        )  # fmt: skip
        await serve_until_stopped(server, on_start=say_where, grace_seconds=FLAGS.grace_seconds)

    server = None
    asyncio.run(serve())


def main() -> None:
    """What `python -m` and the console script call."""
    command_line.start(_serve, define_flags)


if __name__ == "__main__":
    main()
