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
    "unreadable": "the file is there and cannot be read, or is no file",
    "empty_file": "no bytes",
    "not_audio": "nothing that is known as audio",
    "unsupported_format": "audio of a kind that is not decoded here",
    "truncated": "the file ends early",
    "damaged": "the file's checks fail, or the decoder refuses it",
    "too_short": "too few samples",
    "too_long": "more samples, or bytes, than fit in memory",
    "silence": "no sample differs from the others",
    "no_speech": "sound in which no speech was found",
    "non_finite": "NaN or infinity",
    "out_of_range": "float samples far beyond -1..1",
    "decoder_failed": "reading or decoding the file raised an error that nobody expected: a fault of the program",
    "decoder_crashed": "the process that decoded the file died of it, each time",
    "decoder_timeout": "decoding took longer than it may, each time",
}
