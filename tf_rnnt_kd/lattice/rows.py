"""The nodes of a lattice that are worth computing, as rows of a matrix, and sums over them.

A slice is a fixed number of rows, whatever utterances and frames they come from: padding, nodes outside a band and
nodes without a gradient are no rows at all. The matrix products are TensorFlow operations, everything elementwise is
compiled by XLA; both for shapes [rows, H] and [rows, V] only, so that lattices of any length share the programs.
Inside a function that XLA compiles as a whole, lengths are static and only the number of slices depends on the data.
"""

import tensorflow as tf

_ROWS_AT_1024 = {"forward": 3072, "backward": 1024, "both": 512}
_MIN_ROWS = 64


def default_size(kernel, *, passes):
    """Rows of a slice for a kernel [H, V], an int or a scalar int32.

    Products of fewer rows are slower, slices that leave the cache are slower too, and each needs temporaries. At the
    larger of H and V = 1024, a slice of the forward pass has 3072 rows, one of the backward pass 1024, and one that
    goes forward and back at once, beside a teacher's, 512. Wider ones have fewer rows, so as to hold as many numbers.
    """
    largest = _ROWS_AT_1024[passes]
    width = kernel.shape.as_list()
    if None not in width:
        return min(max(largest * 1024 // max(width), _MIN_ROWS), largest)
    return tf.clip_by_value(largest * 1024 // tf.reduce_max(tf.shape(kernel)), _MIN_ROWS, largest)


class Rows:
    """The nodes (b, t, u) where `wanted` is True, in that order, cut into slices.

    Attributes:
      num_frames, num_positions: scalars int32, T and U+1 of the padded lattice.
      count: scalar int32, how many nodes are wanted; depends on the data, as does the number of slices that run.
    """

    def __init__(self, wanted, *, size):
        """
        Args:
          wanted: [B, T, U+1] bool.
          size: rows of a slice.
        """
        self.size = size
        self._shape = tf.shape(wanted)
        _, self.num_frames, self.num_positions = tf.unstack(self._shape)
        self._num_nodes = tf.size(wanted)
        # Two short cumulative sums instead of one over all nodes, which XLA may turn into a quadratic loop.
        ones = tf.cast(tf.reshape(wanted, [-1, self.num_positions]), tf.int32)
        in_row = tf.cumsum(ones, axis=1)
        total = tf.reduce_sum(ones, axis=1)
        before = tf.cumsum(total, exclusive=True)
        self._wanted = tf.reshape(wanted, [-1])
        self.count = tf.reduce_sum(total)
        self._place = tf.where(self._wanted, tf.reshape(in_row + before[:, None] - 1, [-1]), self._num_nodes)
        order = tf.fill([self._num_nodes + self.size], _late_zero(self.count))
        self._order = tf.tensor_scatter_nd_update(order, self._place[:, None], tf.range(self._num_nodes))
        # At least one, so that there is something to stack.
        self._num_slices = tf.maximum((self.count + self.size - 1) // self.size, 1)
        self._max_slices = tf.maximum((self._num_nodes + self.size - 1) // self.size, 1)

    def nodes(self, i):
        """(indices of the nodes of slice i in the flattened lattice [size], [size] bool: False beyond the last)."""
        index = tf.slice(self._order, [i * self.size], [self.size])
        real = i * self.size + tf.range(self.size) < self.count
        return tf.where(real, index, 0), real

    def frame(self, node):
        """Row of the node's frame in an encoder output [B * T, H]."""
        return node // self.num_positions

    def position(self, node):
        """Row of the node's label position in a predictor output [B * (U+1), H]."""
        return self.utterance(node) * self.num_positions + node % self.num_positions

    def utterance(self, node):
        return node // (self.num_frames * self.num_positions)

    def array(self, dtype, *, numbers):
        """For one [numbers, size] tensor of per-row numbers per slice."""
        size = self.size if isinstance(self.size, int) else None
        return tf.TensorArray(dtype, size=self._max_slices, element_shape=[numbers, size])

    def spread(self, array, *, numbers):
        """What the slices wrote, back on the lattice: `numbers` tensors [B, T, U+1], 0 where nothing is wanted."""
        stacked = tf.reshape(tf.transpose(array.stack(), [1, 0, 2]), [numbers, -1])
        place = tf.minimum(self._place, tf.shape(stacked)[1] - 1)
        values = [tf.where(self._wanted, tf.gather(row, place), 0) for row in tf.unstack(stacked, num=numbers)]
        return [tf.reshape(x, self._shape) for x in values]

    def loop(self, body, carry):
        """body(i, carry) -> carry for each slice with wanted nodes."""
        return tf.while_loop(
            lambda i, _: i < self._num_slices, lambda i, c: (i + 1, body(i, c)), (0, carry), parallel_iterations=1
        )[1]


class Projections:
    """Sums the gradients of rows into those of encoder and predictor, utterance by utterance.

    The sums live in lists with one entry per utterance, which is made when something is added: a loop that carries
    [B, T, H] itself would copy all of it for each slice. (A TensorArray cannot leave entries out unless its shapes are
    static.)
    """

    def __init__(self, rows, encoder, predictor):
        self.rows = rows
        self.batch = tf.shape(encoder)[0]
        self._like = encoder, predictor
        self._shapes = [tf.shape(x)[1:] for x in self._like]

    def start(self):
        return tuple(
            tf.raw_ops.TensorListReserve(element_shape=shape, num_elements=self.batch, element_dtype=x.dtype)
            for shape, x in zip(self._shapes, self._like, strict=True)
        )

    def add(self, lists, node, real, gradients):
        """Adds the gradients of the rows of `node` [size]: [size, H] of the encoder's and of the predictor's."""
        rows = self.rows
        utterance = tf.where(real, rows.utterance(node), -1)
        places = rows.frame(node) % rows.num_frames, node % rows.num_positions

        def body(b, *lists):
            here = tf.equal(utterance, b)
            added = [
                self._add_to(x, b, tf.math.unsorted_segment_sum(gradient, tf.where(here, place, -1), shape[0]), shape)
                for x, gradient, place, shape in zip(lists, gradients, places, self._shapes, strict=True)
            ]
            return b + 1, *added

        first, last = rows.utterance(node[0]), tf.reduce_max(utterance)
        return tf.while_loop(lambda b, *_: b <= last, body, (first, *lists), parallel_iterations=1)[1:]

    def finish(self, lists):
        """Gradients [B, T, H] and [B, U+1, H]."""
        result = []
        for handle, shape, x in zip(lists, self._shapes, self._like, strict=True):
            stacked = tf.raw_ops.TensorListStack(input_handle=handle, element_shape=shape, element_dtype=x.dtype)
            result.append(tf.ensure_shape(stacked, x.shape))
        return tuple(result)

    @staticmethod
    def _add_to(handle, index, value, shape):
        """What was never set reads as zeros."""
        before = tf.raw_ops.TensorListGetItem(
            input_handle=handle, index=index, element_shape=shape, element_dtype=value.dtype
        )
        return tf.raw_ops.TensorListSetItem(input_handle=handle, index=index, item=before + value)


def zeros_shaped_like(x, rows):
    """Zeros for a loop to start from, in the shape and dtype of `x`."""
    return tf.fill(tf.shape(x), tf.cast(_late_zero(rows.count), x.dtype))


def _late_zero(count):
    """0, but not before the graph runs: TensorFlow keeps constants of many zeros several times over."""
    return tf.cast(count < 0, tf.int32)


def as_table(sequence, used):
    """[B, L, H] and which entries are used [B, L] -> [N, H], the others being 0 whatever they hold.

    N >= B * L is a power of two, so that only few programs are compiled for all lengths.
    """
    flat = tf.reshape(sequence, [-1, tf.shape(sequence)[2]])
    size = tf.shape(flat)[0]
    # Every row is a sum of its own: one operation that leaves rows out and makes room, and no tensor in between.
    place = tf.where(tf.reshape(used, [-1]), tf.range(size), -1)
    return tf.math.unsorted_segment_sum(flat, place, power_of_two(size))


def tables(joint, wanted):
    """The Joint with `as_table` of its encoder and predictor, for rows of the nodes `wanted` [B, T, U+1]."""
    return joint._replace(
        encoder=as_table(joint.encoder, tf.reduce_any(wanted, axis=2)),
        predictor=as_table(joint.predictor, tf.reduce_any(wanted, axis=1)),
    )


def power_of_two(size):
    """The first that is at least `size` and 64, a scalar int32."""
    below = tf.maximum(size, 64) - 1
    for shift in (1, 2, 4, 8, 16):  # sets all bits below the highest
        below = tf.bitwise.bitwise_or(below, tf.bitwise.right_shift(below, shift))
    return below + 1


def symbol_indices(symbols):
    """[R, K] symbols -> [R, K, 2] (row, symbol), for tf.tensor_scatter_nd_update on [R, V]."""
    rows = tf.broadcast_to(tf.range(tf.shape(symbols)[0])[:, None], tf.shape(symbols))
    return tf.stack([rows, symbols], axis=-1)


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False, reduce_retracing=True)


@compiled
def scale_rows(matrix, weight):
    """Rows of weight 0 become 0 whatever they hold."""
    return tf.where(weight[:, None] != 0, matrix * weight[:, None], tf.zeros([], matrix.dtype))
