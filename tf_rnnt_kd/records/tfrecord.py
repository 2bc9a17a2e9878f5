"""A TFRecord file and its checksum in one go.

tf.io.TFRecordWriter writes the same bytes, but says nothing about them: reading the file again for a checksum doubles
the time. Here the framing (https://www.tensorflow.org/tutorials/load_data/tfrecord) is made in Python around compiled
CRC32C, whose value for the whole file costs a tenth of writing it.
"""

import struct

import google_crc32c
import tensorflow as tf

_MASK_DELTA = 0xA282EAD8
# Below this size a copy costs less than separate calls.
_JOINED_BYTES = 1 << 16


class TFRecordFile:
    """Writes records to `path`; a context manager.

    Attributes:
        records, bytes: so far, framing included.
    """

    def __init__(self, path: str):
        self._file = tf.io.gfile.GFile(path, "wb")
        self._file.write(b"")  # or a file without records would not be there
        self._crc32c = 0
        self.records = self.bytes = 0

    def __enter__(self) -> "TFRecordFile":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def write(self, record: bytes) -> None:
        """One record: its length, a checksum of the length, the record, a checksum of the record."""
        length = struct.pack("<Q", len(record))
        parts = [length + _masked_crc32c(length), record, _masked_crc32c(record)]
        if len(record) < _JOINED_BYTES:
            parts = [b"".join(parts)]
        for part in parts:
            self._file.write(part)
            self._crc32c = google_crc32c.extend(self._crc32c, part)
            self.bytes += len(part)
        self.records += 1

    @property
    def crc32c(self) -> str:
        """CRC32C of the file so far: 8 hexadecimal digits."""
        return f"{self._crc32c:08x}"


def _masked_crc32c(data: bytes) -> bytes:
    checksum = google_crc32c.value(data)
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + _MASK_DELTA) & 0xFFFFFFFF)
