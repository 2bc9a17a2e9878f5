"""The page in a browser: words appear for files and the microphone, mistakes are said, nothing comes from outside."""

import wave

import chromium
import numpy as np
import pytest
from server_running import offline, utterances

pytestmark = pytest.mark.skipif(not chromium.find(), reason=chromium.MISSING)

READY = "document.body?.dataset.state === 'ready'"
TRANSCRIPT = "document.getElementById('transcript').textContent"


def write_wav(path, waveform):
    """PCM16 file; what a decoder makes of it."""
    samples = np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes(samples.tobytes())
    return samples.astype(np.float32) / 32768


@pytest.fixture(scope="module")
def files(tmp_path_factory, audio):
    folder = tmp_path_factory.mktemp("page")
    heard = {f"{i}.wav": write_wav(folder / f"{i}.wav", waveform) for i, waveform in enumerate(utterances(audio))}
    (folder / "text.wav").write_text("not audio at all")
    return folder, heard


@pytest.fixture(scope="module")
def browser(served, files, tmp_path_factory):
    found = chromium.Browser(tmp_path_factory.mktemp("profile"), microphone=files[0] / "0.wav")
    served.loop.call(found.start(), 120)
    try:
        served.loop.call(found.open(served.url))
        served.loop.call(found.until(READY))
        yield found
    finally:
        served.loop.call(found.close())


def test_the_page_names_its_model(served, browser):
    text = served.loop.call(browser.evaluate("document.getElementById('model').textContent"))
    assert text.startswith("student, version ") and "words appear while you speak" in text


@pytest.mark.parametrize("name", ["0.wav", "1.wav"])
def test_a_file_is_transcribed(student, served, browser, files, name):
    folder, heard = files
    expected = offline(student, heard[name])

    async def transcribe():
        await browser.evaluate("window.shown = []")
        await browser.evaluate(
            "new MutationObserver(() => shown.push(document.getElementById('transcript').textContent))"
            ".observe(document.getElementById('transcript'), {subtree: true, childList: true, characterData: true})"
        )
        await browser.choose_file("#file", folder / name)
        await browser.until("!document.getElementById('words').hidden")
        rows = "[...document.querySelectorAll('#words tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
        return (
            await browser.evaluate(TRANSCRIPT), await browser.evaluate(rows), await browser.evaluate("shown"),
            await browser.evaluate("document.getElementById('status').textContent"),
        )  # fmt: skip

    text, rows, shown, status = served.loop.call(transcribe())
    assert text == expected["text"][0].decode() != ""
    assert [row[0] for row in rows] == [word.decode() for word in expected["words"][0]]
    assert [row[2] for row in rows] == [f"{seconds:.2f}" for seconds in expected["word_end_seconds"][0]]
    assert [row[3] for row in rows] == [f"{confidence:.3f}" for confidence in expected["word_confidence"][0]]
    assert status == f"{len(heard[name]) / 16000:.1f} s, words: {len(rows)}"
    assert any("" != earlier != text for earlier in shown), "the words came all at once"


def test_the_microphone_is_transcribed_while_it_is_open(served, browser):
    async def record():
        await browser.until(READY)
        await browser.evaluate("document.getElementById('record').click()")
        await browser.until("document.getElementById('record').textContent === 'Stop'")
        await browser.until(f"{TRANSCRIPT} !== ''")
        while_open = await browser.evaluate(TRANSCRIPT)
        await browser.evaluate("document.getElementById('record').click()")
        await browser.until(READY)
        status = await browser.evaluate("document.getElementById('status').textContent")
        return while_open, await browser.evaluate(TRANSCRIPT), status

    while_open, text, status = served.loop.call(record())
    assert while_open and text.startswith(while_open)
    assert float(status.split(" s")[0]) > 0 and "words: " in status


def test_a_file_that_is_no_audio_is_refused_and_the_page_goes_on(served, browser, files):
    folder, _ = files

    async def choose():
        await browser.until(READY)
        await browser.choose_file("#file", folder / "text.wav")
        await browser.until("!document.getElementById('error').hidden")
        said = await browser.evaluate("document.getElementById('error').textContent")
        await browser.until(READY)
        await browser.choose_file("#file", folder / "2.wav")
        await browser.until("!document.getElementById('words').hidden")
        return said, await browser.evaluate("document.getElementById('error').hidden")

    said, hidden = served.loop.call(choose())
    assert said == "This browser cannot decode text.wav." and hidden


def test_a_limit_of_the_server_is_shown(served, browser, files, audio):
    folder, _ = files
    write_wav(folder / "long.wav", np.tile(utterances(audio)[0], 4)[: 4 * 16000 + 1600])

    async def choose():
        await browser.until(READY)
        await browser.choose_file("#file", folder / "long.wav")
        await browser.until("!document.getElementById('error').hidden")
        return await browser.evaluate("document.getElementById('error').textContent")

    assert served.loop.call(choose()) == "this server takes 4 s of audio in a session"


def test_everything_came_from_the_server(served, browser):
    origins = {address.split("://")[1].split("/")[0] for address in browser.requests if address != "about:blank"}
    assert origins == {served.rest}
    assert browser.complaints == []
