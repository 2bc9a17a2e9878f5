"""The rows of the lattice benchmark and their bars. No TensorFlow: what a row does is in lattice_calls.py."""

from collections.abc import Mapping
from typing import NamedTuple

TOP_K = 16
PRUNED_WIDTH = 5


class Limits(NamedTuple):
    """The bars of a row at one shape; None: no bar."""

    ratio: float | None = None
    memory_first: float | None = None
    memory: float | None = None
    error: float | None = None


class Row(NamedTuple):
    """One line of the table.

    bar: number in the list of bars.
    what: a few words.
    family: how the call is made: 'nodes', 'logits', 'soft', 'top_k', 'pruned_rnnt', 'pruned_soft'.
    terms: of 'nodes': names of the loss registry, weight 1 each.
    peaked: logits x 8, of the teacher as well.
    near_teacher: the student's lattice resembles the teacher's, as after some distillation; else they are independent.
    trained_teacher: the teacher's logits are x 8 whatever the student's are, as at the start of a distillation.
    yardstick: 'floor', 'soft_floor', 'copy' or the name of a row.
    """

    bar: int
    what: str
    family: str = "nodes"
    terms: tuple[str, ...] = ("rnnt",)
    peaked: bool = False
    ragged: bool = False
    near_teacher: bool = False
    trained_teacher: bool = False
    yardstick: str = "floor"
    limits: Mapping[str, Limits] = {}

    @property
    def has_teacher(self):
        return self.family != "logits" and (self.family != "nodes" or len(self.terms) > 1 or "rnnt" not in self.terms)


def _large(**limits):
    return {"large": Limits(**limits)}


_BAR_1 = {"memory_first": 0.10, "memory": 0.10, "error": 1e-6}
_BAR_2 = {"ratio": 5.0, "memory_first": 1.3, "memory": 2.2}
ROWS = {
    "rnnt_random": Row(
        1, "RNN-T, random initialisation",
        limits={"large": Limits(0.72, **_BAR_1), "medium": Limits(0.95, error=1e-6)},
    ),
    "rnnt_peaked": Row(
        1, "RNN-T, logits x 8", peaked=True,
        limits={"large": Limits(0.40, **_BAR_1), "medium": Limits(0.55, error=1e-6)},
    ),
    "logits_random": Row(
        2, "RNN-T from given logits, random", family="logits", yardstick="copy", limits=_large(**_BAR_2)
    ),
    "logits_peaked": Row(
        2, "RNN-T from given logits, x 8", family="logits", yardstick="copy", peaked=True, limits=_large(**_BAR_2)
    ),
    "ragged_random": Row(
        3, "RNN-T, lengths 0.3 to 1, per valid node, random", ragged=True, yardstick="rnnt_random",
        limits=_large(ratio=1.15),
    ),
    "ragged_peaked": Row(
        3, "RNN-T, lengths 0.3 to 1, per valid node, x 8", ragged=True, peaked=True, yardstick="rnnt_peaked",
        limits=_large(ratio=1.15),
    ),
    "masked_random": Row(
        4, "RNN-T + collapsed on the teacher's live nodes, random", terms=("rnnt", "node_masked"),
        yardstick="rnnt_random", limits=_large(ratio=1.10),
    ),
    "masked_start": Row(
        4, "RNN-T + collapsed on a trained (x 8) teacher's live nodes, student random", terms=("rnnt", "node_masked"),
        trained_teacher=True, yardstick="rnnt_random", limits=_large(ratio=1.10),
    ),
    "masked_peaked": Row(
        4, "RNN-T + collapsed on the teacher's live nodes, x 8", terms=("rnnt", "node_masked"), peaked=True,
        near_teacher=True, yardstick="rnnt_peaked", limits=_large(ratio=1.10),
    ),
    "alignment_random": Row(
        4, "RNN-T + alignment KL, random", terms=("rnnt", "alignment_kl"), yardstick="rnnt_random",
        limits=_large(ratio=1.10),
    ),
    "alignment_peaked": Row(
        4, "RNN-T + alignment KL, x 8", terms=("rnnt", "alignment_kl"), peaked=True, near_teacher=True,
        yardstick="rnnt_peaked", limits=_large(ratio=1.10),
    ),
    "unmasked": Row(4, "RNN-T + collapsed on all nodes", terms=("rnnt", "collapsed"), limits=_large(ratio=1.6)),
    "soft": Row(
        5, "K-way soft from a factored teacher", family="soft", yardstick="soft_floor",
        limits=_large(ratio=1.35, memory_first=0.10, memory=0.10),
    ),
    "collapsed": Row(5, "collapsed alone, all nodes", terms=("collapsed",)),
    "top_k": Row(5, f"soft from the teacher's top {TOP_K}", family="top_k", yardstick="collapsed",
                 limits=_large(ratio=1.2)),
    "pruned_rnnt": Row(
        6, f"pruned RNN-T, {PRUNED_WIDTH} positions a frame, simple joiner included", family="pruned_rnnt",
        limits=_large(ratio=0.15),
    ),
    "pruned_soft": Row(
        6, f"pruned K-way soft, {PRUNED_WIDTH} positions a frame, band given", family="pruned_soft",
        limits=_large(ratio=0.15),
    ),
}  # fmt: skip
