"""What one stream_step costs by its number of rows; run in a child by benchmarks/server_load.py."""

import numpy as np

from benchmarks import measure


def step_costs(model, rows=(1, 2, 4, 8, 16, 32), repetitions=20):
    """[(rows, milliseconds of CPU for 160 ms of audio in each)], median of calls in turn.

    Args:
      model: folder of an export that streams.
    """
    measure.one_thread_tensorflow()
    import tensorflow as tf

    from tf_rnnt_kd.model_versions import version_folder
    from tf_rnnt_kd.serving.metadata import read_metadata

    folder = version_folder(model)
    chunk, loaded = read_metadata(folder)["chunk_samples"], tf.saved_model.load(folder)
    samples = -(-2560 // chunk) * chunk
    noise = 0.05 * np.random.default_rng(0).standard_normal([max(rows), samples]).astype(np.float32)
    signatures = loaded.signatures

    def step(count):
        state = signatures["stream_init"](batch_size=tf.constant(count))
        waveforms = tf.constant(noise[:count])
        return lambda: signatures["stream_step"](waveforms=waveforms, **state)

    seconds = measure.interleaved({str(count): step(count) for count in rows}, repetitions=repetitions)
    return [(count, 1000 * measure.median(seconds[str(count)])) for count in rows]
