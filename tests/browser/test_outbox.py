"""What a visitor sends: kept in the browser until the guestbook has it, and there exactly once."""

from __future__ import annotations

import asyncio
from typing import Any

from playwright.async_api import Route, expect

from tests.browser.conftest import Pods, Visit
from tests.browser.test_page import (
    LOST,
    UNAVAILABLE,
    form_is,
    is_state,
    listed,
    post,
    shows,
    shows_only,
    sign,
)
from tests.conftest import Serve
from tests.processes import Valkey


async def test_message_shows_at_once(pods: Pods, visit: Visit) -> None:
    """Before the guestbook has answered it stands there, marked as on its way; then as stored."""
    page = await visit(pods.a.url)
    may_pass = asyncio.Event()

    async def delay(route: Route) -> None:
        await may_pass.wait()
        await route.continue_()

    await page.route("**/messages", delay)
    await sign(page, "quick")
    entry = page.locator("#messages > li.entry")
    await expect(entry).to_have_class("entry pending")
    await expect(entry.locator(".why")).to_have_text("On its way…")
    await expect(page.locator("#text")).to_have_value("")
    await post(pods.b, "another's", "quick")
    await shows(page, "quick", "another's")
    may_pass.set()
    await expect(page.locator(".pending")).to_have_count(0)
    await shows_only(page, pods.b, "quick", "quick", "another's")


async def test_outage_and_reload(valkey: Valkey, serve: Serve, visit: Visit) -> None:
    """What was written while Redis was away survives a reload and goes out by itself, once."""
    server = await serve(redis=valkey.address)
    page = await visit(server.url, expects=(UNAVAILABLE,))
    valkey.kill()
    await is_state(page, "away", "Redis is away: you can read, and what you write waits")
    await page.fill("#author", "Ada")
    await sign(page, "patience")
    await form_is(page, "waiting")
    await page.reload()
    await expect(page.locator(".pending .text")).to_have_text("patience")
    await expect(page.locator(".pending .author")).to_have_text("Ada")
    valkey.start()
    await expect(page.locator(".pending")).to_have_count(0, timeout=30_000)
    (message,) = await listed(server)
    assert (message["text"], message["author"]) == ("patience", "Ada")
    await shows_only(page, server, "patience")


async def test_lost_answer_and_reload(pods: Pods, visit: Visit) -> None:
    """Stored, but the answer was lost, and then the page reloaded: its key makes it one message."""
    page = await visit(pods.a.url, expects=(LOST,))
    keys: list[Any] = []

    async def lose_answer(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        await route.fetch()
        await route.abort()

    await page.route("**/messages", lose_answer, times=1)
    await sign(page, "once")
    await form_is(page, "waiting")
    async with page.expect_request("**/messages") as repeated:
        await page.reload()
    keys.append((await repeated.value).headers["idempotency-key"])
    await expect(page.locator(".pending")).to_have_count(0)
    assert keys[0] == keys[1]
    await shows_only(page, pods.b, "once")
    assert [message["text"] for message in await listed(pods.a)] == ["the last", "once"]
    assert await page.evaluate("Object.keys(localStorage).filter((k) => /outbox/.test(k))") == []


async def test_what_waits_can_be_discarded(pods: Pods, visit: Visit) -> None:
    """A visitor may change their mind while it has not gone out."""
    page = await visit(pods.a.url, clock=True, expects=(LOST,))
    await page.context.set_offline(True)
    await sign(page, "on second thought")
    await form_is(page, "waiting")
    await page.click(".pending .discard")
    await shows(page)
    await page.context.set_offline(False)
    await is_state(page, "live", "Live")
    await page.clock.run_for(60_000)
    await shows_only(page, pods.b)
