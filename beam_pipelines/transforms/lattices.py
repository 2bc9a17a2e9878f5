"""Lattices of whole distributions from a teacher's projections, encoded one utterance at a time.

[T, U+1, V] numbers are too many to keep, so these functions give bytes: the K best of each node are found slice by
slice, and only `dense`, which is for tiny vocabularies, ever holds the whole of one utterance.
"""

from tf_rnnt_kd import lattice
from tf_rnnt_kd.records import codecs


def top_k(joint: lattice.Joint, *, k: int, band: codecs.StoredBand | None = None) -> bytes:
    """`codecs.encode_top_k` of the nodes in the band, of a joint over one utterance."""
    best = lattice.top_k(joint, k=k, logit_lengths=[len(joint.encoder[0])], label_lengths=[len(joint.predictor[0]) - 1])
    symbols, log_probs, rest = (array[0].numpy() for array in best)
    return codecs.encode_top_k(
        symbols, log_probs=log_probs, rest=rest, vocab_size=joint.kernel.shape[1], band=band
    )


def dense(joint: lattice.Joint) -> bytes:
    """`codecs.encode_dense` of a joint over one utterance."""
    return codecs.encode_dense(lattice.dense_log_probs(joint)[0].numpy())
