"""Where a training runs: one device, all of a machine's, several machines, or a TPU."""

import json
import os

import tensorflow as tf

STRATEGIES = ("none", "mirrored", "multi_worker_mirrored", "tpu")


def build_strategy(name: str, *, tpu: str = "", virtual_cpus: int = 0) -> tf.distribute.Strategy | None:
    """The strategy of a name of STRATEGIES; None for "none". To be called before TensorFlow computes anything.

    Args:
      name: `mirrored` takes all GPUs of this machine, or all its (virtual) CPUs where it has none;
        `multi_worker_mirrored` all machines that the variable TF_CONFIG lists; `tpu` all cores of a TPU.
      tpu: name or address of the TPU; "" or "local" for the one of this machine.
      virtual_cpus: devices that this machine's CPU is cut into first, to try a strategy without accelerators; 0 leaves
        it as it is.

    Raises:
      ValueError: there is no such strategy, or what it needs is missing.
    """
    if virtual_cpus:
        _cut_cpu(virtual_cpus)
    if name == "none":
        return None
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker_mirrored":
        _check_cluster(os.environ.get("TF_CONFIG", ""))
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu or "local")
            if tpu not in ("", "local"):
                tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, OSError, tf.errors.OpError) as error:
            raise ValueError(f"--strategy=tpu finds no TPU {tpu!r} (give its name with --tpu): {error}") from error
        return tf.distribute.TPUStrategy(resolver)
    raise ValueError(f"unknown --strategy={name}: choose one of {', '.join(STRATEGIES)}")


def worker_of(strategy) -> tuple[int, int]:
    """(number of this process, how many there are) in a training. Number 0 writes the results."""
    resolver = strategy.cluster_resolver if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) else None
    if resolver is None or not resolver.task_type:
        return 0, 1
    # TensorFlow numbers the replicas in this order too: the chief, if there is one, before the workers.
    tasks = resolver.cluster_spec().as_dict()
    order = [(kind, index) for kind in ("chief", "worker") for index in range(len(tasks.get(kind, [])))]
    return order.index((resolver.task_type, resolver.task_id)), len(order)


def replicas_of(strategy) -> range:
    """Numbers of this process's replicas, of all replicas of the training."""
    if strategy is None:
        return range(1)
    worker, num_workers = worker_of(strategy)
    count = strategy.num_replicas_in_sync // num_workers
    return range(worker * count, (worker + 1) * count)


def jit_compiles(setting) -> bool:
    """`train.jit_compile` as a Boolean; "auto" compiles where there is an accelerator.

    Raises:
      ValueError: the setting is neither "auto" nor Boolean.
    """
    if isinstance(setting, bool):
        return setting
    if setting != "auto":
        raise ValueError(f"train.jit_compile is 'auto', True or False, not {setting!r}")
    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))


def _cut_cpu(count):
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        raise ValueError("virtual CPUs must be made before TensorFlow computes anything in this process") from error


def _check_cluster(text):
    example = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        hosts = sum(len(config["cluster"].get(kind, [])) for kind in ("chief", "worker"))
        complete = hosts and {"type", "index"} <= set(config["task"])
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise ValueError(
            f"--strategy=multi_worker_mirrored needs the variable TF_CONFIG on every machine, such as {example}; "
            f"it is {text!r}"
        )
