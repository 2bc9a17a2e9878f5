"""An exported model, loaded, with its signatures as tables to check requests against."""

import pathlib
from typing import NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tf_rnnt_kd.model_versions import version_folder
from tf_rnnt_kd.serving.metadata import read_metadata
from tf_rnnt_kd.serving.server.errors import RequestError, from_tensorflow


class Tensor(NamedTuple):
    """What a signature takes or gives under a name. shape: None for sizes that vary."""

    dtype: tf.DType
    shape: tuple


class ServedModel:
    """A SavedModel under a name and version.

    Args:
      path: folder of an export, or one of several versions, of which the newest is taken.
      name: by which clients call it; the folder's name if not given (of the base folder, for a version).

    Attributes:
      name, version (whole number; 1 where the folder's name is none), folder (pathlib.Path).
      metadata: content of metadata.json.
      signature_defs: {signature: SignatureDef}.
      inputs, outputs: {signature: {name: Tensor}}.

    Raises:
      ValueError: the folder is no export.
    """

    def __init__(self, path, *, name=None):
        self.folder = pathlib.Path(version_folder(path)).absolute()
        self.metadata = read_metadata(self.folder)
        is_version = self.folder.name.isdecimal()
        self.version = int(self.folder.name) if is_version else 1
        self.name = name or (self.folder.parent if is_version else self.folder).name
        saved = saved_model_pb2.SavedModel.FromString((self.folder / "saved_model.pb").read_bytes())
        # TensorFlow's own, to initialise tables, begin with underscores.
        self.signature_defs = {
            name: signature
            for name, signature in saved.meta_graphs[0].signature_def.items()
            if not name.startswith("_")
        }
        self.inputs = {name: _tensors(signature.inputs) for name, signature in self.signature_defs.items()}
        self.outputs = {name: _tensors(signature.outputs) for name, signature in self.signature_defs.items()}
        # The loaded object owns the variables: the signatures alone would lose them.
        self._loaded = tf.saved_model.load(str(self.folder))

    @property
    def sample_rate(self):
        """Hz."""
        return self.metadata["sample_rate"]

    @property
    def streams(self):
        """Whether it has the signatures of streaming."""
        return "stream_step" in self.inputs

    def require(self, name, *, version=None):
        """Refuses requests for another model.

        Args:
          name: of the model. version: whole number, or None for any.

        Raises:
          RequestError: NOT_FOUND.
        """
        if name != self.name or version not in (None, self.version):
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError(
                "NOT_FOUND",
                f"Servable not found for request: {wanted}; this server has {self.name}, version {self.version}",
            )

    def arguments_of(self, signature):
        """{name: Tensor} that a signature takes.

        Raises:
          RequestError: INVALID_ARGUMENT, there is no such signature.
        """
        if signature not in self.inputs:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Serving signature {signature!r} is not there; this model has {', '.join(sorted(self.inputs))}",
            )
        return self.inputs[signature]

    def check(self, signature, inputs):
        """Refuses what the signature does not take.

        Args:
          signature: its name. inputs: {name: array}.

        Returns:
          The number of rows of the batch that the arguments are; 1 where they are none.

        Raises:
          RequestError: INVALID_ARGUMENT.
        """
        expected = self.arguments_of(signature)
        missing, unknown = sorted(set(expected) - set(inputs)), sorted(set(inputs) - set(expected))
        if missing or unknown:
            wrong = [f"lacks {', '.join(missing)}"] if missing else []
            wrong += [f"has unknown {', '.join(unknown)}"] if unknown else []
            raise RequestError(
                "INVALID_ARGUMENT",
                f"the request {' and '.join(wrong)}; {signature} takes {', '.join(sorted(expected)) or 'nothing'}",
            )
        for name, tensor in expected.items():
            value = inputs[name]
            if value.dtype != tensor.dtype.as_numpy_dtype:
                raise RequestError("INVALID_ARGUMENT", f"{name} is {value.dtype}, it must be {tensor.dtype.name}")
            if not tf.TensorShape(tensor.shape).is_compatible_with(value.shape):
                raise RequestError(
                    "INVALID_ARGUMENT", f"{name} has shape {list(value.shape)}, it must be {_readable(tensor.shape)}"
                )
        # Phrases are for all rows; what has a fixed first size has no rows.
        rows = {
            name: inputs[name].shape[0]
            for name, tensor in expected.items()
            if tensor.shape[:1] == (None,) and "phrase" not in name
        }
        if len(set(rows.values())) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in sorted(rows.items()))
            raise RequestError("INVALID_ARGUMENT", f"all arguments must have the same number of rows: {counts}")
        return next(iter(rows.values()), 1)

    def run(self, signature, inputs):
        """Runs a signature on checked arguments; may be called from several threads at once.

        Returns:
          {name: array}; strings are object arrays of bytes.

        Raises:
          RequestError: what TensorFlow raised.
        """
        try:
            outputs = self._loaded.signatures[signature](
                **{name: tf.constant(value) for name, value in inputs.items()}
            )
            return {name: value.numpy() for name, value in outputs.items()}
        except Exception as error:
            # Whatever it is: one request fails, and the server goes on.
            raise from_tensorflow(error) from error


def _tensors(infos):
    return {
        name: Tensor(tf.as_dtype(info.dtype), tuple(tf.TensorShape(info.tensor_shape).as_list()))
        for name, info in infos.items()
    }


def _readable(shape):
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
