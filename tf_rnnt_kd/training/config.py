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
    # Of another type than conformer: replace all of config.model, e.g. by tf_rnnt_kd.models.preset("streaming_cifg").
    config.model.encoder.type = "conformer"
    config.model.encoder.width = 144
    config.model.encoder.num_layers = 4
    config.model.encoder.num_heads = 4
    config.model.encoder.kernel_size = 9
    config.model.encoder.subsampling = 8
    config.model.encoder.channels = 32  # of the convolutions that subsample
    # None: full context. A number of encoder frames: causal, sees that far back, streams.
    config.model.encoder.left_context = ml_collections.config_dict.placeholder(int)
    config.model.encoder.chunk_size = 1  # frames that see each other where left_context is set; 1: causal
    config.model.encoder.right_context = 0  # frames that each block sees beyond its chunk
    config.model.encoder.position_encoding = "rotary"  # relative, none
    config.model.encoder.convolution_norm = "layer"  # batch
    config.model.encoder.dropout = 0.1
    config.model.encoder.stochastic_depth = 0.0  # share of utterances that skip the last block; grows linearly to it
    config.model.encoder.time_reduction_after = ()  # numbers of blocks, from 0, after which two frames become one
    config.model.predictor = ml_collections.ConfigDict()
    config.model.predictor.type = "stateless"
    config.model.predictor.width = 64
    config.model.predictor.context_size = 2
    config.model.predictor.dropout = 0.1
    config.model.joint_width = 128
    config.model.joint = ml_collections.ConfigDict()
    config.model.joint.combination = "add"  # multiply
    config.model.joint.factorised_blank = False  # sigmoid for the blank, softmax for the others (HAT)

    config.data = ml_collections.ConfigDict()
    config.data.frames_per_batch = 12_800  # feature frames, 10 ms each
    config.data.num_buckets = 3
    # Greatest share of padding in all batches: there will be as many more buckets as it takes. None: num_buckets.
    config.data.max_padding = ml_collections.config_dict.placeholder(float)
    config.data.shuffle_buffer = 256  # records; for each source where sources have weights; it is in each checkpoint
    # (DIR:split or split, weight) of each source, e.g. (("train-labeled", 1), ("train-unlabeled", 9)); () takes those
    # of --train=DIR:split@WEIGHT, or else every record once before any comes again.
    config.data.mixture = ()

    config.augment = ml_collections.ConfigDict()
    config.augment.speed_factors = ()  # e.g. (0.9, 1.0, 1.1); refused with stored lattices
    # SpecAugment: LB, LD, SM, SS, conformer, libri_full_adapt or light, see tf_rnnt_kd.speech.policies. The settings
    # that follow are the policy's own where they are None.
    config.augment.policy = "light"
    config.augment.freq_masks = ml_collections.config_dict.placeholder(int)
    config.augment.freq_width = ml_collections.config_dict.placeholder(int)  # widest mask in bins
    config.augment.time_masks = ml_collections.config_dict.placeholder(int)
    config.augment.time_masks_per_frame = ml_collections.config_dict.placeholder(float)  # above 0: time_masks at most
    config.augment.time_ratio = ml_collections.config_dict.placeholder(float)  # widest, as a share of the utterance ...
    config.augment.time_width = ml_collections.config_dict.placeholder(int)  # ... and in feature frames
    config.augment.time_warp = ml_collections.config_dict.placeholder(int)  # frames; refused with stored lattices
    config.augment.fill = "zero"  # of masked places: zero (the mean of the corpus), mean (of the utterance), noise
    config.augment.noise = ""  # to mix in: a folder of audio files, DIR:split of records, or white
    config.augment.noise_probability = 0.5  # share of the utterances that get noise
    config.augment.noise_snr_db = (5.0, 20.0)  # least and greatest signal-to-noise ratio

    # Weighted sum of registered losses, see tf_rnnt_kd.losses.objective: name -> weight (a number or a schedule), which
    # utterances it is on, and options of the loss.
    config.losses = ml_collections.ConfigDict({"rnnt": {"weight": 1.0, "fastemit_lambda": 0.0}})

    # Where losses have the teacher's part from, see tf_rnnt_kd.training.online_teacher.
    config.distillation = ml_collections.ConfigDict()
    # A SavedModel, or a complete workdir, that runs within the step; "" for what the records hold of a teacher.
    config.distillation.online_teacher = ""
    config.distillation.top_k = 8  # symbols per node that the online teacher gives to the loss top_k
    config.distillation.num_hypotheses = 4  # of each utterance's n-best list, stored or online

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "adamw"  # adam, adafactor
    config.optimizer.schedule = "cosine"  # to zero at the last step; constant, transformer (inverse square root)
    config.optimizer.peak_learning_rate = 2e-3  # adafactor's is relative to the weights: 1e-2 is usual
    config.optimizer.warmup_steps = 100
    # Of each part's learning rate, and warm-ups that differ from the one above.
    config.optimizer.multipliers = ml_collections.ConfigDict({"encoder": 1.0, "predictor": 1.0, "joint": 1.0})
    config.optimizer.part_warmup_steps = ml_collections.ConfigDict(
        {part: ml_collections.config_dict.placeholder(int) for part in ("encoder", "predictor", "joint")}
    )
    config.optimizer.beta_1 = 0.9  # momentum; 0 saves adafactor the memory for it
    config.optimizer.beta_2 = 0.98
    config.optimizer.weight_decay = 1e-3  # decoupled: times the learning rate
    config.optimizer.no_decay = ()  # patterns of variable paths that it spares, e.g. ("bias", "gamma", "beta")
    config.optimizer.clip_norm = 5.0  # of the whole gradient; 0 does not clip
    config.optimizer.ema_decay = 0.99  # 0 turns averaging off; evaluation and export use the average

    # Zhu-Gupta pruning of weight matrices, see tf_rnnt_kd.training.sparsity.
    config.sparsity = ml_collections.ConfigDict()
    config.sparsity.target = 0.0  # share of zero weights at `end`; 0 turns it off
    config.sparsity.initial = 0.0  # share at `begin`
    config.sparsity.begin = 0  # updates before the first mask
    config.sparsity.end = 0  # updates until the target is reached; the best weights are chosen from then on
    config.sparsity.frequency = 100  # updates between masks
    config.sparsity.block = (1, 1)  # rows x columns that are pruned together; (1, 1): single weights
    config.sparsity.scope = "tensor"  # each matrix reaches the target; "global": all of them together
    config.sparsity.include = ("kernel",)  # patterns of variable paths ...
    config.sparsity.exclude = ("depthwise_kernel",)  # ... and those left dense; vectors always are

    # Gaussian noise on the weights of the forward pass (Graves 2011), see tf_rnnt_kd.training.variational_noise.
    config.variational_noise = ml_collections.ConfigDict()
    config.variational_noise.deviation = 0.0  # 0 turns it off
    config.variational_noise.begin = 0  # steps without it
    config.variational_noise.include = ()  # patterns of variable paths; none: all trainable weights

    config.search = ml_collections.ConfigDict()  # see tf_rnnt_kd.decoding.GreedySearch
    config.search.max_symbols_per_frame = 3
    config.search.blank_penalty = 0.0

    config.train = ml_collections.ConfigDict()
    config.train.steps = 1000
    config.train.log_every = 20
    config.train.log_gradients_every = 0  # norms of the gradients of each loss term; 0 never; costs a step per term
    config.train.pictures_every = 500  # spectrogram and lattices of one utterance in TensorBoard; 0 never
    config.train.eval_every = 100
    config.train.checkpoint_every = 100
    config.train.keep_checkpoints = 2
    config.train.eval_batch_size = 32
    # Weights to start from: a training's folder, or in it best/*.weights.h5 or checkpoints/ckpt-N; see warm_start.py.
    config.train.warm_start = ""
    config.train.warm_start_only = ()  # patterns of variable paths, e.g. ("encoder/",); none: all that fit
    # What needs more is refused before the first step, in units of 1e9 bytes. 0: what the device has. Below 0: no
    # limit, and no estimate, which takes seconds: for many short trainings of small models.
    config.train.memory_limit_gb = 0.0
    config.train.max_skipped_steps = 10  # non-finite steps before the job stops
    config.train.accumulate_steps = 1  # batches per replica and update
    # Number format of the layers: float32, mixed_bfloat16, mixed_float16 (with a loss scale), bfloat16 (weights too).
    # The lattice, the losses, and the averaged weights are float32.
    config.train.precision = "float32"
    # Activations of the encoder that the backward pass computes again instead of keeping them: none, blocks (each block
    # from its input, a third more time), all (also the convolutions that subsample, utterance by utterance).
    config.train.recompute = "none"
    # Whether XLA compiles the whole step: True, False, or "auto": where there is an accelerator. The lattice is
    # compiled in any case; on CPU the rest runs no faster and costs a minute of compilation for each bucket.
    config.train.jit_compile = ml_collections.FieldReference("auto", field_type=object)
    return config


def without_free_settings(config: dict) -> dict:
    """A config's dictionary without the settings that change time and memory, and results by rounding at most.

    A training may be resumed with other values of these, and is the same training.
    """
    free = ("recompute", "memory_limit_gb")
    return {**config, "train": {name: value for name, value in config["train"].items() if name not in free}}
