"""What prepare_corpus can read: one module per input format, each giving splits and their sources."""

from beam_pipelines.inputs.registry import AUTO, FORMATS, find_splits
from beam_pipelines.inputs.source import Refused, Source, SplitInput

__all__ = ["AUTO", "FORMATS", "Refused", "Source", "SplitInput", "find_splits"]
