"""Word error rates, delays, reports."""

from tf_rnnt_kd import lazy

# So that programs which only read results import no TensorFlow.
_HOMES = {
    "ErrorCounts": "wer",
    "FolderCorpus": "corpus",
    "RecordCorpus": "corpus",
    "Result": "results",
    "bootstrap_interval": "wer",
    "compare": "results",
    "count_errors": "wer",
    "emission_delays": "delay",
    "format_table": "results",
    "load_saved_model": "systems",
    "load_workdir": "systems",
    "probability_of_improvement": "wer",
    "score": "results",
    "transcribe": "systems",
    "word_error_rate": "wer",
}
__all__ = list(_HOMES)  # noqa: PLE0604
__getattr__ = lazy.attributes(__name__, _HOMES)
