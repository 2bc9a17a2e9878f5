"""Pictures for TensorBoard: what the model hears, and where it and its teacher are in the lattice."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tf_rnnt_kd.training.batching import numeric

_DPI = 80


class Pictures:
    """Of the first utterance of a batch, masked as a step on it alone would be, with dropout, at the present weights.

    Args:
      session: a training's Session. pieces: the tokenizer's pieces by id.
    """

    def __init__(self, session, *, pieces: Sequence[str]):
        self._session, self._pieces = session, pieces
        self._look = tf.function(self._inputs, reduce_retracing=True, autograph=False)

    def draw(self, batch: Mapping[str, tf.Tensor], *, step: int) -> dict[str, np.ndarray]:
        """{name: uint8 [height, width, 3]}: `spectrogram`, and `lattice` with a panel for each of student and teacher.

        Args:
          batch: as Session.advance gives it.
          step: training steps done; decides the masks.
        """
        seen = self._look(numeric(_first(batch)), tf.constant(step, tf.int32))
        seen = {name: value[0].numpy() for name, value in seen.items()}
        num_frames, num_labels = int(seen.pop("num_frames")), int(batch["num_tokens"][0])
        title = batch["utterance_id"][0].numpy().decode()
        spectrogram = spectrogram_picture(
            seen.pop("features")[: int(batch["num_frames"][0])], title=title, hop_seconds=self._session.hop_seconds
        )
        labels = ["(start)", *(self._pieces[token] for token in batch["tokens"][0, :num_labels].numpy())]
        panels = {name: occupancy[:num_frames, : num_labels + 1] for name, occupancy in seen.items()}
        frame_seconds = self._session.hop_seconds * self._session.model.subsampling
        return {
            "spectrogram": spectrogram,
            "lattice": lattice_picture(panels, labels=labels, title=title, frame_seconds=frame_seconds),
        }

    def _inputs(self, batch, step):
        # What layers would change (dropout's states) is dropped: pictures leave a training as it is.
        with keras.StatelessScope():
            features = self._session.forward.augmented_features(batch, step)
            inputs = self._session.forward.loss_inputs(batch, step)
            seen = {"features": features, "num_frames": inputs.logit_lengths}
            # A path leaves each node that it passes by one of two arcs.
            seen["student"] = tf.add_n(inputs.student_occupancies)
            if inputs.teacher is not None:
                seen["teacher"] = tf.add_n(inputs.teacher_occupancies)
        return seen


def spectrogram_picture(features: np.ndarray, *, title: str, hop_seconds: float) -> np.ndarray:
    """Features [N, F] over time; uint8 [height, width, 3]."""
    figure = Figure(figsize=(8, 2.6), layout="constrained", dpi=_DPI)
    axes = figure.subplots()
    extent = (0.0, len(features) * hop_seconds, -0.5, features.shape[1] - 0.5)
    image = axes.imshow(features.T, origin="lower", aspect="auto", extent=extent, interpolation="nearest")
    axes.set(title=title, xlabel="time, s", ylabel="mel bin")
    figure.colorbar(image, ax=axes, label="normalised")
    return _pixels(figure)


def lattice_picture(
    panels: Mapping[str, np.ndarray], *, labels: Sequence[str], title: str, frame_seconds: float
) -> np.ndarray:
    """Occupancies [T, U+1] by name, one panel each on one time axis; `labels` [U+1]. uint8 [height, width, 3]."""
    height = max(1.8, 0.7 + 0.2 * len(labels))
    figure = Figure(figsize=(8, 0.4 + height * len(panels)), layout="constrained", dpi=_DPI)
    for axes, (name, occupancy) in zip(
        figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        extent = (0.0, len(occupancy) * frame_seconds, -0.5, len(labels) - 0.5)
        axes.imshow(
            occupancy.T, origin="lower", aspect="auto", extent=extent, vmin=0, vmax=1, cmap="Greys",
            interpolation="nearest",
        )
        axes.set_yticks(range(len(labels)), labels)
        axes.set_title(f"{name}: probability of passing each node, {title}", loc="left", fontsize=9)
    axes.set_xlabel("time, s")
    return _pixels(figure)


def _first(batch):
    return {name: value[:1] for name, value in batch.items()}


def _pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
