"""Hostile input in a real browser: nothing of it is executed, and the page keeps its shape."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.async_api import Page, expect

from guestbook.core.messages import AUTHOR_MAX, TEXT_MAX, InvalidMessageError, NewMessage, normalise
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import fits, post, shows
from tests.conftest import Serve
from tests.support import hostile

SHOWN = 50
_ENTRIES = """() => Object.fromEntries(
  [...document.querySelectorAll("#messages > li.entry[data-id]")].map((entry) => [
    entry.dataset.id,
    [entry.querySelector(".text").textContent, entry.querySelector(".author").textContent],
  ]))"""
_SHAPE = """() => ({
  hacked: typeof hacked,
  strangers: document.querySelectorAll(
    "#messages :not(li, p, a, bdi, time, span, details, summary)").length,
  places: [...document.querySelectorAll("#messages a")].map((a) => a.getAttribute("href").split("://")[0]),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  wide: [...document.querySelectorAll(".entry")].filter((entry) =>
    entry.getBoundingClientRect().right > innerWidth + 1).length,
})"""


async def _post(pods: Pods, drafts: Iterable[tuple[str, str | None]]) -> dict[str, list[str]]:
    """Post; return what the page has to show of each message, by its id."""
    slots = asyncio.Semaphore(8)
    shown = {}
    async with httpx.AsyncClient(base_url=pods.a.url, timeout=30) as client:

        async def post(text: str, author: str | None) -> None:
            async with slots:
                answer = await client.post("/messages", json={"text": text, "author": author})
            assert answer.status_code == 201, (text, answer.text)
            message = answer.json()
            assert message["text"] == normalise(text)
            shown[message["id"]] = [message["text"], message["author"]]

        await asyncio.gather(*(post(*draft) for draft in drafts))
    return shown


async def _assert_shows(page: Page, posted: dict[str, Any]) -> None:
    await expect(page.locator("#messages > li.entry")).to_have_count(len(posted))
    assert {id_: text for id_, (text, _) in (await page.evaluate(_ENTRIES)).items()} == {
        id_: re.sub(r"\n([^\S\n]*\n){2,}", "\n\n", text) for id_, (text, _) in posted.items()
    }
    for id_, (_, author) in (await page.evaluate(_ENTRIES)).items():
        if posted[id_][1] is not None:
            assert author == posted[id_][1]


async def _clear(pods: Pods, posted: Iterable[str]) -> None:
    async with httpx.AsyncClient(
        base_url=pods.a.url, headers={"Authorization": "Bearer browser-tests"}, timeout=30
    ) as client:
        await asyncio.gather(*(client.delete(f"/messages/{id_}") for id_ in posted))


def _valid(texts: Iterable[str]) -> list[tuple[str, str | None]]:
    drafts: list[tuple[str, str | None]] = []
    for text in texts:
        try:
            NewMessage.parse(text, text[:AUTHOR_MAX])
            drafts.append((text, text[:AUTHOR_MAX]))
        except InvalidMessageError:
            assert not normalise(text) or len(normalise(text)) > TEXT_MAX
    return drafts


async def test_nothing_hostile_is_executed_and_the_layout_holds(pods: Pods, visit: Visit) -> None:
    """Hostile messages are harmless in the loaded page and when they arrive, on any screen."""
    pages = {width: await visit(pods.b.url, width=width) for width in (320, 1280)}
    asked: list[str] = []
    for page in pages.values():
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append(f"dialogue: {dialog.message}"))
    drafts = _valid(hostile.TEXTS)
    for start in range(0, len(drafts), SHOWN):
        posted = await _post(pods, drafts[start : start + SHOWN])
        for way in ("arriving", "in the page"):
            for width, page in pages.items():
                if way == "in the page":
                    await page.reload()
                await _assert_shows(page, posted)
                shape = await page.evaluate(_SHAPE)
                places = set(shape.pop("places"))
                assert places <= {"http", "https"}, (way, width)
                assert shape == {
                    "hacked": "undefined",
                    "strangers": 0,
                    "overflow": 0,
                    "wide": 0,
                }, (
                    way,
                    width,
                )
        await _clear(pods, posted)
        for page in pages.values():
            await expect(page.locator("#messages > li.entry")).to_have_count(0)
    assert not [url for url in asked if not url.startswith(pods.b.url)]


async def test_refused_text_is_given_back_as_it_was(pods: Pods, visit: Visit) -> None:
    """Without script: the form that comes back has the visitor's text, as text."""
    page = await visit(pods.a.url, script=False, expects=("422",))
    payloads = (*hostile.HTML[:3], *hostile.HTML[24:28], *hostile.TEMPLATES[:2])
    for number, payload in enumerate(payloads):
        field = ("text", "author")[number % 2]
        typed = {"text": "fine", "author": "fine", field: (payload * 1100)[:1100]}
        await page.locator("#text").fill(typed["text"])
        await page.locator("#author").fill(typed["author"])
        await page.get_by_role("button").first.click()
        await expect(page.locator(f"#{field}-problem")).not_to_be_empty()
        for name, value in typed.items():
            await expect(page.locator(f"#{name}")).to_have_value(value)


pieces = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("<>&\"'`{}%\\/:.()@#\r\n\t\0\x1b\x85\u2028\u202e\u200d\ufe0f\ufeff\ufffe "),
    st.sampled_from(["http://", "https://", "www.", "<script>", "&amp;", "\U0001f1e6"]),
)
anything = st.lists(pieces, min_size=1, max_size=60).map("".join)


@pytest.mark.slow
@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(texts=st.lists(anything, min_size=SHOWN, max_size=SHOWN))
async def test_any_text_is_shown_as_it_is(pods: Pods, visit: Visit, texts: list[str]) -> None:
    """From the post to the DOM: the same characters, whether the text arrives or was there."""
    page = await visit(pods.b.url)
    posted = await _post(pods, _valid(texts))
    await _assert_shows(page, posted)
    await page.reload()
    await _assert_shows(page, posted)
    await _clear(pods, posted)
    await page.close()


HOSTILE = "</p></li></ol></main><h1>x</h1><script>hacked = 1</script>{{ 7 * 7 }}" + "W" * 400


@pytest.mark.parametrize("path", ["/", "/wall"])
async def test_what_an_operator_sets_is_data_too(serve: Serve, visit: Visit, path: str) -> None:
    """Title, welcome and pod names neither run nor break out of their places."""
    settings = {"GUESTBOOK_TITLE": HOSTILE, "GUESTBOOK_WELCOME": HOSTILE}
    server = await serve("<b>" + "x" * 60, **settings)
    page = await visit(server.url + path)
    await post(server, "x")
    await shows(page, "x")
    assert await page.title() == HOSTILE
    await expect(page.locator("h1")).to_have_text(HOSTILE)
    await expect(page.locator("#pods li .name")).to_have_text("<b>" + "x" * 60)
    assert await page.evaluate("typeof hacked") == "undefined"
    for width in (320, 900, 1280):
        await page.set_viewport_size({"width": width, "height": 568})
        await fits(page)
