"""Fixtures: visitors of the page in a real Chromium, and what the browser reports."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import httpx
import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Page,
    Route,
    ViewportSize,
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
    # The tabs of a visitor share one process: to start one takes as long as to load the page.
    "--renderer-process-limit=1",
)
_VIEWPORT = ViewportSize(width=1280, height=800)
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
    """The complaints of browsers in a test: console errors and warnings, errors of scripts,
    violations of the CSP.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.expected: set[str] = set()

    def listen(self, context: BrowserContext) -> None:
        context.on("console", self._hear_console)
        context.on("weberror", self._hear_error)

    def ignore(self, context: BrowserContext) -> None:
        context.remove_listener("console", self._hear_console)
        context.remove_listener("weberror", self._hear_error)

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
    """Fail the test if a browser reported something that the test did not expect."""
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


class Profile:
    """A browser context that one visitor after the other uses.

    An empty tab stays in it, and with that the process in which the next visitor's page runs.
    """

    def __init__(self, context: BrowserContext, empty: Page, session: CDPSession) -> None:
        self.context = context
        self._empty = empty
        self._session = session

    @classmethod
    async def create(cls, browser: Browser, **options: Any) -> Self:
        context = await browser.new_context(**options)
        await context.add_init_script(_REPORT_VIOLATIONS)
        empty = await context.new_page()
        await empty.route("**", lambda route: route.fulfill(body=""))
        # The same site as the servers; otherwise the pages would have a process of their own.
        await empty.goto("http://127.0.0.1/")
        return cls(context, empty, await context.new_cdp_session(empty))

    async def clear(self) -> None:
        """Close the visitor's tabs, and forget everything that they have stored."""
        for page in self.context.pages:
            if page is not self._empty:
                await page.close()
        await self.context.set_offline(False)
        await self.context.clear_cookies()
        await self._session.send("Network.clearBrowserCache")
        everything = {"origin": "*", "storageTypes": "all"}
        await self._session.send("Storage.clearDataForOrigin", everything)


@pytest.fixture(scope="session")
def profiles() -> list[Profile]:
    """The profiles that no visitor uses."""
    return []


@pytest.fixture
async def visit(
    browser: Browser,
    profiles: list[Profile],
    complaints: Complaints,
    serve: Serve,  # asked for so that pages are closed before their servers
) -> AsyncIterator[Visit]:
    """Open the page as a new visitor: `await visit(server.url, width=320)`.

    `expects` are patterns of what the browser may complain of, for this test's sake. With
    `clock` the test can let the page's timers run ahead. `before` is a script that runs before
    the page's own, in this tab.
    """
    contexts: list[BrowserContext] = []
    used: list[Profile] = []

    async def open_page(
        url: str,
        *,
        expects: tuple[str, ...] = (),
        until: Literal["live", "reconnecting", "offline"] | None = "live",
        script: bool = True,
        before: str = "",
        clock: bool = False,
        width: int = _VIEWPORT["width"],
        height: int = _VIEWPORT["height"],
        locale: str = "en-GB",
        theme: Literal["light", "dark"] = "light",
        routes: Mapping[str, Handler] | None = None,
    ) -> Page:
        complaints.expected.update(expects)
        options: dict[str, Any] = {
            "viewport": _VIEWPORT,
            "reduced_motion": "reduce",
            "locale": locale,
            "color_scheme": theme,
        }
        if not script or clock or routes or (locale, theme) != ("en-GB", "light"):
            context = await browser.new_context(java_script_enabled=script, **options)
            contexts.append(context)
            if script:
                await context.add_init_script(_REPORT_VIOLATIONS)
        else:
            profile = profiles.pop() if profiles else await Profile.create(browser, **options)
            used.append(profile)
            context = profile.context
        complaints.listen(context)
        if clock:
            await context.clock.install()
        for pattern, handler in (routes or {}).items():
            await context.route(pattern, handler)
        page = await context.new_page()
        if (viewport := ViewportSize(width=width, height=height)) != _VIEWPORT:
            await page.set_viewport_size(viewport)
        if before:
            await page.add_init_script(before)
        await page.goto(url)
        if script and until:
            await expect(page.locator("html")).to_have_attribute("data-state", until)
        return page

    yield open_page
    for context in contexts:
        # A file may be on its way.
        await context.unroute_all(behavior="ignoreErrors")
        await context.close()
    for profile in used:
        await profile.clear()
        complaints.ignore(profile.context)
    profiles.extend(used)
