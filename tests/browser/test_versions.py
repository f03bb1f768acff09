"""A rolling update: the page from a pod of one version, its files from pods of another."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from tests.browser.conftest import Handler, Visit
from tests.browser.visitor import is_state, post, shows
from tests.conftest import Serve
from tests.support.servers import Server
from tests.support.waiting import eventually

_REPOSITORY = Path(__file__).parents[2]
OtherVersion = Callable[[dict[str, tuple[str, str]]], Server]


@pytest.fixture
async def other_version(tmp_path: Path, redis_url: str) -> AsyncIterator[OtherVersion]:
    """Start a pod whose static files are changed: by name, a pattern and its replacement."""
    servers: list[Server] = []

    def start(changes: dict[str, tuple[str, str]]) -> Server:
        root = tmp_path / "other"
        shutil.copytree(_REPOSITORY / "src", root / "src")
        for name in ("static", "templates"):
            shutil.copytree(_REPOSITORY / name, root / name)
        for name, (pattern, replacement) in changes.items():
            file = root / "static" / name
            changed, count = re.subn(pattern, replacement, file.read_text())
            assert count
            file.write_text(changed)
        server = Server(tmp_path / "other.log", redis_url, "pod-b", PYTHONPATH=str(root / "src"))
        servers.append(server.start())
        return server

    yield start
    for server in servers:
        server.stop()


def served_by(choose: Callable[[str], Server]) -> Handler:
    """A load balancer: the pod that answers a request, by its address."""

    async def handle(route: Route) -> None:
        path = route.request.url.partition("://")[2].partition("/")[2]
        answer = await route.fetch(url=f"{choose(path).url}/{path}")
        await route.fulfill(response=answer)

    return handle


async def test_files_of_two_versions(
    serve: Serve, visit: Visit, other_version: OtherVersion
) -> None:
    """Request by request from another pod: the page has its style and is live."""
    old = await serve("pod-a")
    new = await other_version(
        {"guestbook.css": ("A guestbook:", "A new guestbook:"), "js/pods.js": ("hash", "sum")}
    ).ready()
    for start in (0, 1):
        turns = itertools.cycle([old, new][start:] + [old, new][:start])

        def next_pod(_path: str, turns: Iterator[Server] = turns) -> Server:
            return next(turns)

        routes = {"**/static/**": served_by(next_pod)}
        page = await visit(old.url, routes=routes)
        await is_state(page, "live", "Live")
        family = "(e) => getComputedStyle(e).fontFamily"
        assert "ui-serif" in await page.locator("h1").evaluate(family)
        (message,) = await post(new, f"number {start}")
        await expect(page.locator(f'[id="{message["id"]}"]')).to_be_visible()
        # The modules of the author's own messages may still be loading.
        await page.context.unroute_all(behavior="wait")


async def test_modules_that_do_not_fit_together(
    serve: Serve, visit: Visit, other_version: OtherVersion
) -> None:
    """Without fitting modules the page works without its script, then with it when they fit."""
    old = await serve("pod-a")
    new = await other_version(
        {"js/browser.js": ("onClick", "onPress"), "js/form.js": ("onClick", "onPress")}
    ).ready()
    asked = []

    def choose(path: str) -> Server:
        asked.append(path)
        return old if path.endswith("browser.js") else new

    routes = {"**/static/**": served_by(choose)}
    page = await visit(old.url, routes=routes, until=None, clock=True)

    async def was_asked_twice() -> bool:
        await page.clock.run_for(500)
        return len([path for path in asked if path.endswith("page.js")]) >= 2

    # The first time all were loaded and did not fit; the second time, below another hash.
    await eventually(was_asked_twice)
    await expect(page.locator("html")).not_to_have_attribute("data-state", "live")
    await page.context.unroute_all(behavior="wait")
    await page.clock.run_for(8_000)
    await is_state(page, "live", "Live")
    await post(new, "after the update")
    await shows(page, "after the update")
