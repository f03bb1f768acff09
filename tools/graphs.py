"""Take docs/screenshots/prometheus.png: a rolling update on Prometheus's own graphs.

    .venv/bin/python -m tools.graphs

Needs Chromium and Prometheus, which `make test` installs on Debian.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import tempfile
from pathlib import Path
from urllib.parse import urlencode

import httpx

from tests.support.prometheus import Prometheus
from tests.support.servers import Server
from tests.support.sse import Visitor
from tests.support.valkey import Valkey
from tests.support.waiting import eventually
from tools.sample import open_browser
from tools.screenshots import save

VISITORS = 200
SECONDS = 90
GRAPHS = (
    "sum by (pod) (guestbook_streams)",
    "sum by (pod) (rate(guestbook_events_delivered_total[5s]))",
)


async def stay(pods: list[Server], seconds: float) -> None:
    """Open a stream within the first third, and reconnect to any pod when its pod stops."""
    await asyncio.sleep(random.uniform(0, seconds / 3))
    visitor = Visitor(None)
    while True:
        await visitor.visit(random.choice(pods).url)
        await asyncio.sleep(random.uniform(0.1, 1))


async def write(pods: list[Server]) -> None:
    """Post five messages a second."""
    async with httpx.AsyncClient(timeout=5, verify=False) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                await http.post(f"{random.choice(pods).url}/messages", json={"text": "Hello"})
            await asyncio.sleep(0.2)


async def roll(pods: list[Server], seconds: float) -> None:
    """Replace one pod after the other, as a rolling update does."""
    for pod in pods:
        await asyncio.sleep(seconds / 4)
        pod.signal(signal.SIGTERM)
        await pod.ended()
        await pod.start().ready()


async def photograph(prometheus: Prometheus) -> None:
    """Take the picture of Prometheus's page with these queries."""
    query = [
        (f"g{number}.{key}", value)
        for number, expression in enumerate(GRAPHS)
        for key, value in (("expr", expression), ("tab", "0"), ("range_input", f"{SECONDS}s"))
    ]
    async with open_browser() as browser:
        # High enough for the whole page: its head stays in place when scrolling.
        page = await browser.new_page(viewport={"width": 900, "height": 1630})
        await page.goto(f"{prometheus.url}/classic/graph?{urlencode(query)}")
        await page.wait_for_function(
            f"document.querySelectorAll('.rickshaw_graph svg, .graph svg').length >= {len(GRAPHS)}"
        )
        await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        await save(page, "prometheus")


async def main() -> None:
    """Run servers and visitors, replace the servers, take the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        valkey = Valkey(folder / "valkey").start()
        pods = [
            Server(folder / pod, f"redis://{valkey.address}", pod).start()
            for pod in ("guestbook-1", "guestbook-2")
        ]
        try:
            await asyncio.gather(*(pod.ready() for pod in pods))
            with Prometheus(folder, pods, {"groups": []}) as prometheus:
                await eventually(prometheus.is_up, within=30)
                crowd = [asyncio.create_task(stay(pods, SECONDS)) for _ in range(VISITORS)]
                crowd.append(asyncio.create_task(write(pods)))
                rolling = asyncio.create_task(roll(pods, SECONDS))
                await asyncio.sleep(SECONDS)
                await rolling
                await photograph(prometheus)
                for task in crowd:
                    task.cancel()
                await asyncio.gather(*crowd, return_exceptions=True)
        finally:
            for pod in pods:
                pod.stop()
            valkey.kill()


if __name__ == "__main__":
    asyncio.run(main())
