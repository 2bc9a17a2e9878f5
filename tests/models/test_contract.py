"""Every layer and every encoder keeps to the contract of layers over time."""

import functools

import numpy as np
import pytest
from contract import verify_contract

from tf_rnnt_kd.models import BiLSTMEncoder, ConformerEncoder, LSTMEncoder
from tf_rnnt_kd.models.attention import SelfAttention
from tf_rnnt_kd.models.conformer import ConformerBlock, FeedForward
from tf_rnnt_kd.models.convolution import ConvolutionModule
from tf_rnnt_kd.models.lstm import LSTMBlock
from tf_rnnt_kd.models.normalisation import FrameBatchNormalization
from tf_rnnt_kd.models.recurrent import LSTM
from tf_rnnt_kd.models.subsampling import HalvingStage, TimeReduction

make = functools.partial
# Parts of blocks are given finite padding: their block sees to it.
PART = {"shape": (8,), "padding": 1e3}
WHOLE = {"look_ahead": None, "streams": False}
SIZES = {"width": 16, "num_layers": 1, "num_heads": 2, "kernel_size": 3, "channels": 3, "dropout": 0.1}
TWO = {**SIZES, "num_layers": 2}
CHUNKS = {"left_context": 4, "chunk_size": 2, "right_context": 2}

LAYERS = {
    "halving stage": (make(HalvingStage, 3), {"shape": (6, 2), "subsampling": 2, "look_back": 1, "step_multiple": 2}),
    "time reduction": (make(TimeReduction), {"subsampling": 2, "look_back": 0, "step_multiple": 2}),
    "batch norm": (make(FrameBatchNormalization), {"padding": 1e3, "streams": False, "look_back": 0}),
    "feed-forward": (make(FeedForward, dropout=0.1), {**PART, "streams": False, "look_back": 0}),
    "convolution, causal": (make(ConvolutionModule, 4, causal=True), {**PART, "look_back": 3}),
    "convolution, centred": (make(ConvolutionModule, 5), {**PART, "look_ahead": 2, "look_back": 2, "streams": False}),
    "convolution, batch norm": (make(ConvolutionModule, 3, causal=True, norm="batch"), {**PART, "look_back": 2}),
    "attention, full": (make(SelfAttention, 2, dropout=0.1), {**PART, **WHOLE}),
    "attention, causal": (make(SelfAttention, 2, 3), {**PART, "look_back": 3}),
    "attention, relative": (make(SelfAttention, 2, 3, position_encoding="relative"), {**PART, "look_back": 3}),
    # The first frame of a chunk sees one more of its chunk and two beyond; the second, four before the chunk.
    "attention, chunks": (
        make(SelfAttention, 2, 4, chunk_size=2, right_context=2, position_encoding="relative"),
        {**PART, "look_ahead": 3, "look_back": 5, "step_multiple": 2, "delay": 2},
    ),
    "block, full": (make(ConformerBlock, 2, 3, dropout=0.1, depth_dropout=0.5), {"shape": (8,), **WHOLE}),
    "block, chunks": (
        make(ConformerBlock, 2, 3, **CHUNKS, position_encoding="none"),
        {"shape": (8,), "look_ahead": 3, "step_multiple": 2, "delay": 2},
    ),
    "LSTM": (make(LSTM, 5), {}),
    "LSTM, all options": (make(LSTM, 5, projection=3, layer_norm=True, coupled_gates=True), {}),
    "LSTM block, both directions": (make(LSTMBlock, 4, bidirectional=True, dropout=0.1), WHOLE),
}

ENCODERS = {
    "full": (make(ConformerEncoder, **SIZES), {"subsampling": 8, **WHOLE}),
    "as published": (
        make(ConformerEncoder, **SIZES, subsampling=4, position_encoding="relative", convolution_norm="batch"),
        {"subsampling": 4, **WHOLE},
    ),
    "causal": (make(ConformerEncoder, **SIZES, left_context=5), {"subsampling": 8, "step_multiple": 8}),
    # Four frames of 40 ms in a chunk: the first sees the three others.
    "chunks": (
        make(ConformerEncoder, **SIZES, subsampling=4, left_context=4, chunk_size=4, stochastic_depth=0.5),
        {"subsampling": 4, "look_ahead": 3 * 4, "step_multiple": 4 * 4},
    ),
    # Two blocks look two frames of the first block's rate ahead each, chunks of two are one frame after the reduction.
    "chunks, right context, time reduction": (
        make(ConformerEncoder, **TWO, **CHUNKS, subsampling=2, time_reduction_after=(0,)),
        {"subsampling": 4, "look_ahead": 2 * 2 * 2, "step_multiple": 4, "delay": 2},
    ),
    "causal, right context": (
        make(ConformerEncoder, **TWO, subsampling=2, left_context=3, right_context=1),
        {"subsampling": 2, "look_ahead": 2 * 2, "step_multiple": 2, "delay": 2},
    ),
    "LSTM": (
        make(LSTMEncoder, 6, 2, channels=3, subsampling=4, dropout=0.1), {"subsampling": 4, "step_multiple": 4},
    ),
    "CIFG-LSTM, time reduction": (
        make(LSTMEncoder, 6, 2, 4, layer_norm=True, coupled_gates=True, channels=3, subsampling=2,
             time_reduction_after=(0,)),
        {"subsampling": 4, "step_multiple": 4},
    ),
    "BiLSTM": (make(BiLSTMEncoder, 6, 2, channels=3, subsampling=4), {"subsampling": 4, **WHOLE}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    factory, promises = LAYERS[name]
    verify_contract(factory, **promises)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name):
    factory, promises = ENCODERS[name]
    layer = factory()
    assert layer.subsampling == promises["subsampling"]
    assert layer.is_streaming == promises.get("streams", True)
    assert layer.look_ahead_frames == promises.get("look_ahead", 0)
    assert layer.output_delay == promises.get("delay", 0)
    if layer.is_streaming:
        assert layer.frames_per_step == promises["step_multiple"]
    else:
        with pytest.raises(ValueError, match="left_context"):
            layer.get_initial_state(1)
    verify_contract(factory, **promises, compile_gradients=False)


def test_the_contract_finds_what_breaks_it():
    """A layer that sees one frame more than it says, one that lets padding through, one whose steps forget."""

    class Careless(LSTM):
        def call(self, frames, lengths):
            outputs, _, _ = self.step(frames, np.ones(frames.shape[:2], bool), self.get_initial_state(frames.shape[0]))
            return outputs

    class Forgetful(LSTM):
        def step(self, frames, valid, state):
            outputs, valid, _ = super().step(frames, valid, state)
            return outputs, valid, state

    with pytest.raises(AssertionError):
        verify_contract(make(ConvolutionModule, 5), **PART, look_ahead=1, look_back=2, streams=False)
    for broken in (Careless, Forgetful):
        with pytest.raises(AssertionError):
            verify_contract(make(broken, 5))
