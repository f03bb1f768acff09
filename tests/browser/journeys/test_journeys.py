"""Visitors' journeys in Firefox and WebKit. The tests in the folder above use Chromium."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from tests.browser.conftest import Pods
from tests.browser.journeys.firefox import Firefox
from tests.browser.journeys.tab import Engine, Tab, Visitor
from tests.browser.journeys.webkit import WebKit
from tests.browser.visitor import AWAY, listed, post
from tests.conftest import Serve
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

Visit = Callable[..., Awaitable[Tab]]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[Firefox, WebKit])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    engine: Engine = request.param()
    yield engine
    await engine.close()


@pytest.fixture
async def visit(engine: Engine, serve: Serve) -> AsyncIterator[Visit]:
    """Open a page as a visitor: `await visit(server.url, dark=True)`."""

    async def open_page(
        url: str,
        *,
        language: str = "en-GB",
        dark: bool = False,
        width: int = 1280,
        runs_scripts: bool = True,
        stores: bool = True,
    ) -> Tab:
        tab = await engine.visitor(Visitor(language, dark, width, runs_scripts, stores))
        await tab.open(url)
        return tab

    yield open_page
    assert await engine.leave() == []


async def test_message_reaches_a_second_browser(pods: Pods, visit: Visit) -> None:
    """A message sent in one browser is shown in both, on other pods, as text."""
    one, two = await visit(pods.a.url), await visit(pods.b.url)
    await asyncio.gather(*(tab.is_state("live", "Live") for tab in (one, two)))
    await one.type("#author", "Zoé")
    await one.sign("<b>bold</b> & well")
    await asyncio.gather(*(tab.shows("<b>bold</b> & well") for tab in (one, two)))
    assert await two.texts("#messages .author") == ["Zoé"]
    await one.until("document.querySelector('form').dataset.state === 'sent'")
    assert await one.run("document.querySelector('#text').value") == ""


_SIDES = """(() => {
  const [text] = document.querySelectorAll(".text"), range = new Range();
  range.selectNodeContents(text);
  const [outer, inner] = [text, range].map((each) => each.getBoundingClientRect());
  return [inner.left - outer.left > 99, outer.right - inner.right < 2];
})()"""


async def test_wall_is_one_screen(pods: Pods, visit: Visit) -> None:
    """A key looks further down, and the page stays; texts from right to left stand right."""
    await post(pods.a, *map(str, range(30)), "مرحباً")
    tab = await visit(f"{pods.a.url}/wall")
    await tab.is_state("live", "Live")
    assert await tab.run(_SIDES) == [True, True]
    await tab.until("document.querySelector('main').style.getPropertyValue('--type') !== ''")
    await tab.run("dispatchEvent(new KeyboardEvent('keydown', { key: 'PageDown' }))")
    await tab.until("document.querySelector('.pages').scrollTop > 0")
    assert await tab.run("[document.documentElement.scrollHeight - innerHeight, scrollY]") == [0, 0]


async def test_half_written_text_outlives_a_link(pods: Pods, visit: Visit) -> None:
    """Opened again in the same tab the page has what was typed."""
    tab = await visit(pods.a.url)
    await tab.is_state("live", "Live")
    await tab.type("#text", "half a thought")
    await tab.open(f"{pods.a.url}/wall")
    await tab.open(pods.a.url)
    await tab.is_state("live", "Live")
    assert await tab.run("document.querySelector('#text').value") == "half a thought"


async def test_outbox_outlives_outage_and_reload(
    valkey: Valkey, serve: Serve, visit: Visit
) -> None:
    """A message sent while Redis is away survives a reload and is sent once when it is back."""
    server = await serve(redis=valkey.address)
    await post(server, "before")
    tab = await visit(server.url)
    await tab.is_state("live", "Live")
    valkey.kill()
    await tab.is_state("away", AWAY)
    await tab.sign("kept")
    await tab.shows("kept", "before")
    await tab.reload()
    await tab.is_state("away", AWAY)
    await tab.shows("kept", "before")
    valkey.start()
    await tab.is_state("live", "Live")
    await tab.until("!document.querySelector('.pending')")
    await tab.shows("kept", "before")
    assert [message["text"] for message in await listed(server)] == ["kept", "before"]


async def test_pod_is_killed(pods: Pods, visit: Visit) -> None:
    """The page reconnects to the next pod and has missed nothing."""
    await post(pods.a, "before")
    tab = await visit(pods.a.url)
    await tab.is_state("live", "Live")
    pods.a.signal(signal.SIGKILL)
    await tab.is_state("reconnecting", "Reconnecting…")
    pods.a.wait()
    await post(pods.b, "one", "two")
    await pods.a.start().ready()
    await tab.is_state("live", "Live")
    await tab.shows("two", "one", "before")


async def test_eight_tabs(pods: Pods, visit: Visit) -> None:
    """They share one stream, and go on when the tab that has it is closed."""
    first = await visit(pods.a.url)
    await first.is_state("live", "Live")
    tabs = [first, *[await first.another() for _ in range(7)]]
    for tab in tabs[1:]:
        await tab.open(pods.a.url)
    for tab in tabs:
        await tab.is_state("live", "Live")

    async def is_one_stream() -> bool:
        async with EventStream(pods.b.url) as stream:
            return bool((await stream.until("pods")).data["streams"] == 2)

    await eventually(is_one_stream)
    await post(pods.b, "one")
    for tab in tabs:
        await tab.shows("one")
    await first.close()
    await post(pods.b, "two")
    for tab in tabs[1:]:
        await tab.shows("two", "one")


async def test_no_script(pods: Pods, visit: Visit) -> None:
    """The form works; what is refused is explained and stays in it."""
    await post(pods.b, "before")
    tab = await visit(pods.a.url, runs_scripts=False)
    await tab.shows("before")
    assert await tab.run("document.documentElement.dataset.state ?? null") is None
    await tab.sign("without a script")
    await tab.shows("without a script", "before")
    await tab.type("#author", "x" * 61)
    await tab.sign("too long a name")
    await tab.until("document.querySelector('#author-problem')?.textContent.trim()")
    assert await tab.run("document.querySelector('#text').value") == "too long a name"


_IS_NARROW = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


async def test_french_dark_and_narrow(pods: Pods, visit: Visit) -> None:
    """The page speaks the visitor's language, is dark, and fits 320 px with all that it shows."""
    tab = await visit(pods.a.url, language="fr-FR", dark=True, width=320)
    await tab.is_state("live", "En direct")
    assert await tab.run("[document.documentElement.lang, innerWidth]") == ["fr", 320]
    await tab.sign("bonjour " * 20 + "x" * 300)
    await tab.until("document.querySelector('form').dataset.state === 'sent'")
    assert await tab.texts("#messages .author") == ["Anonyme"]
    assert await tab.texts("#messages time") == ["maintenant"]
    assert await tab.run(_IS_NARROW)
    light = r"(color) => color.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0)"
    body = "getComputedStyle(document.body)"
    paper, ink = await tab.run(f"[{body}.backgroundColor, {body}.color].map({light})")
    assert paper < 200
    assert ink > 500


async def test_moderator(serve: Serve, visit: Visit) -> None:
    """Signs in on a phone, approves, refuses, undoes; the visitor sees what was approved."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN="jeton", GUESTBOOK_MODERATION="before")
    async with httpx.AsyncClient(base_url=server.url) as client:
        for text in ("good", "bad", "doubtful"):
            assert (await client.post("/messages", json={"text": text})).status_code == 202
    visitor = await visit(server.url)
    await visitor.is_state("live", "Live")
    desk = await visit(f"{server.url}/moderate", language="fr-FR", dark=True, width=320)
    await desk.until("!document.querySelector('#sign-in button').disabled")
    await desk.type("#admin-token", "jeton")
    await desk.until("document.querySelector('#admin-token').value === 'jeton'")
    await desk.click("#sign-in button")
    await desk.until("document.querySelector('main').dataset.signedIn === 'true'")

    async def decide(selector: str, words: str, *left: str) -> None:
        clicked = await desk.run("Date.now()")
        await desk.click(selector)
        await desk.until(f"document.querySelector('#notice').textContent.includes('{words}')")
        assert await desk.texts("#held .text") == list(left)
        # A double click counts once.
        await desk.until(f"Date.now() > {clicked} + 500")

    await desk.until("document.querySelectorAll('#held .entry').length === 3")
    await decide("#bar [data-do=approve]", "Approuvé\u00a0: good", "bad", "doubtful")
    await decide("#bar [data-do=refuse]", "Refusé\u00a0: bad", "doubtful")
    await decide("#undo", "Décision annulée\u00a0: bad", "bad", "doubtful")
    assert await desk.run(_IS_NARROW)
    await visitor.shows("good")


async def test_storage_is_refused(pods: Pods, visit: Visit) -> None:
    """The page is live, posts and reads all the same."""
    tab = await visit(pods.a.url, stores=False)
    await tab.is_state("live", "Live")
    await tab.sign("mine")
    await tab.until("document.querySelector('form').dataset.state === 'sent'")
    await post(pods.b, "another's")
    await tab.shows("another's", "mine")
