"""Transcribes audio files with a SavedModel in this process."""

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tf_rnnt_kd.model_versions import version_folder
from tf_rnnt_kd.serving.metadata import read_metadata
from tf_rnnt_kd.speech.audio import decode_audio
from tf_rnnt_kd.speech.errors import AudioError


class LocalRecognizer:
    """An exported model, loaded.

    Args:
      saved_model: folder of the export, or one of several versions, of which the newest is taken.

    Attributes:
      metadata: content of its metadata.json.

    Raises:
      ValueError: the folder is no export.
    """

    def __init__(self, saved_model: str | os.PathLike):
        saved_model = version_folder(saved_model)
        self.metadata = read_metadata(saved_model)
        # The loaded object owns the variables: the signature alone would lose them.
        self._loaded = tf.saved_model.load(saved_model)

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Texts of waveforms, each float32 [S] at metadata['sample_rate'], as one padded batch."""
        if not waveforms:
            return []
        num_samples = np.array([len(waveform) for waveform in waveforms], np.int32)
        batch = np.zeros([len(waveforms), num_samples.max()], np.float32)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = waveform
        result = self._loaded.signatures["serving_default"](
            waveforms=tf.constant(batch), num_samples=tf.constant(num_samples)
        )
        return [text.decode() for text in result["text"].numpy()]

    def transcribe_files(
        self, paths: Iterable[str], *, batch_size: int = 8
    ) -> Iterator[tuple[str, str | AudioError]]:
        """Yields (path, text or AudioError) in the order of `paths`, `batch_size` files at once."""
        paths = list(paths)
        for start in range(0, len(paths), batch_size):
            group = paths[start : start + batch_size]
            decoded = [self._decode(path) for path in group]
            texts = iter(self.transcribe([audio for audio in decoded if not isinstance(audio, AudioError)]))
            for path, audio in zip(group, decoded, strict=True):
                yield path, audio if isinstance(audio, AudioError) else next(texts)

    def _decode(self, path):
        try:
            return decode_audio(path, target_rate=self.metadata["sample_rate"])
        except AudioError as error:
            return error
