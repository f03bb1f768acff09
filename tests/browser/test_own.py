"""The author's second thought: what this browser wrote can be edited and taken back for a while."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser.axe import is_accessible
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import (
    LOST,
    UNPROCESSABLE,
    fits,
    form_is,
    listed,
    post,
    shows,
    shows_only,
    sign,
)
from tests.conftest import Serve


async def test_edit(pods: Pods, visit: Visit) -> None:
    """New words in place, on every open page, marked; what is refused stays in the field."""
    page = await visit(pods.a.url, width=320, expects=(LOST, UNPROCESSABLE))
    other = await visit(pods.b.url)
    await sign(page, "half a tought https://example.org/")
    await form_is(page, "sent")
    await post(pods.b, "newer")
    entry = page.locator("#messages > li.entry").last
    await entry.locator(".amend").click()
    field = entry.locator("textarea")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("half a tought https://example.org/")
    await field.fill(" ")
    await field.press("Control+Enter")
    await expect(entry.locator(".problem")).to_have_text(
        "Your message is empty: write at least one character."
    )
    await is_accessible(page)
    await fits(page)
    await field.fill("a whole thought https://example.com/")
    await page.context.set_offline(True)
    await entry.get_by_role("button", name="Save").click()
    await expect(entry.locator(".problem")).to_have_text("The guestbook cannot be reached.")
    await page.context.set_offline(False)
    await entry.get_by_role("button", name="Save").click()
    await expect(entry.locator(".amend")).to_be_focused()
    for each in (page, other):
        await shows(each, "newer", "a whole thought https://example.com/")
        await expect(each.locator("#messages > li.entry").last.locator(".edited")).to_be_visible()
        await expect(each.locator("#messages > li.entry").first.locator(".edited")).to_be_hidden()
    await expect(other.locator(".own")).to_have_count(0)
    await page.reload()
    await shows(page, "newer", "a whole thought https://example.com/")
    await expect(page.locator(".edited:visible")).to_have_count(1)
    await expect(page.locator(".own")).to_have_count(1)
    await is_accessible(page)


async def test_edit_can_be_cancelled(pods: Pods, visit: Visit) -> None:
    page = await visit(pods.a.url)
    await sign(page, "as it was")
    await page.click(".amend")
    await page.locator(".entry textarea").fill("changed")
    await page.keyboard.press("Escape")
    await expect(page.locator(".amend")).to_be_focused()
    await shows_only(page, pods.b, "as it was")


async def test_take_back(pods: Pods, visit: Visit) -> None:
    """After a second click it is gone everywhere, and from the browser's storage."""
    page, other = await visit(pods.a.url), await visit(pods.b.url)
    await sign(page, "regretted")
    await shows(other, "regretted")
    await page.click(".retract")
    assert len(await listed(pods.a)) == 1
    await page.get_by_role("button", name="Really take back?").click()
    await shows(page)
    await shows(other)
    assert await page.evaluate("Object.keys(localStorage).filter((k) => /own/.test(k))") == []


async def test_other_tabs_of_the_browser(pods: Pods, visit: Visit) -> None:
    """They have the key, too, and show the new words."""
    page = await visit(pods.a.url)
    tab = await page.context.new_page()
    await tab.goto(pods.a.url)
    await sign(page, "one")
    await tab.click(".amend")
    await tab.locator(".entry textarea").fill("two")
    await tab.get_by_role("button", name="Save").click()
    await shows(tab, "two")
    await shows(page, "two")


async def test_time_runs_out(pods: Pods, visit: Visit) -> None:
    page = await visit(pods.a.url, clock=True)
    await sign(page, "for good")
    await expect(page.locator(".own")).to_have_count(1)
    await page.clock.fast_forward(301_000)
    await page.clock.run_for(6_000)
    await expect(page.locator(".own")).to_have_count(0)


async def test_switched_off(serve: Serve, visit: Visit) -> None:
    server = await serve(GUESTBOOK_UNDO_SECONDS="0")
    page = await visit(server.url)
    await sign(page, "for good")
    await shows_only(page, server, "for good")
    await expect(page.locator(".own")).to_have_count(0)
