"""A plain TensorFlow RNN-T loss: dense logits, log-softmax, tf.scan over anti-diagonals, autodiff, all under XLA."""

import tensorflow as tf

_BOTTOM = -1e30


def call(batch):
    """() -> (values [B], gradients of encoder, predictor, kernel and bias) of a lattice_inputs.Batch."""
    joint = tuple(tf.constant(x) for x in batch.joint)
    integers = tuple(tf.constant(x) for x in batch[4:])

    @tf.function(jit_compile=True, autograph=False)
    def step(joint, integers):
        with tf.GradientTape() as tape:
            tape.watch(joint)
            values = _loss(*joint, *integers)
        return values, tape.gradient(values, joint)

    return lambda: step(joint, integers)


def _loss(encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths):
    hidden = tf.tanh(encoder[:, :, None] + predictor[:, None])
    log_probs = tf.nn.log_softmax(tf.einsum("btuh,hv->btuv", hidden, kernel) + bias)
    batch, frames, positions = log_probs.shape[:3]
    blank = log_probs[..., 0]
    symbols = tf.broadcast_to(labels[:, None], [batch, frames, positions - 1])
    label = tf.gather(log_probs[:, :, :-1], symbols, batch_dims=3)
    label = tf.pad(label, [[0, 0], [0, 0], [0, 1]], constant_values=_BOTTOM)

    def step(alpha, arcs):
        by_blank, by_label = arcs
        stays, moves = alpha + by_blank, alpha + by_label
        moves = tf.pad(moves[:, :-1], [[0, 0], [1, 0]], constant_values=_BOTTOM)
        return tf.maximum(stays, moves) + tf.math.log1p(tf.exp(-tf.abs(stays - moves)))

    start = tf.where(tf.range(positions) == 0, 0.0, _BOTTOM) + tf.zeros([batch, 1])
    alphas = tf.scan(step, (_skew(blank), _skew(label)), initializer=start)
    alphas = tf.concat([start[None], alphas], axis=0)  # [d]: of the nodes on diagonal d
    last = tf.stack([logit_lengths + label_lengths - 1, tf.range(batch), label_lengths], axis=1)
    final_blank = tf.stack([tf.range(batch), logit_lengths - 1, label_lengths], axis=1)
    return -tf.gather_nd(alphas, last) - tf.gather_nd(blank, final_blank)


def _skew(arcs):
    """[B, T, U+1] -> [T+U, B, U+1]: row d holds the arcs that leave (d - u, u)."""
    frames, positions = arcs.shape[1], arcs.shape[2]
    frame = tf.range(frames + positions - 1)[:, None] - tf.range(positions)
    flat = tf.reshape(tf.transpose(arcs, [1, 2, 0]), [frames * positions, -1])
    rows = tf.gather(flat, tf.clip_by_value(frame, 0, frames - 1) * positions + tf.range(positions))
    inside = (frame >= 0) & (frame < frames)
    return tf.transpose(tf.where(inside[..., None], rows, _BOTTOM), [0, 2, 1])
