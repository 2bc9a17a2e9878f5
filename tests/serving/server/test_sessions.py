"""Sessions: audio in pieces of any size gives what the export gives at once, and mistakes are named."""

import itertools

import numpy as np
import pytest
from server_running import HTTP, offline, pieces_of, running, served_model, session, utterances

from tf_rnnt_kd.serving.server.limits import Limits


@pytest.mark.parametrize("sizes", [[1280], [1], [4000, 7, 12345], [30_000]], ids=str)
def test_a_session_gives_what_the_export_gives(student, served, audio, sizes):
    waveform = utterances(audio)[1][: 700 if sizes == [1] else None]
    messages, close_code = served.loop.call(session(served.url, "student", pieces_of(waveform, sizes)))
    expected = offline(student, waveform)
    ready, *partials, final = messages
    assert {name: ready[name] for name in ("type", "sample_rate", "chunk_samples", "streaming")} == {
        "type": "ready", "sample_rate": 16000, "chunk_samples": 1280, "streaming": True,
    }  # fmt: skip
    assert final["type"] == "final" and final["text"] == expected["text"][0].decode()
    assert final["tokens"] == expected["tokens"][0, : expected["num_tokens"][0]].tolist()
    assert [word["word"] for word in final["words"]] == [word.decode() for word in expected["words"][0] if word]
    np.testing.assert_allclose(
        [word["end_seconds"] for word in final["words"]], expected["word_end_seconds"][0, : len(final["words"])]
    )
    assert final["seconds"] == len(waveform) / 16000 and close_code == 1000
    assert all(partial["type"] == "partial" for partial in partials)
    texts = [partial["text"] for partial in partials]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise([*texts, final["text"]]))
    seconds = [partial["seconds"] for partial in partials]
    assert seconds == sorted(set(seconds)) and max(seconds, default=0.0) == len(waveform) // 1280 * 1280 / 16000


def test_a_session_of_a_model_that_does_not_stream(student, audio):
    waveform = utterances(audio)[1]
    # The student without what makes it stream: to the server that is a model that needs the whole utterance.
    model = served_model(student, "whole")
    model.inputs = {name: inputs for name, inputs in model.inputs.items() if not name.startswith("stream_")}
    model.metadata = {**model.metadata, "streaming": False, "chunk_samples": None, "look_ahead_seconds": None}
    with running(model, limits=Limits(audio_seconds=1.0)) as server:
        (listed,) = HTTP.get(f"{server.url}/v1/models").json()["models"]
        assert (listed["name"], listed["streaming"], listed["limit_seconds"]) == ("whole", False, 1.0)
        (ready, final), _ = server.loop.call(session(server.url, "whole", pieces_of(waveform, [5000])))
        assert not ready["streaming"] and final["text"] == offline(student, waveform)["text"][0].decode() != ""
        (_, error), close_code = server.loop.call(session(server.url, "whole", [waveform, waveform]))
        assert (error["type"], error["code"], close_code) == ("error", "RESOURCE_EXHAUSTED", 1008)


SESSION_CASES = {
    "no samples": ([b"abc"], "INVALID_ARGUMENT", "3 bytes are no whole number"),
    "NaN": ([[0.0, float("nan")]], "INVALID_ARGUMENT", "NaN or infinity"),
    "not scaled": ([[12_000.0]], "INVALID_ARGUMENT", "reach 1.2e.04"),
    "another word": (['{"type": "stop"}'], "INVALID_ARGUMENT", '"end"'),
    "no JSON": (["end"], "INVALID_ARGUMENT", '"end"'),
    "too long": ([np.zeros(64_000), np.zeros(1)], "RESOURCE_EXHAUSTED", "takes 4 s"),
}


@pytest.mark.parametrize("case", SESSION_CASES)
def test_bad_sessions(served, case):
    pieces, code, message = SESSION_CASES[case]
    messages, close_code = served.loop.call(session(served.url, "student", pieces))
    assert (messages[-1]["type"], messages[-1]["code"], close_code) == ("error", code, 1008)
    with pytest.raises(ValueError, match=message):
        raise ValueError(messages[-1]["error"])


def test_pages_of_other_sites_open_no_session(served):
    handshake = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    url = f"{served.url}/v1/models/student:stream"
    refused = HTTP.get(url, headers={**handshake, "Origin": "http://elsewhere.example"})
    assert refused.status_code == 403 and "elsewhere" in refused.json()["error"]
    own = {"Origin": served.url}
    messages, _ = served.loop.call(session(served.url, "student", [], headers=own))
    assert messages[-1]["type"] == "final" and messages[-1]["text"] == ""


