"""Reading: messages that come and go, links, older messages, and what arrives meanwhile."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from playwright.async_api import expect

from guestbook.core.messages import normalise
from guestbook.storage.keys import EVENTS
from tests.browser.conftest import ADMIN, Pods, Visit
from tests.browser.visitor import form_is, listed, post, scroll_to, shows, shows_only, sign
from tests.conftest import Serve
from tests.support.servers import Server
from tests.support.valkey import redis_client
from tests.web.test_linkify import TEXTS

EDGES = [
    "",
    *"\r\n\t\v\f \0\x1c\x1f\x7f\x85\xa0\xad\u2028\u3000\u200b\u200d\u2800\u3164\ufe0f\ufeff",
    "\r\n",
]

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_message_is_seen_on_both_pods_at_once(pods: Pods, visit: Visit) -> None:
    """A message appears on its pod's page, and within a second on another pod's: once.

    The writer's page gets it twice, as the answer to its post and from its stream.
    """
    writer, reader = await visit(pods.a.url), await visit(pods.b.url)
    await writer.fill("#author", "Ada")
    await sign(writer, "Hello\n from  here")
    await shows(reader, "Hello from here", within=1)
    entry = reader.locator("#messages > li.entry")
    assert await entry.locator(".text").text_content() == "Hello\n from  here"
    await expect(entry.locator(".author")).to_have_text("Ada")
    await expect(entry.locator(".pod")).to_have_text("pod-a")
    (message,) = await listed(pods.b)
    await expect(entry).to_have_attribute("data-id", message["id"])
    await expect(entry.locator("time")).to_have_attribute("datetime", message["posted_at"])

    await form_is(writer, "sent")
    await expect(writer.locator("#text")).to_have_value("")
    await expect(writer.locator("#note")).to_have_text(
        "Thank you! Your message is in the guestbook."
    )
    await shows_only(writer, pods.b, "Hello from here")
    await shows(reader, "the last", "Hello from here")


async def test_anonymous_and_page_of_server_agree(pods: Pods, visit: Visit) -> None:
    """A live entry has the same markup as one that came with the page."""
    page = await visit(pods.a.url)
    await post(pods.b, "plain")
    await post(pods.a, "signed", author="Ada")
    await shows(page, "signed", "plain")
    live = await page.inner_html("#messages")
    await page.reload()
    assert live.replace(" arriving", "") == await page.inner_html("#messages")
    await expect(page.locator(".author")).to_have_text(["Ada", "Anonymous"])


async def test_tall_messages_open_on_demand(pods: Pods, visit: Visit) -> None:
    """Eight lines of many are shown, and one blank line of many; with a script and without."""
    page = await visit(pods.a.url)
    tall, blank = "\n".join(map(str, range(50))), "above" + " \n\n" * 300 + "below"
    await post(pods.b, blank, tall, "short")
    await shows(page, "short", tall, "above \n\nbelow")
    live = await page.inner_html("#messages")
    for script in (True, False):
        page = await visit(pods.a.url, script=script)
        if script:
            assert live.replace(" arriving", "") == await page.inner_html("#messages")
        await expect(page.locator(".more")).to_have_count(1)
        text = page.locator(".text").nth(1)
        height = "(text) => text.offsetHeight / parseFloat(getComputedStyle(text).lineHeight)"
        assert round(await text.evaluate(height)) == 8
        await page.locator(".more summary").click()
        assert round(await text.evaluate(height)) == 50


async def test_print_has_messages_and_their_times(pods: Pods, visit: Visit) -> None:
    """Print has no form, and absolute times: "2 minutes ago" means nothing on paper."""
    (message,) = await post(pods.a, "to keep")
    page = await visit(pods.a.url)
    await page.emulate_media(media="print")
    await expect(page.get_by_text("to keep")).to_be_visible()
    for hidden in ("form", "footer", "#older"):
        await expect(page.locator(hidden)).to_be_hidden()
    shown = await page.locator("#messages time").evaluate(
        "(time) => [getComputedStyle(time).fontSize, getComputedStyle(time, '::after').content]"
    )
    assert shown[0] == "0px"
    assert message["posted_at"][:4] in shown[1]


async def test_deletion_vanishes(pods: Pods, visit: Visit) -> None:
    """A message that a moderator deletes on one pod leaves the open pages of all."""
    _, spam, _ = await post(pods.a, "one", "spam", "three")
    pages = [await visit(pod.url) for pod in pods]
    async with httpx.AsyncClient(base_url=pods.b.url, headers=ADMIN) as client:
        assert (await client.delete(f"/messages/{spam['id']}")).status_code == 204
    for page in pages:
        await shows(page, "three", "one", within=2)


async def test_script_links_as_the_server_does(pods: Pods, visit: Visit) -> None:
    """Each text has the same markup, whether it arrives or came with the page."""
    # Control characters never come that far.
    corpus = [(text, links) for text, links in TEXTS if normalise(text) == text]
    read = "items => items.map((item) => [item.id, item.innerHTML])"
    while corpus:
        some, corpus = corpus[:50], corpus[50:]
        texts = [text for text, _ in some]
        page = await visit(pods.a.url)
        entries = page.locator("#messages > li.entry")
        posted = await post(pods.b, *texts)
        newest = [message["id"] for message in reversed(posted)]
        await expect(entries.first).to_have_attribute("data-id", newest[0])
        live = dict(await entries.evaluate_all(read))
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("data-state", "live")
        served = dict(await entries.evaluate_all(read))
        assert list(served)[: len(texts)] == newest
        assert {each: live[each] for each in newest} == {each: served[each] for each in newest}
        hrefs = "as => as.map((a) => a.getAttribute('href'))"
        linked = await entries.locator(".text a").evaluate_all(hrefs)
        expected = [link for _, links in reversed(some) for link in links]
        assert linked[: len(expected)] == expected


@pytest.mark.slow
async def test_script_normalises_as_the_server_does(pods: Pods, visit: Visit) -> None:
    """Each text is trimmed, cleaned and found empty alike in Python and in JavaScript."""
    page = await visit(pods.a.url)
    texts = [f"{a}{b}x{c}{b}" for a in EDGES for b in EDGES for c in EDGES]
    texts += [f"{a}{b}{c}" for a in EDGES for b in EDGES for c in EDGES]
    texts += [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    script = await page.locator("script[src$='main.js']").get_attribute("src")
    normalised = await page.evaluate(
        """async ([script, texts]) => {
          const { normalise } = await import(new URL("text.js", new URL(script, location)));
          return texts.map(normalise);
        }""",
        [script, texts],
    )
    assert [*zip(texts, normalised, strict=True)] == [(text, normalise(text)) for text in texts]


async def test_older_messages_load_on_scrolling(pods: Pods, visit: Visit) -> None:
    """To the first one, in order; the reader's place stays, and a button counts new ones."""
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
    await scroll_to(reading)
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
    """While the tab is hidden; when it is shown again the count goes."""
    page = await visit(pods.a.url)
    await page.evaluate(HIDE, True)
    await post(pods.b, "one", "two")
    await expect(page).to_have_title("(2) Guestbook")
    await page.evaluate(HIDE, False)
    await expect(page).to_have_title("Guestbook")


async def test_burst_arrives_in_order(pods: Pods, visit: Visit) -> None:
    """300 messages at once through two pods, and one of the page's own: all, in their order."""
    page = await visit(pods.a.url)
    numbers = iter(range(300))

    async def post_many(pod: Server) -> None:
        async with httpx.AsyncClient(base_url=pod.url) as client:
            for number in numbers:
                await client.post("/messages", json={"text": f"number {number}"})

    await asyncio.gather(*(post_many(pod) for pod in pods * 4), sign(page, "in between"))
    entries = page.locator("#messages > li.entry")
    await expect(entries).to_have_count(301)
    assert await page.locator(".arriving").count() < 100  # at most three a second
    shown = await entries.evaluate_all("items => items.map((item) => item.dataset.id)")
    assert shown == [message["id"] for message in await listed(pods.b)]


async def test_clock_of_the_visitor_is_wrong(serve: Serve, redis_url: str, visit: Visit) -> None:
    """Ages are counted by Redis's clock: of messages on the page, of new ones, in every tab."""
    async with redis_client(redis_url) as redis:
        now = (await redis.time())[0]
        await redis.xadd(EVENTS, {"text": "old"}, id=f"{now - 7200}000-0")
    server = await serve()
    await post(server, "a moment ago")
    for hours in (3, -3):
        shifted = f"const now = Date.now; Date.now = () => now() + {hours} * 3600e3;"
        page = await visit(server.url, before=shifted)
        times = page.locator("#messages > li.entry time")
        count = await times.count()
        await expect(times.last).to_have_text("2 hr ago")
        await expect(times.nth(count - 2)).to_have_text("now")
        other = await page.context.new_page()
        await other.add_init_script(shifted)
        await other.goto(server.url)
        await post(server, "just now")
        for tab in (page, other):
            times = tab.locator("#messages > li.entry time")
            await expect(times).to_have_text(["now"] * count + ["2 hr ago"])
