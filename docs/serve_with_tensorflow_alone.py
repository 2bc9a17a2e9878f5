"""Text of 16 kHz PCM16 WAV files by an exported model, with TensorFlow alone:

    python serve_with_tensorflow_alone.py exported/student/1 FILE.wav...
"""

import sys

import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
for path in sys.argv[2:]:
    waveform, rate = tf.audio.decode_wav(tf.io.read_file(path), desired_channels=1)
    if rate != 16000:
        sys.exit(f"{path} has {rate} samples per second: resample it to 16000")
    waveforms = tf.transpose(waveform)  # [1, samples]
    result = model.signatures["serving_default"](waveforms=waveforms, num_samples=tf.shape(waveforms)[1:])
    print(path, result["text"].numpy()[0].decode(), sep="\t")  # noqa: T201
