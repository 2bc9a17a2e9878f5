"""Pictures: dark where the numbers are, one panel for each model, and made of what the losses see."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.lattice import NodeLogProbs
from tf_rnnt_kd.losses import LossInputs
from tf_rnnt_kd.training import pictures
from tf_rnnt_kd.training.pictures import Pictures, lattice_picture, spectrogram_picture


def grey_share(picture, *, low=0, high=90):
    """Share of pixels that are grey and as dark as that."""
    spread = np.ptp(picture.astype(int), axis=-1)
    return np.mean((spread < 8) & (picture[..., 0] >= low) & (picture[..., 0] <= high))


def test_a_lattice_is_dark_where_it_is_likely():
    def drawn(occupancy):
        return lattice_picture({"student": occupancy}, labels=["(start)", "a"], title="u", frame_seconds=0.08)

    nowhere, everywhere = drawn(np.zeros([5, 2])), drawn(np.ones([5, 2]))
    upper = drawn(np.stack([np.zeros(5), np.ones(5)], axis=1))
    assert nowhere.dtype == np.uint8 and nowhere.shape == everywhere.shape and nowhere.shape[-1] == 3
    full = grey_share(everywhere) - grey_share(nowhere)
    assert full > 0.3
    np.testing.assert_allclose(grey_share(upper) - grey_share(nowhere), full / 2, rtol=0.1)
    # Positions grow upwards.
    middle = upper.shape[0] // 2
    assert grey_share(upper[:middle]) > 3 * grey_share(upper[middle:])


def test_one_panel_for_each_model():
    one = lattice_picture({"student": np.ones([5, 2])}, labels=["(start)", "a"], title="u", frame_seconds=0.08)
    two = lattice_picture(
        {"student": np.ones([5, 2]), "teacher": np.ones([5, 2])}, labels=["(start)", "a"], title="u", frame_seconds=0.08
    )
    assert two.shape[0] > 1.7 * one.shape[0] and two.shape[1] == one.shape[1]


def test_a_spectrogram_shows_its_masks():
    features = np.tile(np.sin(np.arange(80))[:, None], [1, 20])
    masked = np.where(np.arange(80)[:, None] < 40, features, 0.0)
    whole, half = (spectrogram_picture(x, title="u", hop_seconds=0.01) for x in (features, masked))
    assert whole.shape == half.shape
    changed = np.any(whole != half, axis=(0, 2))
    columns = np.flatnonzero(changed)
    # The second half of the time axis.
    assert columns.min() > 0.4 * whole.shape[1] and len(columns) > 0.3 * whole.shape[1]


@pytest.mark.parametrize("has_teacher", [False, True])
def test_only_what_belongs_to_the_utterance_is_drawn(monkeypatch, has_teacher):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=[1, 6, 4, 3]).astype(np.float32)  # T=6, U=3, of which 4 and 2 exist
    nodes = NodeLogProbs(*tf.unstack(tf.nn.log_softmax(logits), axis=-1))
    lengths = {"logit_lengths": tf.constant([4]), "label_lengths": tf.constant([2])}

    class Forward:
        def augmented_features(self, batch, step):
            return batch["features"] * tf.cast(step, tf.float32)

        def loss_inputs(self, batch, step):
            assert batch["features"].shape[0] == 1 and "utterance_id" not in batch
            return LossInputs(nodes, teacher=nodes if has_teacher else None, **lengths)

    drawn = {}
    monkeypatch.setattr(
        pictures, "lattice_picture", lambda panels, **options: drawn.update(panels=panels, **options) or "lattice"
    )
    monkeypatch.setattr(
        pictures, "spectrogram_picture", lambda features, **options: drawn.update(features=features) or "spectrogram"
    )
    session = types.SimpleNamespace(forward=Forward(), hop_seconds=0.01, model=types.SimpleNamespace(subsampling=8))
    batch = {
        "features": tf.ones([2, 48, 5]), "num_frames": tf.constant([32, 40]), "tokens": tf.constant([[2, 1, 0]] * 2),
        "num_tokens": tf.constant([2, 3]), "utterance_id": tf.constant(["first", "second"]),
    }
    made = Pictures(session, pieces=["<blank>", "a", "b"]).draw(batch, step=3)
    assert made == {"lattice": "lattice", "spectrogram": "spectrogram"}
    assert drawn["labels"] == ["(start)", "b", "a"] and drawn["title"] == "first" and drawn["frame_seconds"] == 0.08
    np.testing.assert_array_equal(drawn["features"], np.full([32, 5], 3.0))
    assert list(drawn["panels"]) == (["student", "teacher"] if has_teacher else ["student"])
    for occupancy in drawn["panels"].values():
        assert occupancy.shape == (4, 3)
        # Each path passes one node of every anti-diagonal t + u.
        np.testing.assert_allclose(sum(occupancy[t, 1 - t] for t in range(2)), 1.0, rtol=1e-5)
