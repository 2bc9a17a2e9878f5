"""A whole training step, encoder, predictor, joint, loss and optimizer, against the matrix products it cannot avoid.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --torch_python=/path/to/torch-environment/bin/python --markdown

The floor replays, in the same process and in turn with the step, every matrix product and convolution of the step's
graph with random numbers, and the joint's three products over all nodes. The peer is a torch step of the same size:
torchaudio's Conformer and RNN-T loss, in an environment of its own, which needs torch and torchaudio. All on one
thread, in CPU time; memory is by how much the process grows.
"""

import sys
from typing import NamedTuple

from absl import flags

from benchmarks import measure, outputs
from tf_rnnt_kd import command_line

FLAGS = flags.FLAGS


class Size(NamedTuple):
    """What is trained on: `frames` are feature frames of 10 ms; width to kernel_size are those of the preset."""

    batch: int = 8
    frames: int = 1000
    labels: int = 45
    vocab: int = 1024
    mel_bins: int = 80
    preset: str = "conformer_s"
    width: int = 144
    num_heads: int = 4
    num_layers: int = 16
    kernel_size: int = 31
    predictor_width: int = 320
    joint_width: int = 320


def run(size, *, repetitions, jit_compile, recompute="none", torch_python=None):
    """{'step': figures of train_step_tf, 'memory': bytes, and with `torch_python` 'torch', 'torch_memory'}."""
    size = size._asdict()
    ours = {"size": size, "jit_compile": jit_compile, "recompute": recompute}
    figures = {
        "step": measure.in_child("benchmarks.train_step_tf:time_step", repetitions=repetitions, **ours),
        "memory": measure.in_child("benchmarks.train_step_tf:memory_of_step", **ours),
    }
    if torch_python:
        peer = {"interpreter": torch_python, "size": size}
        figures["versions"] = measure.in_child("benchmarks.train_step_torch:versions", interpreter=torch_python)
        figures["torch"] = measure.in_child(
            "benchmarks.train_step_torch:time_step", repetitions=repetitions, **peer
        )
        figures["torch_memory"] = measure.in_child("benchmarks.train_step_torch:memory_of_step", **peer)
    return figures


def lines(figures, *, markdown=False):
    """The report as text."""
    step, memory = figures["step"], figures["memory"]
    seconds = measure.median(step["seconds"]["step"])
    rows = [
        ("parameters", f"{step['parameters'] / 1e6:.1f} M"),
        ("step / floor", f"{step['ratio']:.2f} (spread of the floor {measure.spread(step['seconds']['floor']):.2f})"),
        ("joint's share of the floor", f"{step['joint_share']:.2f}"),
        ("first call / later", f"{step['first_call'] / seconds:.1f}"),
        ("memory, first call and later", f"{memory['first'] / 2**20:.0f} MiB, {memory['later'] / 2**20:.0f} MiB"),
    ]
    if "torch" in figures:
        torch, torch_memory = figures["torch"], figures["torch_memory"]
        rows += [
            ("torch", ", ".join(f"{name} {version}" for name, version in figures["versions"].items())),
            ("parameters of torch's", f"{torch['parameters'] / 1e6:.1f} M"),
            ("torch's step / ours", f"{measure.median(torch['seconds']) / seconds:.2f}"),
            ("our memory / torch's", f"{memory['later'] / torch_memory['later']:.3f}"),
        ]
    if markdown:
        return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return [f"{name}: {value}" for name, value in rows]


def main():
    size = Size(batch=FLAGS.batch_size, frames=round(100 * FLAGS.seconds), labels=FLAGS.labels)
    figures = run(
        size, repetitions=FLAGS.repetitions, jit_compile=FLAGS.jit_compile, recompute=FLAGS.recompute,
        torch_python=FLAGS.torch_python,
    )  # fmt: skip
    outputs.keep(figures)
    sys.stdout.write("\n".join([f"{size}; {measure.processor()}", *lines(figures, markdown=FLAGS.markdown)]) + "\n")


def define_flags(values: flags.FlagValues) -> None:
    """Not at import, so that programs which import this module keep their own flags."""
    add = {"flag_values": values}
    flags.DEFINE_integer("batch_size", 8, "Utterances.", lower_bound=1, **add)
    flags.DEFINE_float("seconds", 10.0, "Of each utterance.", lower_bound=0.1, **add)
    flags.DEFINE_integer("labels", 45, "Of each utterance.", lower_bound=1, **add)
    flags.DEFINE_bool("jit_compile", False, "XLA compiles the whole step, as on accelerators.", **add)
    flags.DEFINE_enum("recompute", "none", ("none", "blocks", "all"), "train.recompute of our step.", **add)
    flags.DEFINE_integer("repetitions", 5, "How often each step is timed.", lower_bound=1, **add)
    flags.DEFINE_string("torch_python", None, "Interpreter of an environment with torch and torchaudio.", **add)
    outputs.define_flags(values)


if __name__ == "__main__":
    command_line.start(main, define_flags)
