"""What is known of an audio file before it is decoded."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class AudioFormat:
    """The facts that decide how a file is decoded, and what must come out.

    Attributes:
        decoder: "flac", "wav", "vorbis" or "mp3" for tensorflow-io, "sndfile" for libsndfile.
        sample_rate: per second; None where the decoder tells ("sndfile").
        num_samples: per channel, as the file promises them; None where it does not.
        slack: so many samples more or fewer may be decoded (MP3 pads); None where `num_samples` is no promise but
            a good guess.
        channels, bits, is_float: what "flac" and "wav" files hold.
        data_start: the byte where the samples of a "wav" file begin.
    """

    decoder: str
    sample_rate: int | None = None
    num_samples: int | None = None
    slack: int | None = 0
    channels: int = 0
    bits: int = 0
    is_float: bool = False
    data_start: int = 0
