"""What leaves the factory: a SavedModel that takes waveforms and gives text."""

from tf_rnnt_kd.serving.export import Export, export_saved_model
from tf_rnnt_kd.serving.local import LocalRecognizer
from tf_rnnt_kd.serving.metadata import describe_model, read_metadata
from tf_rnnt_kd.serving.parity import check_parity
from tf_rnnt_kd.serving.recognizer import Recognizer
from tf_rnnt_kd.serving.signatures import save_module, trace_signatures
from tf_rnnt_kd.serving.streaming import StreamingRecognizer

__all__ = [
    "Export",
    "LocalRecognizer",
    "Recognizer",
    "StreamingRecognizer",
    "check_parity",
    "describe_model",
    "export_saved_model",
    "read_metadata",
    "save_module",
    "trace_signatures",
]
