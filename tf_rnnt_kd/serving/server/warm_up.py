"""Runs the requests that an export brings for this, so that the first client does not wait for the first run."""

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tf_rnnt_kd.serving.warmup import WARMUP_PATH


def warm_up(model):
    """Runs each of a ServedModel's warm-up requests once, as TensorFlow Serving does.

    Returns:
      How many there were; 0 where the export has none.

    Raises:
      ValueError: a request does not fit the model.
    """
    path = model.folder / WARMUP_PATH
    if not path.exists():
        return 0
    count = 0
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        signature = request.model_spec.signature_name or "serving_default"
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        try:
            model.check(signature, inputs)
            model.run(signature, inputs)
        except Exception as error:
            raise ValueError(f"{path}, request {count} of {signature}: {error}") from error
        count += 1
    return count
