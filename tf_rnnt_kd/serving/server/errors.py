"""What is wrong with a request: a code of gRPC, its HTTP status, and a sentence that says the way out."""

import re

import grpc
import tensorflow as tf

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""Codes that are used here, by their names in grpc.StatusCode."""


class RequestError(Exception):
    """A request that gets no result. `code` is a key of HTTP_STATUS; the message is for people."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code

    @property
    def grpc_code(self):
        """grpc.StatusCode."""
        return grpc.StatusCode[self.code]

    @property
    def http_status(self):
        """Whole number."""
        return HTTP_STATUS[self.code]


def from_tensorflow(error):
    """A RequestError of what running a signature raised: the sender's fault where TensorFlow says so."""
    codes = {
        tf.errors.InvalidArgumentError: "INVALID_ARGUMENT",
        tf.errors.OutOfRangeError: "INVALID_ARGUMENT",
        tf.errors.ResourceExhaustedError: "RESOURCE_EXHAUSTED",
    }
    code = next((code for kind, code in codes.items() if isinstance(error, kind)), "INTERNAL")
    message = error.message if isinstance(error, tf.errors.OpError) else f"{type(error).__name__}: {error}"
    # What stands about the graph's nodes says nothing to who sent the request.
    lines = [line.strip() for line in re.sub(r"\{\{[^{}]*\}\}|\[Op:[^\]]*\]", "", message).splitlines()]
    about_nodes = ("Graph execution error", "Detected at node", "<stack traces", "[[")
    lines = [line for line in lines if line and not line.startswith(about_nodes)]
    return RequestError(code, lines[0] if lines else type(error).__name__)
