"""Arrays of a teacher's knowledge as bytes, one file per kind; `records.features` says which feature holds which.

Each has an encoder and a decoder in NumPy and the same decoder as TensorFlow operations for tf.data, and states the
error that it brings. What is read back is float32.
"""

from tf_rnnt_kd.records.codecs.bands import LARGEST_NUMBER as LARGEST_VOCABULARY
from tf_rnnt_kd.records.codecs.bands import StoredBand, band_around, cut_to_band, put_back
from tf_rnnt_kd.records.codecs.collapsed import decode_collapsed, decode_collapsed_tf, encode_collapsed
from tf_rnnt_kd.records.codecs.dense import decode_dense, decode_dense_tf, encode_dense
from tf_rnnt_kd.records.codecs.floats import (
    decode_bfloat16,
    decode_bfloat16_tf,
    decode_int8,
    decode_int8_tf,
    encode_bfloat16,
    encode_int8,
)
from tf_rnnt_kd.records.codecs.top_k import (
    StoredTopK,
    decode_top_k,
    decode_top_k_tf,
    encode_top_k,
    top_k_size,
)

__all__ = [
    "LARGEST_VOCABULARY",
    "StoredBand",
    "StoredTopK",
    "band_around",
    "cut_to_band",
    "decode_bfloat16",
    "decode_bfloat16_tf",
    "decode_collapsed",
    "decode_collapsed_tf",
    "decode_dense",
    "decode_dense_tf",
    "decode_int8",
    "decode_int8_tf",
    "decode_top_k",
    "decode_top_k_tf",
    "encode_bfloat16",
    "encode_collapsed",
    "encode_dense",
    "encode_int8",
    "encode_top_k",
    "put_back",
    "top_k_size",
]
