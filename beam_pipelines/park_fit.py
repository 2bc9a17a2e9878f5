"""The work behind `python -m beam_pipelines.fit_filter`: from labelled records to lines and a picture of them."""

import collections
import io
import os

import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from beam_pipelines.transforms.park import ParkLine, fit_line, save_lines
from tf_rnnt_kd.records import DISTILLATION, DatasetInfo, decode_teacher, parse_example, read_shard


def fit_park_lines(labelled: str, *, split: str, output: str) -> dict[str, ParkLine]:
    """Fits a line for each teacher of a labelled split, and writes them to `output` with a picture beside it.

    Args:
        labelled: folder of distillation records, labelled with the teacher's own hypotheses.
        split: a split of it.
        output: JSON file to write; the picture has its name, and the suffix .png.

    Returns:
        {model id of the teacher: its line}.

    Raises:
        ValueError: no such records or split, or too few or too equal utterances, see `park.fit_line`.
    """
    info = DatasetInfo.load(labelled)
    if info.kind != DISTILLATION:
        raise ValueError(f"--records={labelled} has no labels: make them with python -m beam_pipelines.pseudo_label")
    points: dict[str, list[tuple[int, float]]] = collections.defaultdict(list)
    for path in info.shard_paths(labelled, split):
        for record in read_shard(path):
            labels = decode_teacher(record)
            assert labels is not None  # the kind of the dataset says so
            teacher = parse_example(record)["teacher/id"].bytes_list.value[0].decode()
            points[teacher].append((len(labels.tokens), labels.log_prob))
    if not points:
        raise ValueError(f"--records={labelled} has no utterance in split {split}: label another one")
    lines = {}
    for teacher, of_teacher in sorted(points.items()):
        lengths, log_probs = zip(*of_teacher, strict=True)
        try:
            lines[teacher] = fit_line(log_probs, num_tokens=lengths)
        except ValueError as error:
            raise ValueError(f"--records={labelled}, split {split}, teacher {teacher}: {error}") from error
    save_lines(lines, path=output, labelled=labelled, split=split)
    picture = f"{os.path.splitext(output)[0]}.png"  # noqa: PTH122 (a path may lie in a bucket)
    with tf.io.gfile.GFile(picture, "wb") as file:
        file.write(draw(lines, points=points))
    return lines


def draw(lines: dict[str, ParkLine], *, points: dict[str, list[tuple[int, float]]]) -> bytes:
    """A PNG with a panel for each teacher: its hypotheses, its line, and one sigma to either side."""
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6.5, 4.2 * len(lines)), layout="constrained")
        panels = figure.subplots(len(lines), 1, squeeze=False)[:, 0]
        for axes, (teacher, line) in zip(panels, lines.items(), strict=True):
            lengths, log_probs = np.array(points[teacher], np.float64).T
            grid = np.linspace(lengths.min(), lengths.max(), 100)
            spread = line.sigma * np.sqrt(grid)
            axes.scatter(lengths, log_probs, s=8, color="#4269d0", alpha=0.5, linewidth=0, label="utterances")
            axes.plot(grid, line.expected(grid), color="#ff725c", label=f"{line.mu:.3f} l {line.beta:+.3f}")
            axes.fill_between(
                grid, line.expected(grid) - spread, line.expected(grid) + spread, color="#ff725c", alpha=0.2,
                linewidth=0, label=f"one sigma, {line.sigma:.3f} sqrt(l)",
            )  # fmt: skip
            axes.set(xlabel="tokens l", ylabel="log P of the hypothesis, nats", title=f"teacher {teacher}")
            axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
