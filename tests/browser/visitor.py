"""A visitor's actions on the page, and checks of what it shows."""

from __future__ import annotations

from typing import Any

import httpx
from playwright.async_api import Locator, Page, expect

from tests.support.servers import Server
from tests.support.waiting import allowed

# Chromium's report of a failed or refused request.
LOST = r"net::ERR_"
UNPROCESSABLE = "status of 422"
TOO_MANY = "status of 429"
UNAVAILABLE = "status of 503"

AWAY = "Storage is unreachable: new messages wait and are sent later"


async def post(pod: Server, *texts: str, author: str | None = None) -> list[dict[str, Any]]:
    """Posts messages one after the other through the API of a pod."""
    async with httpx.AsyncClient(base_url=pod.url) as client:
        answers = [
            await client.post("/messages", json={"text": text, "author": author}) for text in texts
        ]
    assert {answer.status_code for answer in answers} == {201}
    return [answer.json() for answer in answers]


async def listed(pod: Server) -> list[dict[str, Any]]:
    """Return all messages from the API, newest first."""
    async with httpx.AsyncClient(base_url=pod.url) as client:
        messages: list[dict[str, Any]] = (await client.get("/messages?limit=1000")).json()[
            "messages"
        ]
        return messages


async def sign(page: Page, text: str) -> None:
    """Writes a message into the form and sends it."""
    await page.fill("#text", text)
    await page.click("button")


async def scroll_to(target: Locator) -> None:
    """Scrolls, and waits until the page knows: the event comes with the next frame."""
    await target.scroll_into_view_if_needed()
    await target.page.evaluate("new Promise(requestAnimationFrame)")


async def shows(page: Page, *texts: str, within: float = 10) -> None:
    """Waits until the page lists exactly these texts, from top to bottom."""
    found = page.locator("#messages > li.entry .text")
    if texts:
        await expect(found).to_have_text(list(texts), timeout=allowed(within) * 1000)
    else:
        await expect(found).to_have_count(0, timeout=allowed(within) * 1000)


async def shows_only(page: Page, pod: Server, *texts: str) -> None:
    """As `shows`, and that nothing comes late: not even before a message posted after it all."""
    await shows(page, *texts)
    # One that is shown as waiting is stored later, and moves then.
    await expect(page.locator(".pending")).to_have_count(0)
    await post(pod, "the last")
    await shows(page, "the last", *texts)


async def is_state(page: Page, state: str, words: str) -> None:
    """Waits until the page is in this state and shows it where the visitor sees it."""
    await expect(page.locator("html")).to_have_attribute("data-state", state)
    await expect(page.locator("#state")).to_have_text(words)
    await expect(page.locator("#state")).to_be_in_viewport()


async def time_passes_until(page: Page, state: str) -> None:
    """Lets the page's clock run ahead, and what is asked for meanwhile arrive."""
    for _ in range(300):
        if await page.locator("html").get_attribute("data-state") == state:
            return
        await page.clock.run_for(500)
    raise AssertionError(f"the page is not {state} after 150 s")


async def fits(page: Page) -> None:
    """Nothing is wider than the window."""
    content, window = await page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert content <= window


async def form_is(page: Page, state: str) -> None:
    await expect(page.locator("form")).to_have_attribute("data-state", state)
