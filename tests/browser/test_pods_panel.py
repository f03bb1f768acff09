"""The pods on the page: which run, which serves this visitor, what happened to them."""

from __future__ import annotations

import re
import signal
import time

from playwright.async_api import expect

from guestbook import __version__
from guestbook.web.pages.renderer import hue
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import LOST, is_state, post, shows, shows_only
from tests.support.proxy import Proxy
from tests.support.sse import EventStream
from tests.support.waiting import eventually


async def test_panel_shows_every_pod(pods: Pods, visit: Visit) -> None:
    """Name, colour, version, age, watchers; which one serves; which accepted each message."""
    page = await visit(pods.b.url)
    items = page.locator("#pods li[data-pod]")
    await expect(items.locator(".name")).to_have_text(["pod-a", "pod-b"])
    for item, name in zip(await items.all(), ("pod-a", "pod-b"), strict=True):
        await expect(item).to_be_visible()
        await expect(item).to_have_attribute("data-hue", str(hue(name)))
        await expect(item.locator(".facts")).to_have_text(
            re.compile(rf"^v{re.escape(__version__)} · \d+ (sec|min)s? · \d+ online$")
        )
    await expect(page.locator("#pods .here:visible")).to_have_count(1)
    await expect(items.nth(1).locator(".here")).to_be_visible()
    await post(pods.a, "by a")
    await post(pods.b, "by b")
    stored = page.locator("#messages > li .pod")
    await expect(stored).to_have_text(["pod-b", "pod-a"])
    hues = [await one.get_attribute("data-hue") for one in await stored.all()]
    assert hues == [str(hue("pod-b")), str(hue("pod-a"))]
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
    # What the heartbeat bounds, and the time in which a busy machine notices.
    assert time.monotonic() - started < 3 + 2
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
