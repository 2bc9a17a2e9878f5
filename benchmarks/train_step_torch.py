"""A training step of the same size in torch: torchaudio's Conformer, an LSTM predictor, a dense joint, its RNN-T loss.

Imports nothing of this project's but `measure`, and so runs in an environment that has torch and torchaudio alone:

    python -m benchmarks.train_step --torch_python=/path/to/that/environment/bin/python
"""

from benchmarks import measure


def versions():
    """{'torch': ..., 'torchaudio': ...}; ImportError where one is missing."""
    import torch
    import torchaudio

    return {"torch": torch.__version__, "torchaudio": torchaudio.__version__}


def time_step(*, size, repetitions):
    """CPU seconds of a step, without a yardstick of its own: {'seconds': [...], 'parameters': int}.

    Args:
      size: fields of train_step.Size as a dictionary.
      repetitions: timed calls, after one that is not.
    """
    step, parameters = _step(size)
    seconds = measure.interleaved({"step": step}, repetitions=repetitions)["step"]
    return {"seconds": seconds, "parameters": parameters}


def memory_of_step(*, size):
    """{'first': bytes, 'later': bytes} by which the process grows during a step, see measure.peak_memory."""
    step, _ = _step({**size, "batch": 1, "frames": 80, "labels": 4})
    step()  # loads the libraries' code
    step, _ = _step(size)
    first, later = measure.peak_memory(step)
    return {"first": first, "later": later}


def _step(size):
    import torch
    import torchaudio
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    width, joint_width, vocab = size["width"], size["joint_width"], size["vocab"]

    class Transducer(nn.Module):
        def __init__(self):
            super().__init__()
            self.subsampling = nn.Sequential(
                nn.Conv2d(1, width, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, stride=2, padding=1),
                nn.SiLU(),
            )  # fmt: skip
            self.linear = nn.Linear(width * size["mel_bins"] // 4, width)
            self.encoder = torchaudio.models.Conformer(
                input_dim=width, num_heads=size["num_heads"], ffn_dim=4 * width, num_layers=size["num_layers"],
                depthwise_conv_kernel_size=size["kernel_size"], dropout=0.1,
            )  # fmt: skip
            self.embedding = nn.Embedding(vocab, size["predictor_width"])
            self.predictor = nn.LSTM(size["predictor_width"], size["predictor_width"], batch_first=True)
            self.encoder_projection = nn.Linear(width, joint_width)
            self.predictor_projection = nn.Linear(size["predictor_width"], joint_width, bias=False)
            self.output = nn.Linear(joint_width, vocab)

        def forward(self, features, lengths, labels):
            maps = self.subsampling(features[:, None])
            frames = self.linear(maps.transpose(1, 2).flatten(2))
            frames, lengths = self.encoder(frames, lengths // 4)
            start = torch.zeros(len(labels), 1, dtype=labels.dtype)
            predicted, _ = self.predictor(self.embedding(torch.cat([start, labels], dim=1)))
            hidden = self.encoder_projection(frames)[:, :, None] + self.predictor_projection(predicted)[:, None]
            return self.output(torch.tanh(hidden)), lengths

    model = Transducer().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(size["batch"], size["frames"], size["mel_bins"], generator=generator)
    lengths = torch.full([size["batch"]], size["frames"], dtype=torch.int64)
    labels = torch.randint(1, vocab, [size["batch"], size["labels"]], generator=generator)
    label_lengths = torch.full([size["batch"]], size["labels"], dtype=torch.int32)

    def step():
        optimizer.zero_grad()
        logits, encoded = model(features, lengths, labels)
        loss = torchaudio.functional.rnnt_loss(
            logits, labels.int(), encoded.int(), label_lengths, blank=0, reduction="mean"
        )
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return float(loss)

    return step, sum(p.numel() for p in model.parameters())
