"""The form: what it refuses and why, by mouse, by keys and without a script."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from guestbook.core.messages import AUTHOR_MAX, TEXT_MAX
from tests.browser.conftest import Pods, Visit
from tests.browser.visitor import (
    TOO_MANY,
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

TYPED = {
    "text": "\n first line\n  </textarea><script>hacked = 1</script>",
    "author": "Ada \"&amp;\"><img src=x onerror='hacked = 1'>",
}

REFUSED = [
    ("text", " \n ", "Your message is empty: write at least one character."),
    (
        "text",
        "x" * (TEXT_MAX + 1),
        "Your message is 1001 characters long: at most 1000 are allowed.",
    ),
    ("author", "W" * (AUTHOR_MAX + 1), "Your name is 61 characters long: at most 60 are allowed."),
]


@pytest.mark.parametrize("script", [True, False], ids=["live", "plain"])
async def test_refused_post(pods: Pods, visit: Visit, script: bool) -> None:
    """The reason stands at the field at fault, which has the focus, and what was typed is kept."""
    page = await visit(pods.a.url, script=script, width=320, expects=(UNPROCESSABLE,))
    for field, value, reason in REFUSED:
        typed = {**TYPED, field: value}
        await page.fill("#author", typed["author"])
        await sign(page, typed["text"])
        await expect(page.locator(f"#{field}-problem")).to_have_text(reason)
        await expect(page.locator(f"#{field}-problem")).to_be_in_viewport()
        await expect(page.locator(".problem:not(:empty)")).to_have_count(1)
        await expect(page.locator("[aria-invalid]")).to_have_id(field)
        await expect(page.locator(f"#{field}")).to_be_focused()
        await expect(page.locator("#text")).to_have_value(typed["text"])
        await expect(page.locator("#author")).to_have_value(typed["author"])
        await fits(page)
    await expect(page.locator("main img, main script")).to_have_count(0)
    assert await listed(pods.a) == []

    await page.fill("#author", "Ada")
    await sign(page, "better")
    await shows(page, "better")
    await expect(page.locator(".problem:not(:empty), [aria-invalid]")).to_have_count(0)


async def test_posting_rate(serve: Serve, visit: Visit) -> None:
    """Over the posting rate the page says so, keeps the text and sends it when it may."""
    server = await serve(GUESTBOOK_POST_RATE="1/6s")
    page = await visit(server.url, expects=(TOO_MANY,))
    await sign(page, "one")
    await form_is(page, "sent")
    await sign(page, "two")
    await form_is(page, "waiting")
    await expect(page.locator("#note")).to_have_text(
        "Too many messages from your network at the moment. "
        "Your message is saved in this browser and will be sent while this page is open."
    )
    await expect(page.locator(".pending .text")).to_have_text("two")
    await form_is(page, "sent")
    await shows(page, "two", "one")
    assert len(await listed(server)) == 2


async def test_keys_send(pods: Pods, visit: Visit) -> None:
    """Control or Command with Enter sends; Enter alone is a new line."""
    page = await visit(pods.a.url)
    await page.focus("#text")
    for keys in ("Control+Enter", "Meta+Enter"):
        for key in ("a", "Enter", "b", keys):
            await page.keyboard.press(key)
        await form_is(page, "sent")
        await expect(page.locator("#text")).to_have_value("")
    await shows_only(page, pods.a, "a b", "a b")
    assert [message["text"] for message in await listed(pods.a)] == ["the last", "a\nb", "a\nb"]


async def test_author_is_remembered(pods: Pods, visit: Visit) -> None:
    """After the first message the form has the visitor's name, also after a reload."""
    page = await visit(pods.a.url)
    await page.fill("#author", "Ada")
    await sign(page, "first")
    await form_is(page, "sent")
    await expect(page.locator("#author")).to_have_value("Ada")
    other = await page.context.new_page()
    await other.goto(pods.a.url)
    await expect(other.locator("#author")).to_have_value("Ada")
    assert await other.evaluate("localStorage.getItem('guestbook.author')") == "Ada"


async def test_without_script(pods: Pods, visit: Visit) -> None:
    """Without JavaScript the page lists, posts and comes back with the new message."""
    await post(pods.b, "one")
    page = await visit(pods.a.url, script=False)
    await shows(page, "one")
    await expect(page.get_by_role("link", name="reload the page")).to_be_visible()
    await page.fill("#author", "Ada")
    async with page.expect_response(f"{pods.a.url}/messages") as response:
        await sign(page, "two")
    assert (await response.value).status == 303
    await expect(page).to_have_url(f"{pods.a.url}/")
    await shows(page, "two", "one")
    await expect(page.locator(".author").first).to_have_text("Ada")
    await expect(page.locator("#text")).to_have_value("")


async def test_double_click_sends_once(pods: Pods, visit: Visit) -> None:
    """The second click, or a key that is held, finds the form empty: that is no mistake."""
    page = await visit(pods.a.url)
    await page.fill("#text", "clicked twice")
    await page.dblclick("form button")
    await form_is(page, "sent")
    await expect(page.locator("#text-problem")).to_be_empty()
    await expect(page.locator("form button")).to_be_focused()

    await page.fill("#text", "sent by keys")
    await page.keyboard.down("Control")
    for _ in range(3):
        await page.keyboard.down("Enter")
    await page.keyboard.up("Enter")
    await page.keyboard.up("Control")
    await form_is(page, "sent")
    await expect(page.locator("#text-problem")).to_be_empty()
    await shows_only(page, pods.a, "sent by keys", "clicked twice")

    await page.reload()
    await page.click("form button")
    await expect(page.locator("#text-problem")).not_to_be_empty()


async def test_half_written_text_outlives_the_page(pods: Pods, visit: Visit) -> None:
    """After a link and Back, or a reload, in this tab; not once it was sent, nor in other tabs."""
    page = await visit(pods.a.url)
    other = await page.context.new_page()  # with it no browser keeps the page as it was
    await other.goto(pods.a.url)
    await page.fill("#text", "half a tho")
    await page.fill("#author", "Ad")
    await page.get_by_role("link", name="Projector view").click()
    await page.go_back()
    await expect(page.locator("#text")).to_have_value("half a tho")
    await expect(page.locator("#author")).to_have_value("Ad")
    await other.reload()
    await expect(other.locator("html")).to_have_attribute("data-state", "live")
    await expect(other.locator("#text")).to_have_value("")

    await page.locator("#text").press_sequentially("ught")
    await page.click("form button")
    await form_is(page, "sent")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-state", "live")
    await expect(page.locator("#text")).to_have_value("")
    await shows_only(page, pods.a, "half a thought")


async def test_empty_form_is_not_announced_as_wrong(pods: Pods, visit: Visit) -> None:
    """Screen readers learn that the text is required, and of a mistake once there is one."""
    page = await visit(pods.a.url)
    session = await page.context.new_cdp_session(page)

    async def announced() -> dict[str, object]:
        tree = await session.send("Accessibility.getFullAXTree")
        (node,) = (
            n
            for n in tree["nodes"]
            if n["role"]["value"] == "textbox" and n["name"]["value"] == "Your message"
        )
        return {p["name"]: p["value"].get("value") for p in node["properties"]}

    properties = await announced()
    assert (properties["required"], properties["invalid"]) == (True, "false")
    await page.click("form button")
    assert (await announced())["invalid"] == "true"
