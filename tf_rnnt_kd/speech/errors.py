"""What can be wrong with audio."""


class AudioError(ValueError):
    """Audio that cannot be used. `reason` is one of `REASONS`, for counting; the message is for people."""

    def __init__(self, reason: str, message: str):
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not a known reason: {', '.join(REASONS)}")
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        # Exceptions are rebuilt from `args`, which hold the message alone; Beam sends them between processes.
        return type(self), (self.reason, str(self))


REASONS = {
    "missing_audio": "the file is not there",
    "unreadable": "the file is there and cannot be read",
    "empty_file": "no bytes",
    "not_audio": "neither FLAC, WAV nor OGG",
    "unsupported_format": "audio of a kind that is not decoded here",
    "truncated": "the file ends early",
    "damaged": "the file's checks fail, or the decoder refuses it",
    "too_short": "too few samples",
    "silence": "no sample differs from the others",
    "non_finite": "NaN or infinity",
    "out_of_range": "float samples far beyond -1..1",
}
