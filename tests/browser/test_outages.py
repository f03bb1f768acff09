"""Pods, Redis and networks that fail: the page comes back, and has missed nothing."""

from __future__ import annotations

import signal

from playwright.async_api import Page, expect
from redis.asyncio import Redis

from guestbook.storage.keys import EVENTS
from tests.browser.axe import is_accessible
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import AWAY, LOST, UNAVAILABLE, is_state, post, shows, shows_only
from tests.conftest import Serve
from tests.support.proxy import Proxy
from tests.support.valkey import Valkey


async def test_pod_is_killed(pods: Pods, visit: Visit) -> None:
    """When its pod dies, a page reconnects with its cursor and has missed nothing."""
    cursor = (await post(pods.a, "before"))[0]["id"]
    page = await visit(pods.a.url, clock=True, expects=(LOST,))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    pods.a.signal(signal.SIGKILL)
    await is_state(page, "reconnecting", "Reconnecting…")
    pods.a.wait()
    await post(pods.b, "one", "two", "three")
    await pods.a.start().ready()
    await page.clock.run_for(10_000)
    await is_state(page, "live", "Live")
    await shows_only(page, pods.b, "three", "two", "one", "before")
    # Others may follow: the clock that ran ahead makes the stream look silent.
    first = next(url for url in requests if "/events" in url)
    assert first == f"{pods.a.url}/events?after={cursor}"


async def test_pod_drains(pods: Pods, visit: Visit) -> None:
    """When its pod stops, a page reconnects likewise; another pod's page shows both changes."""
    await post(pods.a, "before")
    page = await visit(pods.a.url, clock=True, expects=(LOST, UNAVAILABLE))
    witness = (await visit(pods.b.url)).locator("#watching")
    await expect(witness).to_contain_text("2 pods")
    pods.a.signal(signal.SIGTERM)
    await is_state(page, "reconnecting", "Reconnecting…")
    await expect(page.locator("#watching")).to_be_hidden()
    await expect(witness).to_have_text("1 online, 1 pod")
    pods.a.wait()
    await post(pods.b, "one", "two", "three")
    await pods.a.start().ready()
    await page.clock.run_for(10_000)
    await is_state(page, "live", "Live")
    await expect(witness).to_contain_text("2 pods")
    await shows_only(page, pods.b, "three", "two", "one", "before")


async def _state_lasts(page: Page, is_live: bool) -> float:
    """Return for how many seconds, by the page's clock, it is live, or is not."""
    before = await page.evaluate("Date.now()")
    seconds = 0.0
    while (await page.locator("html").get_attribute("data-state") == "live") is is_live:
        await page.clock.run_for(500)
        seconds = (await page.evaluate("Date.now()") - before) / 1000
        assert seconds < 90
    return seconds


async def test_frozen_pod_is_left(pods: Pods, visit: Visit) -> None:
    """A pod that hangs is left within 15 s, though its connection is open."""
    page = await visit(pods.a.url, clock=True, expects=(LOST,))
    pods.a.freeze()
    try:
        assert 7 < await _state_lasts(page, True) < 15
        await is_state(page, "reconnecting", "Reconnecting…")
        await post(pods.b, "meanwhile")
    finally:
        pods.a.thaw()
    await page.clock.run_for(2_000)
    await is_state(page, "live", "Live")
    await shows_only(page, pods.b, "meanwhile")


async def test_frozen_pod_behind_a_load_balancer(pods: Pods, visit: Visit) -> None:
    """Another pod knows whether it is alive: a page does not leave a pod that is only quiet."""
    async with Proxy(pods.a.port) as balancer:
        page = await visit(f"http://{balancer.address}", clock=True, expects=(LOST, UNAVAILABLE))
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        balancer.target = pods.b.port
        async with page.expect_response("**/healthz?pod=pod-a") as answer:
            await page.clock.run_for(10_000)
        assert (await answer.value).status == 200
        await page.clock.run_for(6_000)
        await is_state(page, "live", "Live")
        assert not any("/events" in url for url in requests)

        pods.a.freeze()
        try:
            assert await _state_lasts(page, True) < 15
            await post(pods.b, "meanwhile")
            # Connections that were kept alive lead to the frozen pod still.
            await _state_lasts(page, False)
            await shows(page, "meanwhile")
            await expect(page.locator("#pod")).to_have_text("pod-b")
        finally:
            pods.a.thaw()
        await shows_only(page, pods.a, "meanwhile")


async def test_network_is_lost(pods: Pods, visit: Visit) -> None:
    """Offline is shown wherever the visitor has scrolled; back online the page catches up."""
    before = [str(number) for number in range(20)]
    await post(pods.a, *before)
    page = await visit(pods.a.url, width=320, height=568, expects=(LOST,))
    await page.locator("#messages > li.entry").last.scroll_into_view_if_needed()
    await expect(page.locator("#state")).not_to_be_in_viewport()
    await page.context.set_offline(True)
    await is_state(page, "offline", "Offline")
    await post(pods.b, "meanwhile")
    await page.context.set_offline(False)
    await expect(page.locator("html")).to_have_attribute("data-state", "live")
    await shows_only(page, pods.b, "meanwhile", *reversed(before))


async def test_list_was_trimmed_meanwhile(serve: Serve, visit: Visit) -> None:
    """A page that was away for longer than messages are kept reads the list again."""
    server = await serve(GUESTBOOK_MAX_MESSAGES="5")
    await post(server, "a", "b", "c")
    page = await visit(server.url, expects=(LOST,))
    await page.context.set_offline(True)
    await is_state(page, "offline", "Offline")
    await post(server, *"0123456789")
    await page.context.set_offline(False)
    await shows_only(page, server, *"98765")
    await is_state(page, "live", "Live")


async def test_redis_comes_after_page(valkey: Valkey, serve: Serve, visit: Visit) -> None:
    """A page that was opened before its pod could read the messages fills by itself."""
    async with Redis(port=valkey.port) as redis:
        for text in ("one", "two"):
            await redis.xadd(EVENTS, {"text": text, "pod": "another"})
    valkey.kill()
    server = await serve(redis=valkey.address, is_ready=False)
    page = await visit(server.url, until=None, expects=(UNAVAILABLE,))
    await is_state(page, "away", AWAY)
    await expect(page.locator("main")).to_have_attribute("data-cursor", "")
    await expect(page.locator(".unread")).to_be_visible()
    valkey.start()
    await expect(page.locator(".unread")).to_be_hidden()
    await shows_only(page, server, "two", "one")


async def test_pod_is_full(serve: Serve, visit: Visit) -> None:
    """If its stream is refused, a page keeps trying, and is live when there is room."""
    server = await serve(GUESTBOOK_MAX_STREAMS="1")
    first = await visit(server.url)
    second = await visit(server.url, until="reconnecting", expects=(UNAVAILABLE,))
    await is_state(second, "reconnecting", "Reconnecting…")
    await is_accessible(second)
    await post(server, "missed")
    await first.close()
    await is_state(second, "live", "Live")
    await shows_only(second, server, "missed")
