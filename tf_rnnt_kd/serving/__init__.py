"""What leaves the factory: a SavedModel that takes waveforms and gives text."""

from tf_rnnt_kd import lazy

# So that the binaries in this package answer --help and mistakes at once, and set what TensorFlow reads at its import.
_HOMES = {
    "Export": "export",
    "LiteRecognizer": "lite",
    "LocalRecognizer": "local",
    "Recognizer": "recognizer",
    "StreamingRecognizer": "streaming",
    "check_parity": "parity",
    "describe_model": "metadata",
    "export_lite": "lite",
    "export_saved_model": "export",
    "read_metadata": "metadata",
    "save_module": "signatures",
    "trace_signatures": "signatures",
}
__all__ = list(_HOMES)  # noqa: PLE0604
__getattr__ = lazy.attributes(__name__, _HOMES)
