"""Many tabs of one browser, sleep, and streams that do not get through."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.axe import is_accessible
from tests.browser.conftest import Handler, Pods, Visit
from tests.browser.visitor import LOST, is_state, post, shows, shows_only, time_passes_until
from tests.support.sse import EventStream
from tests.support.waiting import eventually

LEADER = "main[data-leader]"


async def leading(tabs: list[Page]) -> list[Page]:
    """The tabs that hold a stream."""
    return [tab for tab in tabs if await tab.locator(LEADER).count()]


async def test_eight_tabs_share_one_stream(pods: Pods, visit: Visit) -> None:
    """However many tabs show the guestbook, the server holds one stream; any may be closed.

    A browser opens six connections to a host: with a stream each, the seventh tab would hang.
    """
    first = await visit(pods.a.url)
    tabs = [first, *[await first.context.new_page() for _ in range(7)]]
    await asyncio.gather(*(tab.goto(pods.a.url) for tab in tabs[1:]))
    await asyncio.gather(*(is_state(tab, "live", "Live") for tab in tabs))
    assert await leading(tabs) == [first]

    async def is_one_stream() -> bool:
        async with EventStream(pods.b.url) as stream:
            return bool((await stream.until("pods")).data["streams"] == 2)

    await eventually(is_one_stream)
    await post(pods.b, "one")
    await asyncio.gather(*(shows(tab, "one") for tab in tabs))

    for expected in (["two", "one"], ["three", "two", "one"]):
        (leader,) = await leading(tabs)
        await leader.close()
        tabs.remove(leader)
        await post(pods.b, expected[0])
        await asyncio.gather(*(shows(tab, *expected) for tab in tabs))
        assert len(await leading(tabs)) == 1
    (follower, *_) = [tab for tab in tabs if tab not in await leading(tabs)]
    await follower.close()
    tabs.remove(follower)
    await post(pods.b, "four")
    await asyncio.gather(*(shows(tab, "four", "three", "two", "one") for tab in tabs))


FREEZE = "document.dispatchEvent(new Event('freeze'))"
RESUME = "document.dispatchEvent(new Event('resume'))"
LEAVE = "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
RETURN = "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"


@pytest.mark.parametrize(("sleep", "wake"), [(FREEZE, RESUME), (LEAVE, RETURN)])
async def test_sleeping_leader(pods: Pods, visit: Visit, sleep: str, wake: str) -> None:
    """A tab that is frozen, or left for another page, gives up the stream and gets no events.

    It has everything when it goes on. Here the events alone: without a window no tab is hidden,
    and only hidden ones can be frozen.
    """
    leader = await visit(pods.a.url)
    tab = await leader.context.new_page()
    await tab.goto(pods.a.url)
    await is_state(tab, "live", "Live")
    await leader.evaluate(sleep)
    await expect(tab.locator(LEADER)).to_have_count(1)
    await post(pods.b, "one")
    await shows(tab, "one")
    await shows(leader)
    await leader.evaluate(wake)
    await post(pods.b, "two")
    await asyncio.gather(*(shows(each, "two", "one") for each in (leader, tab)))
    assert await leading([leader, tab]) == [tab]


async def test_leader_that_no_longer_runs(pods: Pods, visit: Visit) -> None:
    """A visible tab that hears nothing takes the stream from it."""
    leader = await visit(pods.a.url)
    tab = await leader.context.new_page()
    await tab.clock.install()
    await tab.goto(pods.a.url)
    await is_state(tab, "live", "Live")
    await leader.evaluate("BroadcastChannel.prototype.postMessage = () => {}")
    await post(pods.b, "one")
    await tab.clock.run_for(25_000)
    await shows(tab, "one")
    await expect(leader.locator(LEADER)).to_have_count(0)
    await post(pods.b, "two")
    await asyncio.gather(*(shows(each, "two", "one") for each in (leader, tab)))
    assert await leading([leader, tab]) == [tab]


async def test_hour_of_sleep(pods: Pods, visit: Visit) -> None:
    """After an hour in which neither timers nor the network did anything the page has it all."""
    await post(pods.b, "before")
    page = await visit(pods.a.url, clock=True, expects=(LOST,))
    pods.a.freeze()
    try:
        await post(pods.b, "one", "two")
        await page.clock.fast_forward("01:00:00")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(page.locator("time").last).to_have_text("1 hr ago")
    finally:
        pods.a.thaw()
    await page.clock.run_for(15_000)
    await is_state(page, "live", "Live")
    await shows_only(page, pods.b, "two", "one", "before")
    await page.clock.run_for(30_000)
    # In this test only the page's clock went on: Redis's shows that the hour never was.
    await expect(page.locator("time").last).to_have_text("now")


async def refuse(route: Route) -> None:
    await route.abort()


async def stay_mute(route: Route) -> None:
    """Hold back an answer until its end, as buffering proxies do."""


@pytest.mark.parametrize("block", [refuse, stay_mute])
async def test_blocked_streams(pods: Pods, visit: Visit, block: Handler) -> None:
    """While streams are blocked, the page polls every few seconds."""
    page = await visit(
        pods.a.url, until=None, clock=True, expects=(LOST,), routes={"**/events*": block}
    )
    await time_passes_until(page, "polling")
    await is_state(page, "polling", "Live, updated every few seconds")
    await is_accessible(page)
    await post(pods.b, "asked for")
    await page.clock.run_for(5_000)
    await shows(page, "asked for")
    await page.context.unroute_all(behavior="ignoreErrors")
    await time_passes_until(page, "live")
    await is_state(page, "live", "Live")
    await shows_only(page, pods.b, "asked for")
