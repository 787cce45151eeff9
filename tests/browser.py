"""A headless Chromium that tests talk to through its DevTools pipe: pages as it lays them out, and what it
complains about. The standard library is enough for it.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_REPLY_WAIT_S = 60.0
_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--remote-debugging-pipe"),
)


class Page:
    """One tab. `complaints` are its console's errors and warnings, exceptions and violations of its policy;
    `requests` are the addresses that it asked for."""

    def __init__(self, commands: int, replies: int) -> None:
        self._commands, self._replies, self._rest = commands, replies, b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", {})

    _session: str | None = None

    def open(self, path: Path, width: int, scheme: str = "light", media: str = "screen") -> None:
        """Show a file in a window `width` pixels wide, to a reader who prefers `scheme`."""
        self.complaints, self.requests, self._events = [], [], []
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", {"media": media, "features": features})
        self._call("Page.navigate", {"url": path.absolute().as_uri()})
        self._wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        asked = {"expression": expression, "returnByValue": True}
        reply = self._call("Runtime.evaluate", asked)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        reply = self._call("Page.captureScreenshot", {"captureBeyondViewport": True})
        return base64.b64decode(reply["data"])

    def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._read()
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                return dict(reply["result"])

    def _wait_for(self, event: str) -> None:
        while not any(each["method"] == event for each in self._events):
            self._read()

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + _REPLY_WAIT_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            data = os.read(self._replies, 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        if "method" in found:
            self._events.append(found)
            self._note(found["method"], found["params"])
        return found

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(parameters))


@contextmanager
def browser(program: Path, profile: Path) -> Iterator[Page]:
    """A tab of `program` (Chromium), whose files go into the folder `profile`."""
    command_end, commands = os.pipe()
    replies, reply_end = os.pipe()

    def hand_over() -> None:  # Chromium reads from 3 and writes to 4
        first, second = os.dup(command_end), os.dup(reply_end)
        os.dup2(first, 3)
        os.dup2(second, 4)
        for end in (3, 4):
            os.set_inheritable(end, True)

    process = subprocess.Popen(
        [str(program), *_ARGUMENTS, f"--user-data-dir={profile}"],
        preexec_fn=hand_over,
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(command_end)
        os.close(reply_end)
        yield Page(commands, replies)
    finally:
        process.terminate()
        process.wait(30)
        for end in (commands, replies):
            os.close(end)
