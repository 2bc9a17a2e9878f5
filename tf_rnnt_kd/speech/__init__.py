"""Waveform to features: decoding, log-mel frontend, augmentation."""
