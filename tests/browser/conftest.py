"""Fixtures: visitors of the page in a real Chromium, and what the browser reports."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import httpx
import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Route,
    WebError,
    async_playwright,
    expect,
)

from tests.conftest import Serve
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

Visit = Callable[..., Awaitable[Page]]
Handler = Callable[[Route], Awaitable[None]]

# The first is Chromium without a window: it takes half the processor's time of the others.
_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error("CSP violation:", event.violatedDirective, event.blockedURI));
"""


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests: the system's Chromium, else Playwright's own."""
    expect.set_options(timeout=30_000)
    found = [path for path in map(shutil.which, _BROWSERS) if path]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=found[0] if found else None, args=_ARGUMENTS
        )
        yield browser
        await browser.close()


class Pods(NamedTuple):
    """Two pods on one Redis."""

    a: Server
    b: Server


ADMIN = {"Authorization": "Bearer browser-tests"}


@pytest.fixture(scope="session")
async def running_pods(
    shared_valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pods]:
    """Two servers for all tests that need no settings of their own: to start one takes a second."""
    folder = tmp_path_factory.mktemp("pods")
    settings = {"GUESTBOOK_ADMIN_TOKEN": "browser-tests", "GUESTBOOK_DRAIN_SECONDS": "0.2"}
    # The last database: the other fixtures count theirs from the first.
    redis = shared_valkey.new_database()
    pods = Pods(
        *(Server(folder / f"{name}.log", redis, name, **settings) for name in ("pod-a", "pod-b"))
    )
    yield pods
    for pod in pods:
        pod.stop()


@pytest.fixture
async def pods(running_pods: Pods) -> Pods:
    """The two servers, both ready, with an empty guestbook."""
    for pod in running_pods:
        if pod.process is None or pod.process.poll() is not None:
            pod.start()
    await asyncio.gather(*(pod.ready() for pod in running_pods))
    for pod in running_pods:
        # Each, because one that was frozen may not have read what the other has.
        await eventually(partial(_is_cleared, pod))
    return running_pods


async def _is_cleared(pod: Server) -> bool:
    """Return whether a pod has no message; delete those that it has."""
    async with httpx.AsyncClient(base_url=pod.url, headers=ADMIN) as client:
        left = (await client.get("/messages?limit=1000")).json()["messages"]
        await asyncio.gather(*(client.delete(f"/messages/{message['id']}") for message in left))
    return not left


class Complaints:
    """What browsers complained of in a test: console errors and warnings, errors of scripts,
    violations of the CSP.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.expected: set[str] = set()

    def listen(self, context: BrowserContext) -> None:
        context.on("console", self._hear_console)
        context.on("weberror", self._hear_error)

    def _hear_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.heard.append(message.text)

    def _hear_error(self, error: WebError) -> None:
        self.heard.append(f"page error: {error.error}")

    def unexpected(self) -> list[str]:
        return [
            text
            for text in self.heard
            if not any(re.search(pattern, text) for pattern in self.expected)
        ]


@pytest.fixture
async def complaints() -> AsyncIterator[Complaints]:
    """Fails the test if a browser complained of something that the test did not expect."""
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


@pytest.fixture
async def visit(
    browser: Browser,
    complaints: Complaints,
    serve: Serve,  # asked for so that pages are closed before their servers
) -> AsyncIterator[Visit]:
    """Opens the page as a visitor of their own: `await visit(server.url, width=320)`.

    `expects` are patterns of what the browser may complain of, for this test's sake. With
    `clock` the test can let the page's timers run ahead. `before` is a script that runs before
    the page's own.
    """
    contexts: list[BrowserContext] = []

    async def open_page(
        url: str,
        *,
        expects: tuple[str, ...] = (),
        until: Literal["live", "reconnecting", "offline"] | None = "live",
        script: bool = True,
        before: str = "",
        clock: bool = False,
        width: int = 1280,
        height: int = 800,
        locale: str = "en-GB",
        theme: Literal["light", "dark"] = "light",
        routes: Mapping[str, Handler] | None = None,
    ) -> Page:
        complaints.expected.update(expects)
        context = await browser.new_context(
            java_script_enabled=script,
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
            locale=locale,
            color_scheme=theme,
        )
        contexts.append(context)
        complaints.listen(context)
        if script:
            await context.add_init_script(_REPORT_VIOLATIONS + before)
        if clock:
            await context.clock.install()
        for pattern, handler in (routes or {}).items():
            await context.route(pattern, handler)
        page = await context.new_page()
        await page.goto(url)
        if script and until:
            await expect(page.locator("html")).to_have_attribute("data-state", until)
        return page

    yield open_page
    for context in contexts:
        await context.close()
