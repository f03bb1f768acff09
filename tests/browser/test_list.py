"""Reading: links, older messages, and what arrives while somebody reads or looks elsewhere."""

from __future__ import annotations

from playwright.async_api import expect

from guestbook.draft import normalise
from tests.browser.conftest import Pods, Visit
from tests.browser.test_page import post, shows
from tests.test_links import TEXTS

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_script_links_as_the_server_does(pods: Pods, visit: Visit) -> None:
    """Each text has the same markup, whether it arrives or came with the page."""
    page = await visit(pods.a.url)
    # Control characters never come that far.
    corpus = [(text, links) for text, links in TEXTS if normalise(text) == text]
    texts = [text for text, _ in corpus]
    posted = await post(pods.b, *texts)
    entries = page.locator("#messages > li.entry")
    await expect(entries).to_have_count(len(texts))
    read = "items => items.map((item) => [item.id, item.innerHTML])"
    live = dict(await entries.evaluate_all(read))
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-state", "live")
    served = dict(await entries.evaluate_all(read))
    assert list(served) == [message["id"] for message in reversed(posted)]
    assert live == served
    linked = await entries.locator("a").evaluate_all("as => as.map((a) => a.getAttribute('href'))")
    assert linked == [link for _, links in reversed(corpus) for link in links]


async def test_older_messages_load_on_scrolling(pods: Pods, visit: Visit) -> None:
    """To the very first one, in order; who reads there keeps their place, and hears of new ones."""
    texts = [f"number {number}" for number in range(120)]
    await post(pods.a, *texts)
    page = await visit(pods.a.url, height=600)
    entries = page.locator("#messages > li.entry")
    await expect(entries).to_have_count(50)
    await page.locator("#older").scroll_into_view_if_needed()
    await expect(entries).to_have_count(100)
    await page.locator("#older").scroll_into_view_if_needed()
    await shows(page, *reversed(texts))
    await expect(page.locator("#older")).to_be_hidden()

    reading = page.get_by_text("number 30", exact=True)
    await reading.scroll_into_view_if_needed()
    top = "(element) => element.getBoundingClientRect().top"
    before = await reading.evaluate(top)
    await post(pods.b, "one", "two", "three")
    pill = page.locator("#unseen")
    await expect(pill).to_have_text("3 new messages")
    assert abs(await reading.evaluate(top) - before) < 2
    await pill.click()
    await expect(page.get_by_text("three", exact=True)).to_be_in_viewport()
    await expect(pill).to_be_hidden()


async def test_older_pages_without_script(pods: Pods, visit: Visit) -> None:
    """Link by link down to the first message, and back to the newest."""
    texts = [f"number {number}" for number in range(60)]
    await post(pods.a, *texts)
    page = await visit(pods.a.url, script=False)
    await page.get_by_role("link", name="Older messages").click()
    await shows(page, *reversed(texts[:10]))
    await expect(page.get_by_role("link", name="Older messages")).to_have_count(0)
    await page.get_by_role("link", name="Newest messages").click()
    await expect(page).to_have_url(f"{pods.a.url}/")
    await shows(page, *reversed(texts[10:]))


async def test_title_counts_the_unread(pods: Pods, visit: Visit) -> None:
    """While the tab is hidden; who looks at it again has read them."""
    page = await visit(pods.a.url)
    await page.evaluate(HIDE, True)
    await post(pods.b, "one", "two")
    await expect(page).to_have_title("(2) Guestbook")
    await page.evaluate(HIDE, False)
    await expect(page).to_have_title("Guestbook")
