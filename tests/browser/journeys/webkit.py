"""WebKitGTK's MiniBrowser, through its WebDriver (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.browser.journeys.tab import Engine, Tab, Visitor, program
from tests.support.ports import free_port
from tests.support.waiting import eventually

_C_LOCALE = Path("/usr/lib/locale/C.utf8")
_NO_STORAGE = ("--cookies-policy=never", "--enable-html5-local-storage=false")
# Its buttons would keep the window from being narrow.
_SMALL_TOOLBAR = "* { min-width: 0; margin: 0; border: 0; padding: 0; font-size: 1px; }"
_SCREEN = "-screen 0 1280x800x24"


def _arguments(visitor: Visitor) -> list[str]:
    return [
        "--automation",
        *(["--dark-mode"] if visitor.dark else []),
        *([] if visitor.runs_scripts else ["--enable-javascript-markup=false"]),
        *(
            []
            if visitor.stores
            else ["--cookies-policy=never", "--enable-html5-local-storage=false"]
        ),
    ]


class _Session:
    """A driver and a browser on a screen of their own."""

    async def start(self, screen: str, driver: str, visitor: Visitor) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # WebKit takes its language from the locale, which has to exist.
        locale = visitor.language.replace("-", "_")
        folder = Path(self._folder.name)
        shutil.copytree(_C_LOCALE, folder / f"{locale}.utf8")
        (folder / "gtk-3.0").mkdir()
        (folder / "gtk-3.0/gtk.css").write_text(_SMALL_TOOLBAR)
        port = free_port()
        self._process = await asyncio.create_subprocess_exec(
            *(
                program("xvfb-run", package="xvfb"),
                "--auto-servernum",
                "--server-args=-screen 0 1280x800x24",
            ),
            *(program("WebKitWebDriver", package="webkit2gtk-driver"), f"--port={port}"),
            env={
                **os.environ,
                "LC_ALL": f"{locale}.UTF-8",
                "LOCPATH": str(folder),
                "XDG_CONFIG_HOME": str(folder),
            },
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self._path = ""
        await eventually(self._is_up)
        options = {"args": _arguments(visitor)}
        session = await self.send(
            "/session", capabilities={"alwaysMatch": {"webkitgtk:browserOptions": options}}
        )
        self._path = f"/session/{session['sessionId']}"
        await self.send("/window/rect", width=visitor.width, height=720)

    async def _is_up(self) -> bool:
        try:
            return (await self._http.get("/status")).is_success
        except httpx.TransportError:
            return False

    async def send(self, command: str, **parameters: Any) -> Any:
        """Send a command and return its result."""
        answer = await self._http.post(self._path + command, json=parameters)
        assert answer.is_success, (command, answer.text)
        return answer.json()["value"]

    async def get(self, command: str) -> Any:
        return (await self._http.get(self._path + command)).json()["value"]

    async def delete(self, command: str) -> None:
        await self._http.delete(self._path + command)

    async def stop(self) -> None:
        await self.delete("")
        await self._http.aclose()
        os.killpg(self._process.pid, signal.SIGTERM)
        await self._process.wait()
        self._folder.cleanup()


class WebKit(Engine):
    """A process for each visitor: a driver has one session."""

    def __init__(self) -> None:
        self._screen = program("xvfb-run", package="xvfb")
        self._driver = program("WebKitWebDriver", package="webkit2gtk-driver")
        self._sessions: list[_Session] = []

    async def visitor(self, visitor: Visitor) -> Tab:
        session = _Session()
        await session.start(self._screen, self._driver, visitor)
        self._sessions.append(session)
        return WebKitTab(session, await session.get("/window"))

    async def leave(self) -> list[str]:
        await self.close()
        return []

    async def close(self) -> None:
        await asyncio.gather(*(session.stop() for session in self._sessions))
        self._sessions.clear()


class WebKitTab(Tab):
    def __init__(self, session: _Session, handle: str) -> None:
        self._session, self.handle = session, handle

    async def _send(self, command: str, **parameters: Any) -> Any:
        await self._session.send("/window", handle=self.handle)
        return await self._session.send(command, **parameters)

    async def open(self, url: str) -> None:
        await self._send("/url", url=url)

    async def reload(self) -> None:
        await self._send("/refresh")

    async def run(self, expression: str) -> Any:
        script = f"return JSON.stringify({expression})"
        return json.loads(await self._send("/execute/sync", script=script, args=[]))

    async def _element(self, selector: str) -> str:
        found = await self._send("/element", using="css selector", value=selector)
        (element,) = found.values()
        return f"/element/{element}"

    async def type(self, selector: str, text: str) -> None:
        await self._session.send(f"{await self._element(selector)}/value", text=text)

    async def click(self, selector: str) -> None:
        await self._session.send(f"{await self._element(selector)}/click")

    async def another(self) -> Tab:
        created = await self._session.send("/window/new", type="tab")
        return WebKitTab(self._session, created["handle"])

    async def close(self) -> None:
        await self._session.send("/window", handle=self.handle)
        await self._session.delete("/window")
