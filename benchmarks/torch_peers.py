"""The torch peers of the lattice benchmark. Imports torch, and a peer's package, only when it is called."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks import measure


class Peer(NamedTuple):
    """
    module: what must be importable.
    hint: how to install it.
    loss: (encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths) -> scalar, the sum over utterances.
    """

    module: str
    hint: str
    loss: Callable


def call(name, batch, device, dtype):
    """() -> sum of the losses, a float, after the gradients of encoder, predictor, kernel and bias are there."""
    import torch

    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    joint = [torch.tensor(x).to(device, getattr(torch, dtype)).requires_grad_() for x in batch.joint]
    integers = [torch.tensor(x).to(device) for x in batch[4:]]

    def run():
        loss = PEERS[name].loss(*joint, *integers)
        # The gradients are dropped before the next call, as an optimizer does after its step.
        torch.autograd.grad(loss, joint)
        return float(loss)  # waits for the device

    return run


def floor(shape, device, dtype):
    """() that makes the three matrix products of all nodes and waits for them: on CPU all at once or 4096 rows at a
    time, whichever is faster."""
    if device == "cuda":
        return _products(shape, device, dtype, shape.nodes)
    return measure.fastest(_products(shape, device, dtype, rows) for rows in (shape.nodes, min(4096, shape.nodes)))


def _products(shape, device, dtype, rows):
    import torch

    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    options = {"device": device, "dtype": getattr(torch, dtype)}
    sizes = (rows, shape.width), (shape.width, shape.symbols), (rows, shape.symbols)
    hidden, kernel, to_logits = (torch.randn(*size, **options) for size in sizes)
    whole, remainder = divmod(shape.nodes, rows)
    slices = [(hidden, to_logits)] * whole + ([(hidden[:remainder], to_logits[:remainder])] if remainder else [])

    def run():
        to_kernel = torch.zeros_like(kernel)
        with torch.no_grad():
            for left, right in slices:
                torch.matmul(left, kernel)
                torch.matmul(right, kernel.T)
                to_kernel += torch.matmul(left.T, right)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def cuda_peak(run):
    """Bytes by which the allocator's peak exceeds what was allocated before, of the first and the third call."""
    import torch

    torch.cuda.synchronize()
    before, peaks = torch.cuda.memory_allocated(), []
    for _ in range(3):
        torch.cuda.reset_peak_memory_stats()
        run()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    return peaks[0], peaks[-1]


def _logits(encoder, predictor, kernel, bias):
    import torch

    return (torch.tanh(encoder[:, :, None] + predictor[:, None]) @ kernel + bias).float()


def _torchaudio(encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths):
    import torchaudio

    logits = _logits(encoder, predictor, kernel, bias)
    return torchaudio.functional.rnnt_loss(logits, labels, logit_lengths, label_lengths, blank=0, reduction="sum")


def _warp_transducer(encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths):
    import warprnnt_pytorch

    logits = _logits(encoder, predictor, kernel, bias)
    loss = warprnnt_pytorch.RNNTLoss(blank=0, reduction="sum")
    return loss(logits, labels, logit_lengths, label_lengths).sum()


def _warp_rnnt(encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths):
    import torch
    import warp_rnnt

    log_probs = torch.log_softmax(_logits(encoder, predictor, kernel, bias), dim=-1)
    return warp_rnnt.rnnt_loss(log_probs, labels, logit_lengths, label_lengths, reduction="sum", gather=True)


def _optimized_transducer(encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths):
    """Takes the existing nodes only, [sum of T_b (U_b + 1), V]."""
    import optimized_transducer
    import torch

    rows = [
        (encoder[b, :frames, None] + predictor[b, None, : labels_ + 1]).flatten(0, 1)
        for b, (frames, labels_) in enumerate(zip(logit_lengths.tolist(), label_lengths.tolist(), strict=True))
    ]
    logits = (torch.tanh(torch.cat(rows)) @ kernel + bias).float()
    return optimized_transducer.transducer_loss(
        logits, labels, logit_lengths, label_lengths, blank=0, reduction="sum", from_log_softmax=False
    )


def _fast_rnnt(encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths):
    import fast_rnnt

    return fast_rnnt.rnnt_loss(
        logits=_logits(encoder, predictor, kernel, bias), symbols=labels.long(), termination_symbol=0,
        boundary=_boundary(logit_lengths, label_lengths), reduction="sum",
    )  # fmt: skip


def _fast_rnnt_pruned(encoder, predictor, kernel, bias, labels, logit_lengths, label_lengths):
    """Range 5; the simple joiner shares the kernel, which costs as much as two projections of its own."""
    import fast_rnnt
    import torch

    shared = {
        "symbols": labels.long(), "termination_symbol": 0, "boundary": _boundary(logit_lengths, label_lengths),
        "reduction": "sum",
    }  # fmt: skip
    simple, (px_grad, py_grad) = fast_rnnt.rnnt_loss_smoothed(
        lm=(predictor @ kernel).float(), am=(encoder @ kernel).float(), lm_only_scale=0.25, am_only_scale=0.0,
        return_grad=True, **shared,
    )  # fmt: skip
    ranges = fast_rnnt.get_rnnt_prune_ranges(
        px_grad=px_grad, py_grad=py_grad, boundary=shared["boundary"], s_range=5
    )
    am, lm = fast_rnnt.do_rnnt_pruning(am=encoder, lm=predictor, ranges=ranges)
    logits = (torch.tanh(am + lm) @ kernel + bias).float()
    return 0.5 * simple + fast_rnnt.rnnt_loss_pruned(logits=logits, ranges=ranges, **shared)


def _boundary(logit_lengths, label_lengths):
    import torch

    zero = torch.zeros_like(logit_lengths)
    return torch.stack([zero, zero, label_lengths, logit_lengths], dim=1).long()


_COMPILES = "compiles: needs cmake and torch"
PEERS = {
    "torchaudio": Peer("torchaudio", "pip install torch==2.8.0 torchaudio==2.8.0", _torchaudio),
    "warp-transducer": Peer(
        "warprnnt_pytorch", "Build HawkAaron/warp-transducer from source, then its pytorch_binding.", _warp_transducer
    ),
    "warp-rnnt": Peer("warp_rnnt", "pip install warp_rnnt (CUDA only; needs nvcc and torch)", _warp_rnnt),
    "optimized_transducer": Peer(
        "optimized_transducer", f"pip install optimized_transducer ({_COMPILES})", _optimized_transducer
    ),
    "fast_rnnt": Peer("fast_rnnt", f"pip install fast_rnnt ({_COMPILES})", _fast_rnnt),
    "fast_rnnt pruned": Peer("fast_rnnt", f"pip install fast_rnnt ({_COMPILES})", _fast_rnnt_pruned),
}
