"""Loudness: recordings of different level brought to the same one, without clipping.

The level is the RMS of what is active, after the idea of ITU-T P.56: a plain RMS would make an utterance louder the
more pauses are in it, and cutting the silence off its ends would change the samples of its words.
"""

import numpy as np

# -80 dBFS, about three steps of 16 bits: below it there is dither at most.
SILENCE_PEAK = 1e-4
MAX_PEAK = 0.99
# The float32 next to it is a little more.
_LIMIT = np.nextafter(np.float32(MAX_PEAK), np.float32(0))
_BLOCK = 320
# Blocks within so many decibels of the loud ones are active: consonants are, pauses are not.
_RANGE_DB = 25.0


def set_level(waveform: np.ndarray, *, dbfs: float) -> np.ndarray:
    """Scales a waveform so that its active level is `dbfs`, or less where its peak would pass 0.99.

    One factor for all samples: nothing is limited or compressed. Silence (no sample above -80 dBFS) is left as it is.

    Args:
        waveform: float32 [S] in -1..1, 16 kHz or near it.
        dbfs: RMS in decibels below full scale, where full scale is an RMS of 1; speech is often set to -26.

    Returns:
        Float32 [S], a copy.

    Raises:
        ValueError: `dbfs` is not below 0.
    """
    if not dbfs < 0:
        raise ValueError(f"dbfs must be below 0 (full scale), as -26: got {dbfs}")
    peak = max(waveform.max(), -waveform.min()) if len(waveform) else 0.0
    if peak < SILENCE_PEAK:
        return waveform.astype(np.float32, copy=True)
    gain = min(10 ** ((dbfs - active_level(waveform)) / 20), float(_LIMIT) / float(peak))
    return np.clip(waveform * np.float32(gain), -_LIMIT, _LIMIT, dtype=np.float32)


def active_level(waveform: np.ndarray) -> float:
    """RMS in dBFS of the active blocks of 320 samples (20 ms at 16 kHz); a sample must differ from 0."""
    return float(10 * np.log10(active_power(block_power(waveform, block=_BLOCK))))


def active_power(power: np.ndarray) -> float:
    """Mean of the blocks' powers that are less than 25 dB below the loud ones.

    How loud that is says the mean in which each block weighs as much as its power: so it does not matter how much
    silence there is. 0 where there is nothing else.
    """
    total = power.sum()
    if not total:
        return 0.0
    loud = np.square(power).sum() / total
    return float(power[power >= loud * 10 ** (-_RANGE_DB / 10)].mean())


def block_power(waveform: np.ndarray, *, block: int) -> np.ndarray:
    """Mean square of each block: float64 [ceil(S / block)]. The last block may be a shorter one."""
    whole = len(waveform) // block * block
    blocks = waveform[:whole].reshape(-1, block)
    power = np.einsum("ts,ts->t", blocks, blocks, dtype=np.float64)
    power /= block
    if whole == len(waveform):
        return power
    return np.append(power, np.mean(np.square(waveform[whole:], dtype=np.float64)))
