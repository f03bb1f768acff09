"""Posts: kept in the browser until the guestbook has them, and stored exactly once."""

from __future__ import annotations

import asyncio
from typing import Any

from playwright.async_api import Route, expect

from tests.browser.axe import is_accessible
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import (
    AWAY,
    LOST,
    TOO_MANY,
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
from tests.support.valkey import Valkey
from tests.support.waiting import allowed


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
    await expect(entry.locator(".why")).to_have_text("Sending…")
    await expect(page.locator("#text")).to_have_value("")
    await post(pods.b, "another's", "quick")
    await shows(page, "quick", "another's")
    may_pass.set()
    await expect(page.locator(".pending")).to_have_count(0)
    await shows_only(page, pods.b, "quick", "quick", "another's")


async def test_outage_and_reload(valkey: Valkey, serve: Serve, visit: Visit) -> None:
    """A message written while Redis is away survives a reload and is sent automatically, once.

    The page shows the outage, and can be read; without a script the form keeps the text.
    """
    server = await serve(redis=valkey.address)
    await post(server, "before")
    page = await visit(server.url, clock=True, expects=(UNAVAILABLE,))
    plain = await visit(server.url, script=False)
    valkey.kill()
    await is_state(page, "away", AWAY)
    await page.fill("#author", "Ada")
    await asyncio.gather(sign(page, "kept"), sign(plain, "kept too"))
    await form_is(page, "waiting")
    await expect(page.locator("#note")).to_have_text(
        "The guestbook can't accept your message right now. "
        "Your message is saved in this browser and will be sent while this page is open."
    )
    await expect(plain.locator("#form-problem")).not_to_be_empty()
    await expect(plain.locator("#text")).to_have_value("kept too")
    await shows(plain, "before")

    await page.reload()
    await is_state(page, "away", AWAY)
    await is_accessible(page)
    await shows(page, "kept", "before")
    await expect(page.locator(".pending .author")).to_have_text("Ada")
    valkey.start()
    await server.ready()
    await page.clock.run_for(15_000)
    await is_state(page, "live", "Live")
    await expect(page.locator(".pending")).to_have_count(0)
    await plain.click("form button")
    await shows_only(page, server, "kept too", "kept", "before")
    assert [m["author"] for m in await listed(server)] == [None, None, "Ada", None]


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


async def test_text_that_waits_can_be_edited(pods: Pods, visit: Visit) -> None:
    """A message on its way can be taken back into the form, edited and sent again."""
    page = await visit(pods.a.url, clock=True, expects=(LOST,))
    await page.context.set_offline(True)
    await sign(page, "half a tho")
    await form_is(page, "waiting")
    await page.click(".pending .edit")
    await expect(page.locator("#text")).to_be_focused()
    await page.locator("#text").press_sequentially("ught")
    await page.context.set_offline(False)
    await is_state(page, "live", "Live")
    await page.clock.run_for(30_000)
    await shows(page)
    await page.click("form button")
    await shows_only(page, pods.a, "half a thought")


async def test_outbox_outlives_the_page(pods: Pods, visit: Visit) -> None:
    """Unsent messages are there after a reload, in every tab, and are sent once, in order."""
    page = await visit(pods.a.url, expects=(LOST, UNAVAILABLE))
    await page.route("**/messages", lambda route: route.fulfill(status=503))
    for text in ("one", "two"):
        await sign(page, text)
    await form_is(page, "waiting")
    await shows(page, "two", "one")
    other = await page.context.new_page()
    await other.route("**/messages", lambda route: route.fulfill(status=503))
    await other.goto(pods.a.url)
    await shows(other, "two", "one")
    await page.reload()
    await shows(page, "two", "one")
    await expect(page.locator(".pending")).to_have_count(2)
    for tab in (page, other):
        await tab.unroute_all()
    await expect(page.locator(".pending")).to_have_count(0)
    assert [message["text"] for message in await listed(pods.b)] == ["two", "one"]
    await shows_only(page, pods.b, "two", "one")
    await shows(other, "the last", "two", "one")


async def test_post_in_flight_is_sent_again_when_redis_is_back(
    valkey: Valkey, serve: Serve, visit: Visit
) -> None:
    """One that hangs since the outage holds up nothing: its key makes a second attempt harmless."""
    server = await serve(redis=valkey.address)
    page = await visit(server.url, expects=(LOST, UNAVAILABLE))
    valkey.kill()
    await is_state(page, "away", AWAY)
    hangs = asyncio.Event()

    async def hang(route: Route) -> None:
        hangs.set()

    await page.route("**/messages", hang, times=1)
    await sign(page, "kept")
    await hangs.wait()
    valkey.start()
    await is_state(page, "live", "Live")
    await expect(page.locator(".pending")).to_have_count(0, timeout=1000 * allowed(3))
    await shows_only(page, server, "kept")
    assert [message["text"] for message in await listed(server)] == ["the last", "kept"]


async def test_returning_stream_ends_the_wait(pods: Pods, visit: Visit) -> None:
    """Posts that failed in an outage are sent when the page is live again, even if they fail late.

    A rate limit is waited for all the same.
    """
    page = await visit(pods.a.url, expects=(LOST, UNAVAILABLE, TOO_MANY))
    may_fail = asyncio.Event()

    async def refuse(route: Route) -> None:
        await route.fulfill(status=503, headers={"Retry-After": "60"})

    async def refuse_late(route: Route) -> None:
        await may_fail.wait()
        await refuse(route)

    async def limit(route: Route) -> None:
        await route.fulfill(status=429, headers={"Retry-After": "60"})

    for number, handler in enumerate((refuse, refuse_late, limit)):
        may_fail.clear()
        await page.context.set_offline(True)
        await is_state(page, "offline", "Offline")
        await page.route("**/messages", handler, times=1)
        async with page.expect_request("**/messages"):
            await sign(page, str(number))
        if handler is not refuse_late:
            await form_is(page, "waiting")
        await page.context.set_offline(False)
        await is_state(page, "live", "Live")
        may_fail.set()
        if handler is not limit:
            await expect(page.locator(".pending")).to_have_count(0, timeout=1000 * allowed(3))
    await asyncio.sleep(1)
    await expect(page.locator(".pending .text")).to_have_text("2")
    assert [message["text"] for message in await listed(pods.b)] == ["1", "0"]
