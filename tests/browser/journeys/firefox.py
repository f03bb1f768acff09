"""Firefox, through WebDriver BiDi: what Playwright has for an unpatched one needs a newer Firefox.

Each command is described at https://w3c.github.io/webdriver-bidi/.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.browser.journeys.tab import Engine, Tab, Visitor, program
from tests.support.waiting import PATIENCE, eventually

_PREFERENCES: dict[str, object] = {
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


def _preferences(visitor: Visitor) -> dict[str, object]:
    return {
        "intl.accept_languages": visitor.language,
        "javascript.enabled": visitor.runs_scripts,
        "layout.css.prefers-color-scheme.content-override": 0 if visitor.dark else 1,
        "network.cookie.cookieBehavior": 5 if visitor.stores else 2,
    }


class _Process:
    """A Firefox, and the one connection to it."""

    def __init__(self, binary: str, preferences: dict[str, object]) -> None:
        self._binary = binary
        self._preferences = {**_PREFERENCES, **preferences}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.errors: list[str] = []

    async def start(self) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        folder = Path(self._profile.name)
        lines = [f"user_pref({json.dumps([*pair])[1:-1]});" for pair in self._preferences.items()]
        (folder / "user.js").write_text("\n".join(lines))
        self._process = await asyncio.create_subprocess_exec(
            *(self._binary, "--headless", "--no-remote", "--profile", str(folder)),
            *("--remote-debugging-port", "0"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        file = folder / "WebDriverBiDiServer.json"
        await eventually(lambda: file.exists() and bool(file.read_text()))
        port = json.loads(file.read_text())["ws_port"]
        self._socket: ClientConnection = await connect(
            f"ws://127.0.0.1:{port}/session", max_size=None, proxy=None
        )
        self._reading = asyncio.create_task(self._read())
        await self.send("session.new", capabilities={})
        await self.send("session.subscribe", events=["log.entryAdded"])

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                answer = json.loads(text)
                if future := self._answers.pop(answer.get("id"), None):
                    future.set_result(answer)
                elif answer.get("method") == "log.entryAdded":
                    entry = answer["params"]
                    if (entry["type"], entry["level"]) == ("javascript", "error"):
                        self.errors.append(entry["text"])
        except ConnectionClosed:
            pass

    async def send(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result."""
        number = len(self._answers) and max(self._answers) + 1
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        answer = await asyncio.wait_for(future, PATIENCE)
        assert answer["type"] == "success", (method, answer)
        return answer["result"]

    async def stop(self) -> None:
        await self._socket.close()
        self._reading.cancel()
        self._process.kill()
        await self._process.wait()
        self._profile.cleanup()


class Firefox(Engine):
    """A process for each set of preferences, and in it a user context for each visitor."""

    def __init__(self) -> None:
        self._binary = program("firefox-esr", "firefox", package="firefox-esr")
        self._processes: dict[str, _Process] = {}
        self._visits: list[tuple[_Process, str]] = []

    async def visitor(self, visitor: Visitor) -> Tab:
        preferences = _preferences(visitor)
        name = json.dumps(preferences)
        if name not in self._processes:
            process = _Process(self._binary, preferences)
            await process.start()
            self._processes[name] = process
        process = self._processes[name]
        user = (await process.send("browser.createUserContext"))["userContext"]
        self._visits.append((process, user))
        return await FirefoxTab.create(process, user, visitor.width)

    async def leave(self) -> list[str]:
        for process, user in self._visits:
            await process.send("browser.removeUserContext", userContext=user)
        self._visits.clear()
        errors = [error for process in self._processes.values() for error in process.errors]
        for process in self._processes.values():
            process.errors.clear()
        return errors

    async def close(self) -> None:
        await asyncio.gather(*(process.stop() for process in self._processes.values()))


class FirefoxTab(Tab):
    def __init__(self, process: _Process, user: str, width: int, context: str) -> None:
        self._process, self._user, self._width, self._context = process, user, width, context

    @classmethod
    async def create(cls, process: _Process, user: str, width: int) -> FirefoxTab:
        created = await process.send("browsingContext.create", type="tab", userContext=user)
        tab = cls(process, user, width, created["context"])
        await tab._send("browsingContext.setViewport", viewport={"width": width, "height": 720})
        return tab

    async def _send(self, method: str, **parameters: Any) -> Any:
        return await self._process.send(method, context=self._context, **parameters)

    async def open(self, url: str) -> None:
        await self._send("browsingContext.navigate", url=url, wait="complete")

    async def reload(self) -> None:
        await self._send("browsingContext.reload", wait="complete")

    async def run(self, expression: str) -> Any:
        # In a sandbox it works without scripts, too.
        answer = await self._process.send(
            "script.evaluate",
            expression=f"JSON.stringify({expression}) ?? null",
            target={"context": self._context, "sandbox": "journey"},
            awaitPromise=False,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"].get("value", "null"))

    async def type(self, selector: str, text: str) -> None:
        await self.click(selector)
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        await self._send(
            "input.performActions", actions=[{"type": "key", "id": "keys", "actions": keys}]
        )

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")
        found = await self._send(
            "browsingContext.locateNodes", locator={"type": "css", "value": selector}
        )
        element = {"type": "element", "element": {"sharedId": found["nodes"][0]["sharedId"]}}
        steps = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": element},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        await self._send(
            "input.performActions", actions=[{"type": "pointer", "id": "mouse", "actions": steps}]
        )

    async def another(self) -> Tab:
        return await FirefoxTab.create(self._process, self._user, self._width)

    async def close(self) -> None:
        await self._send("browsingContext.close")
