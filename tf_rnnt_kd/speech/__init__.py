"""Waveform to features: decoding, log-mel frontend, augmentation."""

from tf_rnnt_kd import lazy

# So that speech synthesis, and the processes that decode, import no TensorFlow.
_HOMES = {
    "AudioError": "errors",
    "DecoderPool": "decoding_pool",
    "LogMelFrontend": "frontend",
    "NoiseBank": "noise",
    "Segmentation": "segmentation",
    "decode_audio": "audio",
    "resample": "audio",
    "segment": "segmentation",
    "set_level": "level",
    "spec_augment": "augment",
    "speed_perturb": "perturb",
}
__all__ = list(_HOMES)  # noqa: PLE0604
__getattr__ = lazy.attributes(__name__, _HOMES)
