"""SHA-256 of a TFRecord file, computed while it is written: reading it again would double the time."""

import concurrent.futures
import hashlib
import struct

import google_crc32c

_CHUNK_BYTES = 1 << 20
_MASK_DELTA = 0xA282EAD8


class ShardDigest:
    """Is given the records in order, and ends with the digest of the whole file, framing included.

    Hashing runs in a thread of its own, at most a chunk behind; a context manager, which ends the thread.
    """

    def __init__(self):
        self._sha256 = hashlib.sha256()
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._chunk: list[bytes] = []
        self._chunk_bytes = 0
        self._hashing: concurrent.futures.Future | None = None

    def __enter__(self) -> "ShardDigest":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown()

    def add(self, record: bytes) -> None:
        """The next record."""
        self._chunk.append(record)
        self._chunk_bytes += len(record)
        if self._chunk_bytes >= _CHUNK_BYTES:
            self._hash_chunk()

    def hexdigest(self) -> str:
        """Of a file with all records so far."""
        self._hash_chunk()
        self._hashing.result()
        return self._sha256.hexdigest()

    def _hash_chunk(self):
        if self._hashing is not None:
            self._hashing.result()  # so that no more than two chunks are held
        self._hashing = self._pool.submit(_update, self._sha256, self._chunk)
        self._chunk, self._chunk_bytes = [], 0


def _update(sha256, records):
    """Each record as a TFRecord file has it: its length, and a checksum behind the length and behind the data."""
    for record in records:
        length = struct.pack("<Q", len(record))
        sha256.update(length + _masked_crc32c(length))
        sha256.update(record)
        sha256.update(_masked_crc32c(record))


def _masked_crc32c(data):
    checksum = google_crc32c.value(data)
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + _MASK_DELTA) & 0xFFFFFFFF)
