"""Whose turn it is, and that nobody pays for another's mistake."""

import asyncio
import threading

import numpy as np
import pytest
import tensorflow as tf

from tf_rnnt_kd.serving.server import batching
from tf_rnnt_kd.serving.server.errors import RequestError
from tf_rnnt_kd.serving.server.limits import Limits
from tf_rnnt_kd.serving.server.metrics import Metrics
from tf_rnnt_kd.serving.server.model import Tensor
from tf_rnnt_kd.serving.server.scheduler import Scheduler


class Adder:
    """A model whose streams add up their samples; samples of 13 are refused, and `gate` holds up whole utterances."""

    sample_rate, streams = 16000, True
    inputs = {"stream_step": {"waveforms": Tensor(tf.float32, (None, None)), "state_sum": Tensor(tf.float32, (None,))}}

    def __init__(self):
        self.gate = threading.Event()
        self.calls = []

    def check(self, signature, inputs):
        return len(inputs["waveforms"])

    def run(self, signature, inputs):
        if signature == "serving_default":
            self.gate.wait(20)
        self.calls.append((signature, len(inputs["waveforms"])))
        if np.any(inputs["waveforms"] == 13):
            raise RequestError("INVALID_ARGUMENT", "thirteen")
        return {"state_sum": inputs.get("state_sum", 0) + inputs["waveforms"].sum(axis=1)}


def step(value, *, width=4, start=0.0):
    return {"waveforms": np.full([1, width], value, np.float32), "state_sum": np.array([start], np.float32)}


def whole(value=1.0):
    return {"waveforms": np.full([1, 3], value, np.float32)}


def with_scheduler(body, *, workers=1, max_batch=32, **limits):
    """Runs the coroutine function `body(scheduler, model)`."""

    async def main():
        model = Adder()
        scheduler = Scheduler(
            model, limits=Limits(**limits), metrics=Metrics(), workers=workers, max_batch=max_batch
        )
        try:
            return await body(scheduler, model)
        finally:
            model.gate.set()
            scheduler.close()

    return asyncio.run(main())


def test_streams_that_wait_run_as_one_and_each_gets_its_own():
    async def body(scheduler, model):
        values = range(1, 11)
        results = await asyncio.gather(
            *(scheduler.run("stream_step", step(value, start=100.0 * value)) for value in values)
        )
        assert [float(result["state_sum"][0]) for result in results] == [104.0 * value for value in values]
        assert all(result["state_sum"].shape == (1,) for result in results)
        return model.calls

    # The first runs at once and alone; the nine that came meanwhile run in batches of at most four.
    calls = with_scheduler(body, max_batch=4)
    assert [rows for _, rows in calls] == [1, 4, 4, 1]
    assert [rows for _, rows in with_scheduler(body, max_batch=1)] == [1] * 10


def test_only_chunks_of_one_size_run_as_one():
    async def body(scheduler, model):
        await asyncio.gather(*(scheduler.run("stream_step", step(1.0, width=width)) for width in (4, 4, 8, 4, 8)))
        return model.calls

    assert sorted(rows for _, rows in with_scheduler(body)) == [1, 2, 2]


def test_who_breaks_a_batch_fails_alone():
    async def body(scheduler, model):
        values = [1, 2, 13, 4]
        results = await asyncio.gather(
            *(scheduler.run("stream_step", step(value)) for value in values), return_exceptions=True
        )
        assert isinstance(results[2], RequestError) and str(results[2]) == "thirteen"
        return [float(results[i]["state_sum"][0]) for i in (0, 1, 3)]

    assert with_scheduler(body) == [4.0, 8.0, 16.0]


def test_a_long_utterance_holds_up_no_stream():
    async def body(scheduler, model):
        long = asyncio.create_task(scheduler.run("serving_default", whole()))
        await asyncio.sleep(0)
        await scheduler.run("stream_step", step(1.0))
        assert not long.done()
        model.gate.set()
        return (await long)["state_sum"]

    assert with_scheduler(body) == [3.0]


def test_what_nobody_waits_for_does_not_run():
    async def body(scheduler, model):
        tasks = [asyncio.create_task(scheduler.run("serving_default", whole(value))) for value in (1.0, 2.0, 3.0)]
        await asyncio.sleep(0.01)
        assert scheduler.pending == 3
        tasks[1].cancel()
        await asyncio.sleep(0.01)
        assert scheduler.pending == 2
        model.gate.set()
        await asyncio.gather(tasks[0], tasks[2])
        return len(model.calls), scheduler.pending

    assert with_scheduler(body) == (2, 0)


def test_limits_of_waiting_and_of_time():
    async def body(scheduler, model):
        first = [asyncio.create_task(scheduler.run("serving_default", whole())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="2 requests are waiting") as refused:
            await scheduler.run("stream_step", step(1.0))
        assert refused.value.code == "RESOURCE_EXHAUSTED"
        results = await asyncio.gather(*first, return_exceptions=True)
        assert [result.code for result in results] == ["DEADLINE_EXCEEDED"] * 2
        model.gate.set()
        return scheduler.pending

    assert with_scheduler(body, pending=2, request_seconds=0.2) == 0


def test_a_stopped_scheduler_answers_all():
    async def body(scheduler, model):
        tasks = [asyncio.create_task(scheduler.run("serving_default", whole())) for _ in range(3)]
        await asyncio.sleep(0.01)
        scheduler.close()
        model.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(RequestError, match="stops"):
            await scheduler.run("serving_default", whole())
        return [getattr(result, "code", "OK") for result in results]

    assert with_scheduler(body) == ["OK", "UNAVAILABLE", "UNAVAILABLE"]


def test_joining_and_splitting_real_streams_changes_nothing(student, audio):
    """Rows with different numbers of tokens, as one call and apart, are what each gives alone."""
    waveforms, _ = audio
    signatures = student.signatures

    def run(name, inputs):
        results = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        return {key: value.numpy() for key, value in results.items()}

    alone, calls = [], []
    for row, steps in ((0, 8), (1, 3), (2, 0)):
        state = run("stream_init", {"batch_size": np.array(1, np.int32)})
        chunks = [waveforms[row : row + 1, start : start + 1280] for start in range(0, 9 * 1280, 1280)]
        for chunk in chunks[:steps]:
            outputs = run("stream_step", {"waveforms": chunk, **state})
            state = {name: value for name, value in outputs.items() if name.startswith("state_")}
        calls.append({"waveforms": chunks[steps - 1], **state})
        alone.append(run("stream_step", calls[-1]))
    assert len({call["state_tokens"].shape[1] for call in calls}) == 3
    together = batching.split(run("stream_step", batching.join(calls)), [1, 1, 1])
    for left, right in zip(together, alone, strict=True):
        assert set(left) == set(right)
        for name, expected in right.items():
            actual = left[name]
            # A batch knows how many columns count; alone there may be more, of zeros.
            assert actual.shape == expected.shape or name.startswith("new_")
            if actual.ndim > 1:
                expected = expected[:, : actual.shape[1]]
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-5)
            else:
                np.testing.assert_array_equal(actual, expected)


def test_states_of_unknown_width_are_not_batched():
    known = {"waveforms": Tensor(tf.float32, (None, None)), "state_num_tokens": Tensor(tf.int32, (None,))}
    tokens = {"state_tokens": Tensor(tf.int32, (None, None))}
    assert batching.can_batch({**known, **tokens})
    assert not batching.can_batch({**known, "state_history": Tensor(tf.float32, (None, None, 8))})
    assert not batching.can_batch(tokens)


def test_nobody_else_is_kept_in_memory():
    outputs = {"state_num_tokens": np.array([2, 0], np.int32), "state_tokens": np.zeros([2, 5], np.int32)}
    first, second = batching.split(outputs, [1, 1])
    assert first["state_tokens"].base is None and first["state_tokens"].shape == (1, 2)
    assert second["state_tokens"].shape == (1, 0)


@pytest.mark.parametrize("name", Limits.__dataclass_fields__)
def test_limits_are_positive(name):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


def test_check_of_lengths_and_sizes():
    limits = Limits(audio_seconds=1.0, rows=2, tokens=3)
    waveforms = np.zeros([2, 100], np.float32)
    good = {
        "waveforms": waveforms, "num_samples": np.array([100, 0]), "tokens": np.zeros([2, 3]),
        "num_tokens": np.array([3, 0]),
    }  # fmt: skip
    limits.check(good, rows=2, sample_rate=16000)
    cases = {
        "num_samples": np.array([101, 0]), "num_tokens": np.array([-1, 0]), "tokens": np.zeros([2, 4]),
        "waveforms": np.zeros([2, 8001], np.float32), "batch_size": np.array(3), "phrases": np.zeros([4, 1]),
    }  # fmt: skip
    for name, value in cases.items():
        with pytest.raises(RequestError, match=name):
            limits.check({**good, name: value}, rows=2, sample_rate=16000)
    with pytest.raises(RequestError, match="3 rows"):
        limits.check(good, rows=3, sample_rate=16000)
