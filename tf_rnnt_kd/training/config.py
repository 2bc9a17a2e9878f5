"""Every setting of a training, with its default."""

import ml_collections


def default_config() -> ml_collections.ConfigDict:
    """The settings that `configs/*.py` start from; unknown keys are errors because config_flags locks the result."""
    config = ml_collections.ConfigDict()
    config.seed = 1

    config.frontend = ml_collections.ConfigDict()
    config.frontend.num_mel_bins = 80

    config.model = ml_collections.ConfigDict()
    config.model.encoder = ml_collections.ConfigDict()
    config.model.encoder.width = 144
    config.model.encoder.num_layers = 4
    config.model.encoder.num_heads = 4
    config.model.encoder.kernel_size = 9
    config.model.encoder.subsampling = 8
    config.model.encoder.channels = 32  # of the convolutions that subsample
    # None: full context. A number of encoder frames: causal, sees that far back, streams.
    config.model.encoder.left_context = ml_collections.config_dict.placeholder(int)
    config.model.encoder.dropout = 0.1
    config.model.predictor = ml_collections.ConfigDict()
    config.model.predictor.width = 64
    config.model.predictor.context_size = 2
    config.model.predictor.dropout = 0.1
    config.model.joint_width = 128

    config.data = ml_collections.ConfigDict()
    config.data.frames_per_batch = 12_800  # feature frames, 10 ms each
    config.data.num_buckets = 3
    config.data.shuffle_buffer = 256

    config.augment = ml_collections.ConfigDict()
    config.augment.speed_factors = ()  # e.g. (0.9, 1.0, 1.1); refused with stored lattices
    config.augment.freq_masks = 2
    config.augment.freq_width = 27
    config.augment.time_masks = 4
    config.augment.time_ratio = 0.05  # longest time mask as a share of the utterance ...
    config.augment.time_width = 40  # ... and in feature frames

    # Weighted sum of registered losses, see tf_rnnt_kd.losses.registry: name -> weight and options of the loss.
    config.losses = ml_collections.ConfigDict({"rnnt": {"weight": 1.0, "fastemit_lambda": 0.0}})

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.peak_learning_rate = 2e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 1e-3
    config.optimizer.clip_norm = 5.0
    config.optimizer.ema_decay = 0.99  # 0 turns averaging off; evaluation and export use the average

    config.search = ml_collections.ConfigDict()  # see tf_rnnt_kd.decoding.GreedySearch
    config.search.max_symbols_per_frame = 3
    config.search.blank_penalty = 0.0

    config.train = ml_collections.ConfigDict()
    config.train.steps = 1000
    config.train.log_every = 20
    config.train.eval_every = 100
    config.train.checkpoint_every = 100
    config.train.keep_checkpoints = 2
    config.train.eval_batch_size = 32
    config.train.max_skipped_steps = 10  # non-finite steps before the job stops
    # The lattice is compiled by XLA in any case. The whole step is worth it on accelerators; on CPU it runs no faster
    # and costs a minute of compilation for each bucket.
    config.train.jit_compile = False
    return config
