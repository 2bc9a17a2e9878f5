"""A headless Chromium, steered through its DevTools protocol: as much as the page's test needs."""

import asyncio
import contextlib
import itertools
import pathlib
import shutil
import subprocess

from aiohttp import ClientSession, WSMsgType

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = "no Chromium on PATH: on Debian, apt-get install chromium"


def find():
    """Path of the browser, None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One tab.

    Args:
      folder: for its profile. microphone: WAV file that its microphone plays, over and over.

    Attributes:
      requests: addresses that were asked for. complaints: errors of scripts and of the console.
    """

    def __init__(self, folder, *, microphone):
        self._folder, self._microphone = pathlib.Path(folder), microphone
        self._numbers, self._answers = itertools.count(1), {}
        self.requests, self.complaints = [], []

    async def start(self):
        # No sandbox, because tests may run as root in containers; the page is our own.
        self._process = subprocess.Popen(
            [
                find(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={self._folder}",
                "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={self._microphone}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port_file = self._folder / "DevToolsActivePort"
        for _ in range(600):
            if port_file.exists() and len(port_file.read_text().splitlines()) == 2:
                break
            if self._process.poll() is not None:
                raise RuntimeError(f"{find()} ended with status {self._process.returncode}")
            await asyncio.sleep(0.1)
        port, path = port_file.read_text().splitlines()
        self._http = ClientSession()
        self._socket = await self._http.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0)
        self._listening = asyncio.create_task(self._listen())
        self._tab = None
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._tab = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            await self.send(f"{domain}.enable")

    async def close(self):
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
            tab, self._tab = self._tab, None
            del tab
            await self.send("Browser.close")
        self._listening.cancel()
        await self._http.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()

    async def send(self, method, **parameters):
        """Result of a command."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._tab} if self._tab else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **session})
        return await asyncio.wait_for(self._answers[number], 60)

    async def open(self, url):
        await self.send("Page.navigate", url=url)

    async def evaluate(self, expression):
        """Value of a JavaScript expression; of a promise, once it is there."""
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    async def until(self, expression, seconds=60):
        """Waits until an expression is true."""
        for _ in range(int(seconds * 20)):
            if await self.evaluate(f"Boolean({expression})"):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never true: {expression}; complaints: {self.complaints}")

    async def choose_file(self, selector, path):
        """What a person does in a file dialog."""
        document = await self.send("DOM.getDocument")
        node = await self.send("DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector)
        await self.send("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def _listen(self):
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                self._take(message.json())

    def _take(self, message):
        method, parameters = message.get("method"), message.get("params", {})
        if "id" in message:
            future = self._answers.pop(message["id"])
            if "error" in message:
                future.set_exception(RuntimeError(str(message["error"])))
            else:
                future.set_result(message["result"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(parameters["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(parameters["exceptionDetails"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"])
