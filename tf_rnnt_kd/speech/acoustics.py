"""What a room, a microphone and a background do to clean speech: numpy, seeded, for synthetic corpora."""

import numpy as np

NOISE_COLOURS = {"white": 0.0, "pink": -1.0, "brown": -2.0, "blue": 1.0, "speech": None, "hum": None}


def resample(waveform: np.ndarray, *, num_samples: int) -> np.ndarray:
    """Band-limited change of length, by cutting or extending the spectrum: [S] -> [num_samples], any ratio."""
    spectrum = np.fft.rfft(waveform)
    kept = min(len(spectrum), num_samples // 2 + 1)
    resized = np.zeros(num_samples // 2 + 1, complex)
    resized[:kept] = spectrum[:kept]
    return np.fft.irfft(resized, num_samples) * (num_samples / len(waveform))


def reverberate(
    waveform: np.ndarray, *, rt60_seconds: float, direct_to_reverb_db: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Adds a tail of exponentially decaying noise to the direct sound; same length, and the direct sound stays put.

    Args:
        waveform: [S].
        rt60_seconds: time in which the tail falls by 60 dB.
        direct_to_reverb_db: energy of the direct path over that of the tail.
        sample_rate: of the waveform.
        rng: makes the tail.
    """
    size = max(2, int(rt60_seconds * sample_rate))
    tail = rng.normal(size=size) * 10.0 ** (-3.0 * np.arange(size) / size)
    tail[: int(0.002 * sample_rate)] = 0.0
    tail *= 10.0 ** (-direct_to_reverb_db / 20) / max(np.sqrt(np.sum(tail**2)), 1e-9)
    tail[0] = 1.0
    length = _fast_length(len(waveform) + size)
    return np.fft.irfft(np.fft.rfft(waveform, length) * np.fft.rfft(tail, length), length)[: len(waveform)]


def band_filter(
    waveform: np.ndarray, *, low_hz: float, high_hz: float, tilt_db_per_octave: float, sample_rate: int
) -> np.ndarray:
    """Second-order slopes below `low_hz` and above `high_hz`, and a spectral tilt around 1 kHz. Zero phase."""
    length = _fast_length(len(waveform))
    hz = np.maximum(np.fft.rfftfreq(length, 1 / sample_rate), 1.0)
    gain = 1 / np.sqrt(1 + (low_hz / hz) ** 4) / np.sqrt(1 + (hz / high_hz) ** 8)
    gain *= 10.0 ** (tilt_db_per_octave * np.log2(np.clip(hz, 100, 8000) / 1000) / 20)
    return np.fft.irfft(np.fft.rfft(waveform, length) * gain, length)[: len(waveform)]


def coloured_noise(num_samples: int, *, colour: str, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit power: [num_samples].

    `colour`: "white", "pink", "brown", "blue" by the slope of the spectrum; "speech": the long-term spectrum of speech,
    swelling and fading at the pace of syllables, as of a far crowd; "hum": mains and its harmonics over some white.

    Raises:
        ValueError: no such colour.
    """
    if colour not in NOISE_COLOURS:
        raise ValueError(f"no noise colour {colour!r}, choose one of: {', '.join(NOISE_COLOURS)}")
    length = _fast_length(num_samples)
    hz = np.maximum(np.fft.rfftfreq(length, 1 / sample_rate), 20.0)
    white = rng.normal(size=length)
    if colour == "hum":
        seconds = np.arange(length) / sample_rate
        mains = rng.choice([50.0, 60.0])
        noise = 0.1 * white
        for harmonic in range(1, 9):
            phase = rng.uniform(0, 2 * np.pi)
            noise += rng.uniform(0.2, 1.0) / harmonic * np.sin(2 * np.pi * mains * harmonic * seconds + phase)
    else:
        slope = NOISE_COLOURS[colour]
        # "speech": flat to 500 Hz, then 9 dB per octave down (Byrne et al. 1994, roughly).
        amplitude = np.minimum(1.0, (hz / 500) ** -1.5) if slope is None else hz ** (slope / 2)
        noise = np.fft.irfft(np.fft.rfft(white) * amplitude, length)
        if colour == "speech":
            beat = resample(rng.normal(size=max(4, int(8 * length / sample_rate))), num_samples=length)
            noise *= np.exp(0.5 * beat)
    noise = noise[:num_samples]
    return noise / max(np.sqrt(np.mean(noise**2)), 1e-9)


def mix(speech: np.ndarray, noise: np.ndarray, *, snr_db: float, level_db: float) -> np.ndarray:
    """Speech [S] plus noise [S] of unit power, at a ratio to the active speech, and at a level (dB full scale, rms).

    Peaks beyond 0.99 turn the whole down rather than clip.
    """
    power = speech**2
    active = power[power > 1e-3 * power.max()].mean() if power.any() else 0.0
    mixed = speech + noise * np.sqrt(active * 10.0 ** (-snr_db / 10))
    mixed = mixed * (10.0 ** (level_db / 20) / max(np.sqrt(active), 1e-9))
    return mixed * min(1.0, 0.99 / max(np.abs(mixed).max(), 1e-9))


def _fast_length(size: int) -> int:
    """A length of at least `size` that has mostly small prime factors: FFTs of primes take three times as long."""
    return -(-size // 1024) * 1024
