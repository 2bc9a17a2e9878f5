"""What all encoders have in common: subsampling, a stack of blocks with time reductions between them, and streaming."""

import keras
import tensorflow as tf

from tf_rnnt_kd.models.masking import count_frames, mask_frames, valid_frames
from tf_rnnt_kd.models.recompute import MODES, recomputed, recomputed_by_utterance
from tf_rnnt_kd.models.subsampling import HalvingStage, TimeReduction


class Encoder(keras.layers.Layer):
    """Maps features [B, N, F] with num_frames [B] to (frames [B, T, output_width], lengths [B] int32).

    A subclass makes its blocks and calls `_assemble` once. A block has `output_width`, call(frames, lengths, training),
    get_initial_state(batch_size) and step(frames, valid, state) -> (frames, valid, state).

    Attributes:
      settings: the constructor's arguments. blocks: the layers between which hidden outputs are taken, by name.
      output_width: channels of the frames. subsampling: feature frames per output frame.
      is_streaming: whether there is a `step`.
      frames_per_step: feature frames of which a step takes a multiple.
      look_ahead_frames: feature frames beyond its own end that an output frame needs at most; None: all.
      output_delay: output frames by which those of `step` come later than its features.
      recompute: of recompute.MODES, what a training computes again in the backward pass instead of keeping it. It
        belongs to a training and not to the model: no config holds it.
    """

    _recompute = "none"

    @property
    def recompute(self):
        return self._recompute

    @recompute.setter
    def recompute(self, mode):
        if mode not in MODES:
            raise ValueError(f"unknown train.recompute {mode!r}: choose one of {', '.join(MODES)}")
        self._recompute = mode

    def _assemble(
        self, settings, *, input_width, output_width, blocks, is_streaming, chunk_size=1, right_context=0
    ):
        """Sets everything up; chunk_size and right_context (of each block) in frames of the first block."""
        subsampling, channels = settings["subsampling"], settings["channels"]
        stages = subsampling.bit_length() - 1
        if subsampling < 1 or 2**stages != subsampling:
            raise ValueError(f"subsampling must be a power of two, not {subsampling}")
        self.settings = {**settings, "time_reduction_after": list(settings["time_reduction_after"])}
        self.reduced_after = check_reductions(self.settings["time_reduction_after"], num_layers=len(blocks))
        reduction = 2 ** len(self.reduced_after)
        self.subsampling = subsampling * reduction
        self.is_streaming = is_streaming
        self.frames_per_step = subsampling * max(chunk_size, reduction)
        delay = right_context * len(blocks)
        self.look_ahead_frames = subsampling * (max(chunk_size - reduction, 0) + delay) if is_streaming else None
        self.output_delay = delay // reduction
        self.input_width = input_width
        policy = self.dtype_policy
        self.stages = [HalvingStage(channels, name=f"halving_{i}", dtype=policy) for i in range(stages)]
        # Its bias keeps frames that are all zeros (a mask at the beginning of the features) from staying so through all
        # blocks: at a zero vector the gradient of each norm is 1 / sqrt(epsilon), of a block's norms in a row 1e12.
        self.input_projection = keras.layers.Dense(
            input_width, bias_initializer=keras.initializers.RandomUniform(-0.1, 0.1), name="input_projection",
            dtype=policy,
        )
        # The convolutions shrink the signal to a tenth; without this the first block's own noise would drown it.
        self.input_norm = keras.layers.LayerNormalization(epsilon=1e-5, name="input_norm", dtype=policy)
        self.input_dropout = keras.layers.Dropout(settings["dropout"], dtype=policy)
        self.blocks = blocks
        self.reductions = [TimeReduction(name=f"reduction_{i}", dtype=policy) for i in range(len(self.reduced_after))]
        self.output_width = output_width

    def build(self, input_shape):
        bins, channels = int(input_shape[-1]), 1
        for stage in self.stages:
            stage.build((None, None, bins, channels))
            bins, channels = stage.output_bins, stage.channels
        self.subsampled_width = bins * channels
        self.input_projection.build((None, None, self.subsampled_width))
        width = self.input_width
        self.input_norm.build((None, None, width))
        for block, reduction in self._stack():
            block.build((None, None, width))
            width = block.output_width
            if reduction is not None:
                reduction.build((None, None, width))
        self.built = True

    def _stack(self):
        """(block, the reduction after it or None), in order."""
        reductions = dict(zip(self.reduced_after, self.reductions, strict=True))
        return [(block, reductions.get(i)) for i, block in enumerate(self.blocks)]

    def call(self, features, num_frames, training=False):
        """Returns (frames [B, T, output_width] with zeros beyond the lengths, lengths [B] int32)."""
        frames, lengths, _ = self._run(features, num_frames, training)
        return frames, lengths

    def layer_outputs(self, features, num_frames, training=False):
        """({name of a block: its output [B, T, width], zeros beyond the lengths}, lengths [B] int32), in order.

        All come at the rate of the output: of a block before a time reduction the first of the frames that it joins.
        """
        _, lengths, outputs = self.call_with_layers(features, num_frames, training=training)
        return outputs, lengths

    def call_with_layers(self, features, num_frames, training=False):
        """(frames, lengths) of `call` and the outputs of `layer_outputs`, from one pass."""
        frames, lengths, outputs = self._run(features, num_frames, training)
        stride = 2 ** len(self.reductions)
        for i, (name, values) in enumerate(outputs.items()):
            outputs[name] = mask_frames(values[:, ::stride], lengths)
            stride //= 2 if i in self.reduced_after else 1
        return frames, lengths, outputs

    def _run(self, features, num_frames, training):
        recompute = self._recompute if training else "none"
        if recompute == "all":
            layers = (*self.stages, self.input_projection, self.input_norm)
            frames = recomputed_by_utterance(
                lambda *row: self._subsample(*row)[0],
                [variable for layer in layers for variable in layer.trainable_variables],
                features,
                num_frames,
                dtype=self.compute_dtype,
            )
            lengths = num_frames
            for stage in self.stages:
                lengths = stage.output_lengths(lengths)
        else:
            frames, lengths = self._subsample(features, num_frames)
        frames = mask_frames(self.input_dropout(frames, training=training), lengths)
        outputs = {}
        for block, reduction in self._stack():
            if recompute == "none":
                frames = block(frames, lengths, training=training)
            else:
                frames = recomputed(block, frames, lengths, training=training)
            outputs[block.name] = frames
            if reduction is not None:
                frames, lengths = reduction(frames, lengths)
        return mask_frames(frames, lengths), lengths, outputs

    def _subsample(self, features, lengths):
        """Features [B, N, F] and their lengths -> frames of the first block [B, T, input width] and theirs."""
        frames = tf.cast(features, self.compute_dtype)[..., None]
        for stage in self.stages:
            frames, lengths = stage(frames, lengths)
        return self._project(frames), lengths

    def _project(self, frames):
        """Subsampled frames [B, T, F', C'] -> [B, T, input width]."""
        shape = [tf.shape(frames)[0], -1 if frames.shape[1] is None else frames.shape[1], self.subsampled_width]
        return self.input_norm(self.input_projection(tf.reshape(frames, shape)))

    def get_initial_state(self, batch_size):
        """A dictionary of tensors; shapes do not change from step to step."""
        if not self.is_streaming:
            raise ValueError("this encoder needs the whole utterance: give it a left_context, or take a causal LSTM")
        return {layer.name: layer.get_initial_state(batch_size) for layer in (*self.stages, *self.blocks)}

    def step(self, features, num_frames, state):
        """Maps the next k * subsampling feature frames of each stream to k output frames.

        Args:
          features: [B, N, F], N a multiple of frames_per_step.
          num_frames: [B], valid ones in this chunk; fewer than all only where the stream ends, and none after that.
            The last frames of a delayed encoder come when `output_delay * subsampling` more follow.
          state: from get_initial_state or the step before.

        Returns:
          (frames [B, k, output_width], lengths [B] int32, new state). Frames beyond lengths are meaningless. A delayed
          encoder's first steps give fewer frames than they take.

        Raises:
          ValueError: another number of frames.
        """
        if features.shape[1] is not None and features.shape[1] % self.frames_per_step:
            raise ValueError(f"a step takes a multiple of {self.frames_per_step} frames, not {features.shape[1]}")
        new_state, frames = {}, features[..., None]
        valid = valid_frames(num_frames, count_frames(features))
        for stage in self.stages:
            frames, valid, new_state[stage.name] = stage.step(frames, valid, state[stage.name])
        frames = self._project(frames)
        for block, reduction in self._stack():
            frames, valid, new_state[block.name] = block.step(frames, valid, state[block.name])
            if reduction is not None:
                frames, valid, _ = reduction.step(frames, valid, {})
        lengths = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)
        return _valid_first(frames, valid) if self.output_delay else frames, lengths, new_state

    def get_config(self):
        return {**super().get_config(), **self.settings}


def check_reductions(after, *, num_layers):
    """Block numbers after which frames are joined, as a sorted list.

    Raises:
      ValueError: one of them is not there, or comes twice.
    """
    after = sorted(int(i) for i in after)
    if len(set(after)) != len(after) or any(not 0 <= i < num_layers for i in after):
        raise ValueError(
            f"time_reduction_after is {after}: give each block after which to join frames once, from 0 to "
            f"{num_layers - 1}"
        )
    return after


def _valid_first(frames, valid):
    """Frames [B, T, C] moved so that those of the one run of true values in `valid` [B, T] come first."""
    first = tf.argmax(tf.cast(valid, tf.int32), axis=1, output_type=tf.int32)
    num_frames = count_frames(frames)
    places = tf.minimum(first[:, None] + tf.range(num_frames)[None, :], num_frames - 1)
    return tf.gather(frames, places, batch_dims=1)
