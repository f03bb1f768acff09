"""The moderators' page, and what authors see of moderation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser.axe import is_accessible
from tests.browser.conftest import Visit
from tests.browser.visitor import LOST, fits, form_is, listed, shows, sign
from tests.conftest import Serve
from tests.support.servers import Server

TOKEN = "jeton-é"
ADMIN = {b"Authorization": b"Bearer " + TOKEN.encode()}
REFUSED = r"status of (40[134]|410)"


@pytest.fixture
async def server(serve: Serve) -> Server:
    """A guestbook in which messages wait for approval."""
    return await serve(
        GUESTBOOK_ADMIN_TOKEN=TOKEN, GUESTBOOK_MODERATION="before", GUESTBOOK_DRAIN_SECONDS="0.2"
    )


@pytest.fixture
async def api(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, headers=ADMIN) as client:
        yield client


async def hold(api: httpx.AsyncClient, *texts: str) -> None:
    for text in texts:
        assert (await api.post("/messages", json={"text": text})).status_code == 202


async def enter(page: Page, token: str = TOKEN) -> None:
    await page.fill("#admin-token", token)
    await expect(page.locator("#sign-in button")).to_be_enabled()
    await page.press("#admin-token", "Enter")


async def waits(page: Page, *texts: str) -> None:
    """The page shows these, the oldest first, and which is selected."""
    await expect(page.locator("#held .text")).to_have_text(list(texts))
    await expect(page.locator("#held [aria-current]")).to_have_count(1 if texts else 0)
    await expect(page.locator("#count")).to_have_text(str(len(texts)) if texts else "")


async def held(api: httpx.AsyncClient) -> list[str]:
    return [message["text"] for message in (await api.get("/held")).json()["messages"]]


async def test_decide_by_click_and_key(
    server: Server, api: httpx.AsyncClient, visit: Visit
) -> None:
    """Approve, refuse, undo; the other moderator sees it; nothing is public before."""
    await hold(api, "one", "two", "three")
    page = await visit(f"{server.url}/moderate", clock=True)
    other = await visit(f"{server.url}/moderate", width=390, height=844)
    for each in (page, other):
        await enter(each)
        await waits(each, "one", "two", "three")
    await page.locator("#held .decide [data-do=approve]").first.click()
    await waits(page, "two", "three")
    await page.clock.run_for(300)
    await page.keyboard.press("r")
    await waits(page, "three")
    await expect(page.locator("#notice [role=status]")).to_contain_text("Refused: two")
    await expect(page.locator("#notice .next")).to_have_text("Next, Anonymous: three")
    await page.keyboard.press("z")
    await waits(page, "two", "three")
    await expect(page.locator("#held [aria-current] .text")).to_have_text("two")
    assert await listed(server) == []
    await page.clock.run_for(5_000)
    await waits(other, "two", "three")
    await expect(other.locator("#notice")).to_contain_text("Another moderator was faster")
    assert [message["text"] for message in await listed(server)] == ["one"]
    # On a phone the buttons are at the bottom, under the thumb.
    button = other.locator("#bar [data-do=refuse]")
    box = await button.bounding_box()
    assert box is not None
    assert box["height"] >= 56
    assert box["y"] > 844 / 2
    await asyncio.sleep(0.7)  # what has just moved by itself is not decided about
    await button.click()
    await waits(other, "three")
    await other.goto("about:blank")  # the delay ends with the page
    await waits(page, "three")
    assert await held(api) == ["three"]
    await page.get_by_role("button", name="Published").click()
    await shows(page, "one")
    await page.locator("#messages .decide [data-do=delete]").click()
    await page.clock.run_for(6_000)
    await shows(page)
    assert await listed(server) == []


async def test_sign_in(server: Server, api: httpx.AsyncClient, visit: Visit) -> None:
    """A wrong or expired token is said in words; the right one is in no address and in no log."""
    await hold(api, "one")
    page = await visit(f"{server.url}/moderate", expects=(REFUSED, LOST))
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    await expect(page.locator(".views")).to_be_hidden()
    await is_accessible(page)
    await enter(page, "nonsense")
    await expect(page.locator("#sign-in-problem")).to_have_text("This token is not the right one.")
    await enter(page)
    await waits(page, "one")
    await page.reload()
    await waits(page, "one")
    await page.locator("#held .decide [data-do=approve]").click()
    await waits(page)
    # As if the token had been changed meanwhile.
    await page.evaluate("sessionStorage['guestbook.token'] = 'old'")
    await expect(page.locator("#sign-in-problem")).to_contain_text("sign in again")
    await enter(page)
    await waits(page)
    await expect(page.locator("#messages .text")).to_have_text(["one"])
    assert not [address for address in addresses if "jeton" in address]
    assert "jeton" not in server.log.read_text()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator(".views")).to_be_hidden()
    assert await page.evaluate("sessionStorage['guestbook.token']") == ""


async def test_network_and_pod_go_away(
    server: Server, api: httpx.AsyncClient, visit: Visit
) -> None:
    """Decisions wait, are sent when it is back, and the queue is live again."""
    await hold(api, "one", "two")
    page = await visit(f"{server.url}/moderate", expects=(LOST, "status of 503", "status of 0"))
    await enter(page)
    await waits(page, "one", "two")
    server.stop()
    await page.locator("#held .decide [data-do=approve]").first.click()
    await expect(page.locator("#trouble")).to_contain_text("1 decision will be sent afterwards.")
    await is_accessible(page)
    server.start()
    await server.ready()
    await expect(page.locator("#trouble")).to_be_empty()
    await expect(page.locator("#messages .text")).to_have_text(["one"])
    await hold(api, "three")
    await waits(page, "two", "three")


async def test_long_queue(server: Server, api: httpx.AsyncClient, visit: Visit) -> None:
    """Only the oldest of many messages are elements; the rest is counted, and moves up."""
    await asyncio.gather(*(hold(api, *(f"{n}" for n in range(30))) for _ in range(2)))
    page = await visit(f"{server.url}/moderate", width=320)
    await enter(page)
    await expect(page.locator("#held .entry")).to_have_count(50)
    await expect(page.locator("#more")).to_have_text("and 10 more")
    await page.locator("#bar [data-do=approve]").click()
    await expect(page.locator("#more")).to_have_text("and 9 more")
    await expect(page.locator("#held .entry")).to_have_count(50)
    await fits(page)
    await is_accessible(page)


async def test_switches_and_bans(server: Server, api: httpx.AsyncClient, visit: Visit) -> None:
    """Closing is on every page at once; a ban is listed and can be lifted."""
    await hold(api, "spam")
    page = await visit(f"{server.url}/moderate", clock=True, expects=(REFUSED,))
    visitor = await visit(server.url, expects=(REFUSED,))
    await enter(page)
    await waits(page, "spam")
    await visitor.fill("#text", "half written")
    await page.fill("#closing-words", "We are at lunch.")
    await page.get_by_role("button", name="Close the guestbook").click()
    await expect(visitor.locator("#closed")).to_have_text("We are at lunch.")
    await expect(visitor.locator("form button")).to_be_disabled()
    await expect(visitor.locator("#text")).to_have_value("half written")
    await is_accessible(visitor)
    again = await visit(server.url)
    await expect(again.locator("#fields")).to_be_hidden()
    await is_accessible(again)
    await page.get_by_role("button", name="Open the guestbook").click()
    await expect(visitor.locator("#closed")).to_be_empty()
    await expect(again.locator("#fields")).to_be_visible()

    await page.locator("#held .decide [data-do=ban]").click()
    await page.clock.run_for(6_000)
    await page.locator("#banned summary").click()
    await expect(page.locator("#banned li")).to_have_count(1)
    await visitor.click("form button")
    await expect(visitor.locator("#form-problem")).to_contain_text("not accepted")
    await page.get_by_role("button", name="Lift").click()
    await expect(page.locator("#banned ul")).to_have_text("No network is banned.")
    await page.get_by_label("Messages wait for approval").click()
    await expect(page.get_by_label("Messages wait for approval")).not_to_be_checked()
    assert (await api.get("/control")).json()["moderation"] == "off"
    await is_accessible(page)


async def test_author_waits(server: Server, api: httpx.AsyncClient, visit: Visit) -> None:
    """Its author sees it marked; approved it appears once, refused the page tells so, and why.

    One that was withdrawn, though the page has not learnt it, is gone.
    """
    page = await visit(server.url, expects=(REFUSED,))
    other = await visit(server.url)
    for text in ("good", "bad", "elsewhere", "regretted"):
        await sign(page, text)
        await form_is(page, "held")
    await shows(page, "regretted", "elsewhere", "bad", "good")
    await expect(page.locator(".why").first).to_have_text("Waiting to be approved")
    await page.reload()
    await shows(page, "regretted", "elsewhere", "bad", "good")
    await is_accessible(page)
    await page.locator(".pending .discard").first.click()
    await shows(page, "elsewhere", "bad", "good")
    assert await held(api) == ["good", "bad", "elsewhere"]
    good, bad, elsewhere = (await api.get("/held")).json()["messages"]
    key = await page.locator(".pending").first.get_attribute("data-key")
    async with httpx.AsyncClient(
        base_url=server.url, headers={"Idempotency-Key": key or ""}
    ) as own:
        assert (await own.delete(f"/messages/{elsewhere['id']}")).status_code == 204
    assert (await api.delete(f"/held/{bad['id']}")).status_code == 204
    assert (await api.post(f"/held/{good['id']}/approve")).status_code == 200
    await shows(other, "good")
    # The message that comes is the occasion to ask what has become of all.
    await expect(page.locator(".pending")).to_have_count(1)
    await expect(page.locator(".pending .why")).to_have_text("This message was not approved.")
    await shows(page, "bad", "good")
    amend = page.locator("#messages li:not(.pending) .amend")
    await expect(page.locator(".retract")).to_be_visible()
    await expect(amend).to_be_hidden()
    await api.patch("/control", json={"moderation": "off"})
    await amend.click()
    await page.locator(".entry textarea").fill("better")
    await api.patch("/control", json={"moderation": "before"})
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".entry .problem")).to_contain_text("approved as it is")
    await page.keyboard.press("Escape")
    await page.locator(".pending .discard").click()
    await shows(page, "good")
    await page.locator(".retract").click()
    await page.locator(".retract").click()
    await shows(other)
