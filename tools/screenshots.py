"""Take the pictures of the page in docs/screenshots, from real servers.

.venv/bin/python -m tools.screenshots
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from playwright.async_api import Browser, Page, expect

from guestbook.storage.keys import EVENTS
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tools.sample import MESSAGES, open_browser

PICTURES = Path(__file__).parents[1] / "docs" / "screenshots"
OLD, NEW = "guestbook-6d9f7c5b8-", "guestbook-84c6b4d9f-"
PODS = (f"{OLD}x2kqp", f"{OLD}9wzlt")
COLOURS = 256
MOST_BYTES = 150_000

# The guestbook as a release, whatever commit this is.
_RELEASE = """
import runpy, sys, guestbook
guestbook.__version__ = sys.argv[1]
sys.argv[:] = sys.argv[4:]
runpy.run_module("guestbook", run_name="__main__")
"""


class Stage:
    """Valkey, pods, and the balancer in front of them."""

    def __init__(self, folder: Path, browser: Browser, balancer: Proxy, valkey: Valkey) -> None:
        self.folder = folder
        self.browser = browser
        self.balancer = balancer
        self.valkey = valkey
        self.pods: list[Server] = []

    async def start(self, name: str, version: str = "0.1.0") -> Server:
        pod = Server(self.folder / name, self.valkey.address, name)
        self.pods.append(pod)
        return await pod.start(under=(sys.executable, "-c", _RELEASE, version)).ready()

    def stop(self) -> None:
        for pod in self.pods:
            pod.stop()

    async def open(
        self,
        path: str = "/",
        *,
        width: int = 1280,
        height: int = 850,
        theme: Literal["light", "dark"] = "light",
        locale: str = "en-GB",
    ) -> Page:
        """Return a page that is live and shows all pods."""
        page = await self.browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            locale=locale,
            reduced_motion="reduce",
            # The address on the wall.
            extra_http_headers={
                "X-Forwarded-Host": "guestbook.example.org",
                "X-Forwarded-Proto": "https",
            },
        )
        await page.goto(f"http://{self.balancer.address}{path}")
        await expect(page.locator("html")).to_have_attribute("data-state", "live")
        await expect(page.locator("#watching")).to_contain_text(f"{len(self.pods)} pods")
        return page


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Run two pods behind a balancer, with messages of an hour."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = Valkey(folder / "valkey").start()
        stack.callback(valkey.kill)
        async with valkey.client() as redis:
            now = int(time.time() * 1000)
            for number, (author, text) in enumerate(MESSAGES):
                minutes = 5 * (len(MESSAGES) - number) - 4
                fields: dict[str, Any] = {"text": text, "pod": PODS[number % 2]}
                fields |= {"author": author} if author else {}
                await redis.xadd(EVENTS, fields, id=f"{now - minutes * 60_000}-0")
        browser = await stack.enter_async_context(open_browser())
        balancer = await stack.enter_async_context(Proxy(0))
        made = Stage(folder, browser, balancer, valkey)
        stack.callback(made.stop)
        for name in PODS:
            balancer.target = (await made.start(name)).port
        yield made


async def save(page: Page, name: str) -> None:
    """Save a picture without animations, with few colours."""
    path = PICTURES / f"{name}.png"
    taken = await page.screenshot(animations="disabled", caret="hide")
    with Image.open(io.BytesIO(taken)) as image:
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(PICTURES.parents[1])}: {size / 1000:.0f} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"That is more than {MOST_BYTES / 1000:.0f} kB.")


async def still(on: Stage) -> None:
    """Take the still pictures: themes, sizes, languages, the wall."""
    for name, how in {
        "light": {},
        "dark": {"theme": "dark"},
        "phone": {"width": 390, "height": 844},
        "phone-dark": {"width": 320, "height": 640, "theme": "dark"},
        "french": {"locale": "fr-FR"},
        "wall": {"path": "/wall", "width": 1280, "height": 800},
    }.items():
        page = await on.open(**how)  # type: ignore[arg-type]
        await save(page, name)
        await page.close()


async def outage(on: Stage) -> None:
    """Take the picture of an outage: the page stays readable and keeps new messages."""
    page = await on.open()
    on.valkey.kill()
    await expect(page.locator("html")).to_have_attribute("data-state", "away")
    await page.fill("#author", "Margaret")
    await page.fill("#text", "Redis is unplugged, and I can still write this.")
    await page.click("form button")
    await expect(page.locator("form")).to_have_attribute("data-state", "waiting")
    await save(page, "outage")
    on.valkey.start()
    for pod in on.pods:
        await pod.ready()
    await expect(page.locator(".pending")).to_have_count(0, timeout=30_000)
    await page.close()


async def rolling_update(on: Stage) -> None:
    """Take the picture of a rolling update just after the visitor's stream has moved."""
    page = await on.open(height=1030)
    serving = on.pods[-1]
    updated = await on.start(f"{NEW}m8d4r", "0.2.0")
    await expect(page.locator("#pods li[data-pod]")).to_have_count(3)
    on.balancer.target = updated.port
    serving.signal(signal.SIGTERM)
    await expect(page.locator("#pod")).to_have_text(updated.name)
    serving.wait()
    await expect(page.locator("#pods li[data-pod]")).to_have_count(2)
    await on.start(f"{NEW}t7c2v", "0.2.0")
    await expect(page.locator("#pods li[data-pod]")).to_have_count(3)
    await page.fill("#author", "Grace")
    await page.fill("#text", "The pod that served me is gone. I have noticed by the colour alone.")
    await page.click("form button")
    await expect(page.locator("form")).to_have_attribute("data-state", "sent")
    await save(page, "rolling-update")
    await page.close()


async def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    async with stage() as on:
        expect.set_options(timeout=20_000)
        await still(on)
        await outage(on)
        await rolling_update(on)


if __name__ == "__main__":
    asyncio.run(main())
