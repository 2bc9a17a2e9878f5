"""One signature of a SavedModel as a SavedModel of its own in which the weights are constants: what converters take.

LiteRT's converter aborts the process on the variables of an unfrozen Keras 3 LSTM.
"""

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tf_rnnt_kd.model_versions import version_folder

DEVICE_SIGNATURE = "stream_ids"


def freeze_signature(saved_model, *, output_dir, signature=DEVICE_SIGNATURE, outputs=None):
    """Writes `signature` of a SavedModel, with the same names, to the folder `output_dir`.

    Args:
      outputs: names of its results to keep, with what they need; None: all.

    Raises:
      ValueError: the SavedModel has no such signature.
    """
    loaded = tf.saved_model.load(version_folder(saved_model))  # holds the variables that the signature uses
    if signature not in loaded.signatures:
        raise ValueError(
            f"{saved_model} has no signature {signature}, which only models that stream have: "
            f"it has {', '.join(sorted(loaded.signatures))}"
        )
    function = loaded.signatures[signature]
    specs, names = function.structured_input_signature[1], sorted(function.structured_outputs)
    # Calls are inlined: other converters find the operations of the graph itself.
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    order = [tensor.op.name for tensor in frozen.inputs]
    if set(order) != set(specs):
        raise ValueError(f"{signature} of {saved_model} takes {sorted(specs)}, frozen it would take {sorted(order)}")
    graph_def = frozen.graph.as_graph_def()
    tensors = dict(zip(names, (tensor.name for tensor in frozen.outputs), strict=True))
    tensors = {name: tensors[name] for name in (names if outputs is None else outputs)}

    def run(**inputs):
        found = tf.graph_util.import_graph_def(
            graph_def,
            input_map={f"{name}:0": inputs[name] for name in order},
            return_elements=list(tensors.values()),
            name="frozen",
        )
        return dict(zip(tensors, found, strict=True))

    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}
    traced = tf.function(run, autograph=False).get_concrete_function(**specs)
    # Gradients would drag in tensors of the graph that this one was imported from.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(tf.Module(), str(output_dir), signatures={signature: traced}, options=options)
