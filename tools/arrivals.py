"""Measure what arriving messages cost a tab of Chromium: processor time and layout shift.

.venv/bin/python -m tools.arrivals
"""

from __future__ import annotations

import asyncio
import time

import httpx
from playwright.async_api import Browser, Page, expect

from guestbook.storage.keys import EVENTS
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tools.sample import MESSAGES, open_browser, serve

ENTRIES = 1000
SECONDS = 15

_SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const { value } of list.getEntries()) window.shift += value;
}).observe({ type: "layout-shift" });
"""


async def fill(valkey: Valkey) -> None:
    """Store messages as people write them, one a minute until now."""
    now = int(time.time() * 1000)
    async with valkey.client() as redis:
        for number in range(ENTRIES):
            author, text = MESSAGES[number % len(MESSAGES)]
            await redis.xadd(
                EVENTS,
                {"text": text, "author": author or "", "pod": "pod-a"},
                id=f"{now - 60_000 * (ENTRIES - number)}-0",
            )


async def open_page(browser: Browser, url: str) -> Page:
    """Return a live page that shows all entries, from the newest."""
    page = await browser.new_page(viewport={"width": 1280, "height": 800})
    await page.add_init_script(_SHIFTS)
    await page.goto(url)
    await expect(page.locator("html")).to_have_attribute("data-state", "live")
    entries = page.locator("#messages > li")
    while (count := await entries.count()) < ENTRIES:
        await page.evaluate("document.getElementById('older').click()")
        await expect(entries).not_to_have_count(count)
    await page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    await asyncio.sleep(3)
    return page


async def arrive(server: Server, rate: float, seconds: float) -> None:
    """Post at a steady rate."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        start = time.monotonic()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0, start + number / rate - time.monotonic()))
            (await client.post("/messages", json={"text": f"Arrival {number}"})).raise_for_status()


async def processor_time(browser: Browser) -> float:
    """Return the seconds that the browser's processes have used."""
    session = await browser.new_browser_cdp_session()
    processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    return sum(float(process["cpuTime"]) for process in processes)


async def main() -> None:
    """Print one line for each rate."""
    async with serve() as (server, valkey), open_browser() as browser:
        await fill(valkey)
        page = await open_page(browser, server.url)
        for rate in (0.5, 2, 10):
            await page.evaluate("window.shift = 0")
            before = await processor_time(browser)
            await arrive(server, rate, SECONDS)
            used = (await processor_time(browser) - before) / SECONDS
            shift = await page.evaluate("window.shift")
            print(f"{rate:4} messages/s: {used:4.0%} of a core, layout shift {shift:.3f}")


if __name__ == "__main__":
    asyncio.run(main())
