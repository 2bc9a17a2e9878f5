"""The training step that benchmarks/train_step.py measures, and its floor."""

import tensorflow as tf

from benchmarks import lattice_calls, measure
from benchmarks.lattice_inputs import Shape

_PRODUCTS = (
    "MatMul", "BatchMatMulV2", "BatchMatMul", "Einsum", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter",
    "DepthwiseConv2dNative", "DepthwiseConv2dNativeBackpropInput", "DepthwiseConv2dNativeBackpropFilter",
)  # fmt: skip


def time_step(*, size, repetitions, jit_compile, recompute="none"):
    """CPU seconds of a step in turn with its floor.

    Args:
      size: fields of train_step.Size as a dictionary.
      repetitions: how often the step is timed.
      jit_compile: whether XLA compiles the whole step.
      recompute: train.recompute. What the step computes again is not in its floor.

    Returns:
      {'seconds': {'floor': [...], 'step': [...]}, 'ratio', 'first_call': seconds with tracing and compilation,
      'parameters', 'products': how many the encoder and its gradient make, 'joint_share': of the floor}.
    """
    measure.one_thread_tensorflow()
    step, compiled, arguments, model = _step(size, jit_compile, recompute)
    first, _ = measure.first_and_later(step)
    if recompute != "none":
        _, compiled, arguments, _ = _step(size, jit_compile)
    encoder = _replayed(compiled, arguments)
    joint = lattice_calls.floor(_nodes(size), rows=4096)
    calls = {"floor": lambda: (encoder(), joint()), "step": step}
    seconds = measure.interleaved(calls, repetitions=repetitions)
    alone = measure.interleaved({"encoder": encoder, "joint": joint}, repetitions=1)
    of_joint = measure.median(alone["joint"])
    return {
        "seconds": seconds,
        "ratio": measure.median(seconds["step"]) / measure.median(seconds["floor"]),
        "first_call": first,
        "parameters": model.count_params(),
        "products": encoder.count,
        "joint_share": of_joint / (of_joint + measure.median(alone["encoder"])),
    }


def memory_of_step(*, size, jit_compile, recompute="none"):
    """{'first': bytes, 'later': bytes} by which the process grows during a step, see measure.peak_memory."""
    measure.one_thread_tensorflow()
    _step({**size, "batch": 1, "frames": 80, "labels": 4}, jit_compile, recompute)[0]()  # loads the libraries' code
    first, later = measure.peak_memory(_step(size, jit_compile, recompute)[0])
    return {"first": first, "later": later}


def profile(*, size, folder, jit_compile=False):
    """Writes a profile of one step for TensorBoard's profiler into a folder."""
    measure.one_thread_tensorflow()
    step = _step(size, jit_compile)[0]
    step()
    with tf.profiler.experimental.Profile(folder):
        step()
    return {}


def _nodes(size):
    frames = -(-size["frames"] // 4)
    return Shape(size["batch"], frames, size["labels"], size["vocab"], size["joint_width"])


def _replayed(compiled, arguments):
    """() that makes the matrix products and convolutions of a traced step with random numbers, and nothing else.

    Those inside loops are left out: the lattice's, for which there is a floor of its own, and the predictor's
    recurrence, some thousandths of the whole.
    """
    graph = compiled.get_concrete_function(*arguments).graph
    tensors, calls = {}, []

    def stand_in(tensor):
        key = (tuple(tensor.shape), tensor.dtype)
        if key not in tensors:
            tensors[key] = tf.cast(tf.random.stateless_normal(tensor.shape, (0, len(tensors))), tensor.dtype)
        return tensors[key]

    for operation in graph.get_operations():
        if operation.type in _PRODUCTS:
            if not all(x.shape.is_fully_defined() for x in operation.inputs):
                raise ValueError(f"{operation.name} has inputs of unknown shape")
            # The only integers among their inputs are the sizes of a gradient.
            sizes = operation.outputs[0].shape
            inputs = [tf.constant(sizes) if x.dtype == tf.int32 else stand_in(x) for x in operation.inputs]
            calls.append((operation.type, inputs, _attributes(operation)))

    def run():
        for kind, inputs, attributes in calls:
            tf.raw_ops.__dict__[kind](**_named(kind, inputs), **attributes)

    run.count = len(calls)
    return run


def _named(kind, inputs):
    names = [argument.name for argument in _definition(kind).input_arg]
    return {"inputs": inputs} if kind == "Einsum" else dict(zip(names, inputs, strict=True))


def _attributes(operation):
    derived = {"T", "Ta", "Tb", "Tout", "N"}
    names = [attribute.name for attribute in _definition(operation.type).attr if attribute.name not in derived]
    return {name: operation.get_attr(name) for name in names}


def _definition(kind):
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(kind)


def _step(size, jit_compile, recompute="none"):
    """(call() of a training step, its tf.function, its arguments, the model)."""
    from tf_rnnt_kd.losses import Objective
    from tf_rnnt_kd.models import build_transducer
    from tf_rnnt_kd.models.presets import PRESETS
    from tf_rnnt_kd.training.config import default_config
    from tf_rnnt_kd.training.forward import Forward
    from tf_rnnt_kd.training.optimizer import build_optimizer
    from tf_rnnt_kd.training.step import TrainStep

    config = default_config()
    config.train.update(jit_compile=jit_compile, recompute=recompute)
    model = build_transducer(PRESETS[size["preset"]], vocab_size=size["vocab"], num_features=size["mel_bins"])
    forward = Forward(model, config, Objective(config.losses))
    variables = forward.trainable_variables
    optimizer = build_optimizer(config.optimizer, steps=1000)
    optimizer.build(variables)
    count = size["batch"]
    batch = {
        "features": tf.random.stateless_normal([count, size["frames"], size["mel_bins"]], (0, 1)),
        "num_frames": tf.fill([count], size["frames"]),
        "tokens": tf.random.stateless_uniform([count, size["labels"]], (0, 2), 1, size["vocab"], tf.int32),
        "num_tokens": tf.fill([count], size["labels"]),
    }
    spec = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in batch.items()}
    step = TrainStep(forward, variables=variables, optimizer=optimizer, config=config, batch_spec=spec)
    number = tf.constant(0, tf.int32)

    def call():
        terms = step([batch], number)
        if not bool(terms["finite"]):
            raise RuntimeError(f"the step was not finite: {terms}")

    return call, step.compiled, (batch, number), model
