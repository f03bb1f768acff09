"""Accessibility: WCAG 2.2 AA as far as axe checks it, by keyboard, in both themes."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.browser.axe import is_accessible
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import (
    LOST,
    UNPROCESSABLE,
    form_is,
    post,
    scroll_to,
    shows,
    sign,
)


async def test_every_state(pods: Pods, visit: Visit) -> None:
    """Empty, refused, scrolled down, offline with a message on its way."""
    page = await visit(pods.a.url, expects=(LOST, UNPROCESSABLE))
    await is_accessible(page)
    await post(pods.a, *(f"number {number} https://example.org/" for number in range(12)))
    await post(pods.b, "مرحبا بكم", "W" * 300, author="Ada")
    await expect(page.locator("#messages > li.entry")).to_have_count(14)
    await page.locator("summary").first.click()
    await sign(page, " ")
    await form_is(page, "refused")
    await is_accessible(page)
    await scroll_to(page.locator("#messages > li.entry").last)
    await post(pods.a, "new")
    await expect(page.locator("#unseen")).to_be_visible()
    await is_accessible(page)
    await page.context.set_offline(True)
    await expect(page.locator("html")).to_have_attribute("data-state", "offline")
    await sign(page, "waits")
    await form_is(page, "waiting")
    await is_accessible(page)


async def test_other_pages(pods: Pods, visit: Visit) -> None:
    """The wall, older messages, a message alone, an error, and the answer to a refused form."""
    posted = await post(pods.a, *map(str, range(12)), author="Ada")
    page = await visit(f"{pods.a.url}/wall", expects=(LOST, UNPROCESSABLE))
    await expect(page.locator("#pods .tiles i").first).to_be_visible()
    await is_accessible(page)
    for key in ("?", " ", "ArrowDown"):
        await page.keyboard.press(key)
    await is_accessible(page)
    await page.context.set_offline(True)
    await expect(page.locator("html")).to_have_attribute("data-state", "offline")
    await is_accessible(page)
    await page.context.set_offline(False)
    await page.goto(f"{pods.a.url}/?before={posted[5]['id']}")
    await expect(page.locator("#pods li").first).to_be_visible()
    await is_accessible(page)
    await page.goto(f"{pods.a.url}/messages/{posted[5]['id']}")
    await shows(page, "5")
    await is_accessible(page)
    await page.goto(f"{pods.a.url}/?before=rubbish")
    await expect(page.locator("main")).to_contain_text("There is a mistake in this address.")
    await is_accessible(page)
    await page.goto(pods.a.url)
    # As without a script: the handler that sends it otherwise is not asked.
    async with page.expect_navigation():
        await page.evaluate("document.forms[0].submit()")
    await expect(page.locator("#text-problem")).not_to_be_empty()
    await is_accessible(page)


async def test_keyboard_only(pods: Pods, visit: Visit) -> None:
    """Everything can be reached and done with keys, in the order in which it stands."""
    page = await visit(pods.a.url)
    keys = page.keyboard

    async def tab_to(selector: str) -> None:
        for _ in range(8):
            await keys.press("Tab")
            if await page.locator(f"{selector}:focus").count():
                break
        await expect(page.locator(selector)).to_be_focused()
        # The focus has to be visible.
        outline = "(e) => { const s = getComputedStyle(e); return s.outlineStyle + s.boxShadow; }"
        assert await page.locator(selector).evaluate(outline) != "nonenone"

    await tab_to("#text")
    await keys.type("by keys")
    await tab_to("#author")
    await keys.type("Ada")
    await tab_to("form button")
    await keys.press("Enter")
    await form_is(page, "sent")
    await shows(page, "by keys")
    await tab_to("#pods summary")
    was_open = await page.locator("#pods[open]").count()
    await keys.press("Enter")
    await expect(page.locator("#pods[open]")).to_have_count(1 - was_open)
    await tab_to('a[href="/wall"]')
    await keys.press("Enter")
    await expect(page).to_have_url(f"{pods.a.url}/wall")


async def test_screen_reader_is_informed_but_not_flooded(pods: Pods, visit: Visit) -> None:
    """One message is read out; of many only the number."""
    page = await visit(pods.a.url, clock=True)
    news = page.locator("#news")
    await expect(news).to_have_attribute("role", "status")
    await expect(page.locator("[aria-live] #messages, [role=log]")).to_have_count(0)
    await post(pods.b, "hello", author="Ada")
    await shows(page, "hello")
    await page.clock.run_for(10_000)
    await expect(news).to_have_text("Ada writes: hello")
    await news.evaluate(
        """(news) => {
          window.announced = [];
          const note = () => news.textContent && window.announced.push(news.textContent);
          const all = { childList: true, characterData: true, subtree: true };
          new MutationObserver(note).observe(news, all);
        }"""
    )
    await post(pods.b, *map(str, range(20)))
    await expect(page.locator("#messages > li")).to_have_count(21)
    await page.clock.run_for(10_000)
    # The first of them may have been announced before the last came.
    announced = await page.evaluate("window.announced")
    assert 1 <= len(announced) <= 3, announced
    numbers = [re.fullmatch(r"(\d+) new messages|.* writes: .*", text) for text in announced]
    assert sum(int(found[1] or 1) for found in numbers if found) == 20, announced


async def test_themes_follow_the_system(pods: Pods, visit: Visit) -> None:
    """Dark on light or light on dark, as the visitor's system has it."""
    brightness = """() => {
      const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g);
      return Math.max(r, g, b);
    }"""
    found = [
        await (await visit(pods.a.url, theme=theme, script=False)).evaluate(brightness)
        for theme in ("light", "dark")
    ]
    light, dark = found
    assert light > 200
    assert dark < 60
