"""The pods on the page: which run, which serves this visitor, what happened to them."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest
from playwright.async_api import expect

from guestbook import __version__
from guestbook.web.pages.renderer import hue
from tests.browser.axe import is_accessible
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import LOST, is_state, post, shows, shows_only
from tests.conftest import Serve
from tests.support.proxy import Proxy
from tests.support.sse import EventStream
from tests.support.valkey import redis_client
from tests.support.waiting import allowed, eventually


async def test_panel_shows_every_pod(pods: Pods, visit: Visit) -> None:
    """Name, colour, version, age, watchers; which one serves; which accepted each message."""
    page = await visit(pods.b.url)
    items = page.locator("#pods li[data-pod]")
    await expect(items.locator(".name")).to_have_text(["pod-b", "pod-a"])
    for item, name in zip(await items.all(), ("pod-b", "pod-a"), strict=True):
        await expect(item).to_be_visible()
        await expect(item).to_have_attribute("data-hue", hue(name))
        await expect(item.locator(".facts")).to_have_text(
            re.compile(rf"^v{re.escape(__version__)} · \d+ (sec|min)s? · \d+ online$")
        )
    await expect(page.locator("#pods .here:visible")).to_have_count(1)
    await expect(items.first.locator(".here")).to_be_visible()
    await post(pods.a, "by a")
    await post(pods.b, "by b")
    stored = page.locator("#messages > li .pod")
    await expect(stored).to_have_text(["pod-b", "pod-a"])
    hues = [await one.get_attribute("data-hue") for one in await stored.all()]
    assert hues == [hue("pod-b"), hue("pod-a")]
    await page.reload()
    assert hues == [await one.get_attribute("data-hue") for one in await stored.all()]


async def test_pod_is_killed_and_replaced(pods: Pods, visit: Visit) -> None:
    """Killed, it leaves the panel of every page within 3 s, and its replacement appears."""
    page = await visit(pods.a.url)
    killed = page.locator('#pods li[data-pod="pod-b"]')
    await expect(killed).to_be_visible()
    pods.b.signal(signal.SIGKILL)
    started = time.monotonic()
    await expect(killed).to_have_count(0)
    assert time.monotonic() - started < allowed(3)
    await expect(page.locator("#happenings li").first).to_contain_text("pod-b is gone")
    pods.b.wait()
    await pods.b.start().ready()
    await expect(killed).to_be_visible()
    await expect(page.locator("#happenings li").first).to_contain_text("pod-b joined")


async def test_stream_moves_to_another_pod(pods: Pods, visit: Visit) -> None:
    """Behind a load balancer the page goes on at another pod and shows that nothing was missed."""
    async with Proxy(pods.a.port) as balancer:
        page = await visit(f"http://{balancer.address}", expects=(LOST,))
        await expect(page.locator("#pod")).to_have_text("pod-a")
        await post(pods.a, "before")
        await shows(page, "before")
        balancer.target = pods.b.port
        await balancer.cut()
        await post(pods.a, "meanwhile")
        await expect(page.locator("#pod")).to_have_text("pod-b")
        await expect(page.locator("#happenings li").first).to_have_text(
            re.compile(r"Moved from pod-a to pod-b in [\d.]+ s, nothing missed$")
        )
        await expect(page.locator('#pods li[data-pod="pod-b"] .here')).to_be_visible()
        await is_state(page, "live", "Live")
        await shows_only(page, pods.b, "meanwhile", "before")


async def test_watching(pods: Pods, visit: Visit) -> None:
    """The page shows which pod serves it, and how many watch."""

    async def nobody_else_watches() -> bool:
        async with EventStream(pods.a.url) as stream:
            return bool((await stream.until("pods")).data["streams"] == 1)

    await eventually(nobody_else_watches)
    await visit(pods.a.url)
    page = await visit(pods.a.url)
    await expect(page.locator("#pod")).to_have_text("pod-a")
    await expect(page.locator("#watching")).to_have_text("2 online, 2 pods")


async def announce(redis_url: str, old: int, new: int, *, draining: int = 0) -> None:
    """Let Redis have the heartbeats of other pods for the next half minute."""
    records = {
        f"guestbook-{version}-{number}": {
            "name": f"guestbook-{version}-{number}",
            "version": version,
            "started_at": f"2026-01-0{version}T00:00:00Z",
            "streams": number,
            "state": "draining" if version == "1" and number < draining else "ready",
        }
        for version, count in (("1", old), ("2", new))
        for number in range(count)
    }
    async with redis_client(redis_url) as redis:
        later = (await redis.time())[0] * 1000 + 30_000
        known = [key for key in await redis.hkeys("{guestbook}:pods") if key[:10] == "guestbook-"]
        if known:
            await redis.hdel("{guestbook}:pods", *known)
        values = {process: f"{later} {json.dumps(record)}" for process, record in records.items()}
        await redis.hset("{guestbook}:pods", mapping=values)


async def test_many_pods_are_a_field(redis_url: str, serve: Serve, visit: Visit) -> None:
    """A tile each, by version; in words the serving one and the troubled; the rest on demand."""
    await announce(redis_url, 8, 18, draining=2)
    server = await serve("pod-a")
    page = await visit(server.url)
    versions = rf", 27 pods \(v1\s×\s8 → v2\s×\s18 → v{re.escape(__version__)}\s×\s1\)$"
    await expect(page.locator("#watching")).to_have_text(re.compile(versions))
    tiles = page.locator("#pods .tiles i")
    await expect(tiles).to_have_count(27)
    await expect(page.locator("#pods .tiles .serving")).to_have_count(1)
    await expect(page.locator("#pods .tiles .draining")).to_have_count(2)
    colours = await tiles.evaluate_all("(all) => all.map((i) => getComputedStyle(i).background)")
    assert len(set(colours)) == 27
    lines = page.locator("#pods li[data-pod]")
    await expect(lines.locator(".name")).to_have_text(["pod-a", "guestbook-1-0", "guestbook-1-1"])
    await is_accessible(page)
    await page.get_by_role("button", name="All 27 pods").click()
    await expect(lines).to_have_count(27)
    await expect(lines.locator(".name").first).to_have_text("pod-a")
    await is_accessible(page)
    await page.get_by_role("button", name="All 27 pods").click()
    await expect(lines).to_have_count(3)

    phone = await visit(server.url, width=390, height=844)
    await expect(phone.locator("#watching")).to_contain_text("27 pods")
    top = "(messages) => messages.getBoundingClientRect().top"
    assert await phone.locator("#messages").evaluate(top) < 844


async def test_rollout_is_watched_at_a_glance(redis_url: str, serve: Serve, visit: Visit) -> None:
    """Whatever happens stands above the pods, in view at 720 px, and scrolls in its own box."""
    await announce(redis_url, 12, 0)
    server = await serve("pod-a")
    page = await visit(server.url, height=720)
    wall = await visit(f"{server.url}/wall", height=720)
    for each in (page, wall):
        await expect(each.locator("#pods .tiles i")).to_have_count(13)
    await announce(redis_url, 0, 100 - 1)
    for each in (page, wall):
        await expect(each.locator("#pods .tiles i")).to_have_count(100)
    await expect(wall.locator("#pods .tiles i").last).to_be_in_viewport(ratio=1)
    happenings = page.locator("#happenings li")
    await expect(happenings).to_have_count(100)  # 111 happened
    await expect(happenings.first).to_have_text(re.compile(r"guestbook-2-\d+ joined, v2"))
    await expect(happenings.first).to_be_in_viewport(ratio=1)
    box = await page.locator("#happenings").bounding_box()
    assert box is not None
    assert box["height"] < 200
    assert await page.locator("#happenings").evaluate("(e) => e.scrollHeight > e.clientHeight")
    await expect(wall.locator("#happenings li:visible")).to_have_count(1)
    await expect(wall.locator("#happenings li").first).to_be_in_viewport(ratio=1)


async def test_picture(pods: Pods, visit: Visit) -> None:
    """Three lines show streams, messages a second and pods; a folded panel loads none of it."""
    page = await visit(pods.a.url, clock=True)
    captions = page.locator("#pods .picture figcaption")
    await expect(captions).to_have_text([re.compile("online"), "0 messages/s", "2 pods"])
    await post(pods.a, *map(str, range(10)))
    await expect(page.locator("#messages > li")).to_have_count(10)
    await page.clock.run_for(5_000)
    await expect(captions.nth(1)).not_to_have_text("0 messages/s")
    points = await page.locator("#pods polyline").evaluate_all(
        "(lines) => lines.map((line) => line.points.numberOfItems)"
    )
    assert all(number >= 2 for number in points)
    phone = await visit(pods.a.url, width=390)
    await expect(phone.locator("#watching")).to_contain_text("2 pods")
    assert not await phone.evaluate(
        "performance.getEntriesByType('resource').some(({ name }) => name.includes('/panel'))"
    )


@pytest.mark.parametrize("path", ["/", "/wall"])
async def test_guests_see_no_pods(serve: Serve, visit: Visit, path: str) -> None:
    """The page is live, shows how many are online, and has no word of pods and versions."""
    server = await serve("pod-xyz", GUESTBOOK_AUDIENCE="guests", GUESTBOOK_LAB="true")
    await post(server, "before")
    page = await visit(f"{server.url}{path}")
    await expect(page.locator("#watching")).to_have_text("1 online")
    await post(server, "after")
    await shows(page, "after", "before")
    await expect(page.locator("#pods, #happenings, .pod, .lab, dialog")).to_have_count(0)
    served = await (await page.request.get(page.url)).text()
    unwanted = re.compile(rf"(?i)pods\b(?!\.js)|pod-xyz|redis|v{re.escape(__version__)}")
    for html in (await page.locator("body").inner_text(), served):
        assert not unwanted.search(html)
