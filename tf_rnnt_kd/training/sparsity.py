"""Gradual pruning of a model's weights (Zhu and Gupta 2017), and the proof that an export is sparse."""

import math
import re
from typing import Any

import keras
import tensorflow as tf

from tf_rnnt_kd.training import blocks, updates

_SCOPES = ("tensor", "global")


class Sparsity:
    """Masks on weight matrices whose share of zeros follows the cubic schedule

        s(n) = target + (initial - target) (1 - (n - begin) / (end - begin))^3        (equation 1)

    after n updates, every `frequency` updates from `begin` to `end`. The blocks of least mean magnitude go; what is
    pruned stays pruned. A matrix of shape [..., N, M] is seen as [... N, M] and cut into blocks of rows x columns;
    those at the edges may be smaller. Masks, one Boolean per block, are part of a training's state.

    Args:
      config: `default_config().sparsity`; nothing happens where its target is 0.
      variables: trainable Keras variables, of which include and exclude choose.
      steps: of the whole training, in which the schedule must end.
      averages: lists of other variables with the same order and shapes (averaged weights) that get the same zeros.

    Raises:
      ValueError: a setting makes no sense, or chooses no matrix.
    """

    def __init__(self, config, variables, *, steps: int, averages=()):
        self.config = config
        self.is_on = check(config)
        if self.is_on and config.end > steps:
            raise ValueError(
                f"sparsity.end={config.end} is after the last of train.steps={steps}: the target would not be reached"
            )
        self.pruned = selected(config, variables) if self.is_on else []
        chosen = {id(variable) for variable in self.pruned}
        places = [index for index, variable in enumerate(variables) if id(variable) in chosen]
        self._averages = [[copy[index] for index in places] for copy in averages]
        self._masks = [
            keras.Variable(
                tf.ones(blocks.grid(variable.shape, config.block), tf.bool), trainable=False, dtype="bool",
                name=f"{variable.path.replace('/', '_')}_mask",
            )
            for variable in self.pruned
        ]
        self._masked_at: Any = None
        if self.is_on:
            self._masked_at = keras.Variable(-1, trainable=False, dtype="int32", name="masked_at")

    @property
    def variables(self):
        """The whole state: what a checkpoint must hold."""
        return [self._masked_at, *self._masks] if self.is_on else []

    @property
    def is_reached(self) -> bool:
        """Whether the weights have the zeros of the target; always true where it is off."""
        return not self.is_on or int(self._masked_at.numpy()) >= self.config.end

    def share(self):
        """Share of zero blocks under the present masks, a float32 scalar."""
        kept = sum(tf.math.count_nonzero(mask.value) for mask in self._masks)
        return 1.0 - tf.cast(kept, tf.float32) / float(sum(math.prod(mask.shape) for mask in self._masks))

    def after_update(self, step) -> None:
        """Makes new masks where they are due, and sets what is masked to zero, in weights and averages.

        `step` counts the steps before this one (int32 scalar). Masks that a skipped step left out are made in the next.
        Works where Optimizer.apply works.
        """
        if self.is_on:
            updates.across_replicas(self._after_update, tf.convert_to_tensor(step))

    def _after_update(self, strategy, step):
        config, count = self.config, updates.one_copy(strategy, step) + 1
        # The last point of the grid begin, begin + frequency, ..., end that is not in the future.
        point = config.begin + (count - config.begin) // config.frequency * config.frequency
        point = tf.where(count >= config.end, config.end, point)

        def remask():
            masks = self._new_masks(scheduled(config, point))
            updates.update_each(strategy, _assign, [*self._masks, self._masked_at], [*masks, point])
            return tf.constant(True)

        due = (count >= config.begin) & (point > self._masked_at.value)
        tf.cond(due, remask, lambda: tf.constant(False))
        for variables in (self.pruned, *self._averages):
            updates.update_each(strategy, self._zero, variables, self._masks)

    def _zero(self, variable, mask):
        keep = blocks.expand(tf.convert_to_tensor(mask), shape=variable.shape, block=self.config.block)
        variable.assign(tf.where(keep, variable, tf.zeros([], variable.dtype)))

    def _new_masks(self, sparsity):
        scores = []
        for variable, mask in zip(self.pruned, self._masks, strict=True):
            score = blocks.mean_magnitude(variable.value, block=self.config.block)
            # The optimizer has moved what was zero; it must not come back for that.
            scores.append(tf.where(mask.value, score, -1.0))
        if self.config.scope == "tensor":
            return [_largest(score, 1.0 - sparsity) for score in scores]
        flat = _largest(tf.concat([tf.reshape(score, [-1]) for score in scores], axis=0), 1.0 - sparsity)
        parts = tf.split(flat, [math.prod(score.shape) for score in scores])
        return [tf.reshape(part, score.shape) for part, score in zip(parts, scores, strict=True)]


def check(config) -> bool:
    """Whether `config` asks for sparsity.

    Raises:
      ValueError: it does, in a way that makes no sense.
    """
    if not config.target:
        return False
    if not 0.0 <= config.initial <= config.target < 1.0:
        raise ValueError(
            "sparsity.target must be below 1 and sparsity.initial between 0 and the target, not "
            f"{config.target} and {config.initial}"
        )
    if not 0 <= config.begin < config.end or config.frequency < 1:
        raise ValueError(
            f"sparsity.begin={config.begin}, .end={config.end}, .frequency={config.frequency}: the schedule needs "
            "0 <= begin < end, in updates, and a frequency of at least 1"
        )
    if len(config.block) != 2 or min(config.block) < 1:
        raise ValueError(f"sparsity.block is (rows, columns), each at least 1, not {tuple(config.block)}")
    if config.scope not in _SCOPES:
        raise ValueError(f"unknown sparsity.scope {config.scope!r}: choose {' or '.join(_SCOPES)}")
    return True


def selected(config, variables):
    """Those of the variables that are to be pruned: matrices whose path include chooses and exclude does not.

    Raises:
      ValueError: there is none.
    """
    chosen = [
        variable
        for variable in variables
        if len(variable.shape) > 1
        and any(re.search(pattern, variable.path) for pattern in config.include)
        and not any(re.search(pattern, variable.path) for pattern in config.exclude)
    ]
    if not chosen:
        paths = ", ".join(variable.path for variable in variables if len(variable.shape) > 1)
        raise ValueError(
            f"sparsity.include={tuple(config.include)} without exclude={tuple(config.exclude)} leaves no matrix to "
            f"prune; there are: {paths}"
        )
    return chosen


def scheduled(config, count):
    """s(n) of the schedule after `count` updates (an integer scalar), float32."""
    left = 1.0 - tf.cast(count - config.begin, tf.float32) / float(config.end - config.begin)
    left = tf.clip_by_value(left, 0.0, 1.0)
    return config.target + (config.initial - config.target) * left**3


def _largest(scores, share):
    """Boolean, true for this share (scalar) of all scores: the largest, of equal ones the first, negative ones never.

    The least score that stays is found bit by bit, in 31 counts over the scores: floats that are not negative have the
    order of their bits. Sorting takes several times as long, and XLA's sorting much longer still.
    """
    count = tf.cast(tf.round(share * float(math.prod(scores.shape))), tf.int32)
    flat = tf.reshape(scores, [-1])
    bits = tf.where(flat < 0.0, -1, tf.bitcast(flat, tf.int32))

    def next_bit(position, least):
        candidate = least + tf.bitwise.left_shift(1, position)
        enough = tf.reduce_sum(tf.cast(bits >= candidate, tf.int32)) >= count
        return position - 1, tf.where(enough, candidate, least)

    _, least = tf.while_loop(lambda position, _: position >= 0, next_bit, [tf.constant(30), tf.constant(0)])
    above, equal = bits > least, bits == least
    room = count - tf.reduce_sum(tf.cast(above, tf.int32))
    return tf.reshape(above | (equal & (tf.cumsum(tf.cast(equal, tf.int32)) <= room)), scores.shape)


def _assign(variable, value):
    variable.assign(value)
