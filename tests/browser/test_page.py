"""The page in a browser: what visitors see, whatever happens to pods, Redis and the network."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.async_api import Page, Route, expect
from redis.asyncio import Redis

from guestbook.draft import AUTHOR_MAX, TEXT_MAX, normalise
from guestbook.store import EVENTS
from tests.browser.conftest import ADMIN, Complaints, Pods, Visit
from tests.conftest import Serve
from tests.processes import Server, Valkey, eventually
from tests.stream import EventStream

# What Chromium reports when a request fails or is refused.
LOST = r"net::ERR_"
UNPROCESSABLE = "status of 422"
TOO_MANY = "status of 429"
UNAVAILABLE = "status of 503"

AWAY = "Redis is away: you can read, and what you write waits"


async def post(pod: Server, *texts: str, author: str | None = None) -> list[dict[str, Any]]:
    """Posts messages one after the other through the API of a pod."""
    async with httpx.AsyncClient(base_url=pod.url) as client:
        answers = [
            await client.post("/messages", json={"text": text, "author": author}) for text in texts
        ]
    assert {answer.status_code for answer in answers} == {201}
    return [answer.json() for answer in answers]


async def listed(pod: Server) -> list[dict[str, Any]]:
    """All messages as the API gives them, newest first."""
    async with httpx.AsyncClient(base_url=pod.url) as client:
        messages: list[dict[str, Any]] = (await client.get("/messages?limit=1000")).json()[
            "messages"
        ]
        return messages


async def sign(page: Page, text: str) -> None:
    """Writes a message into the form and sends it."""
    await page.fill("#text", text)
    await page.click("button")


async def shows(page: Page, *texts: str, within: float = 10) -> None:
    """Waits until the page lists exactly these texts, from top to bottom."""
    found = page.locator("#messages > li.entry .text")
    if texts:
        await expect(found).to_have_text(list(texts), timeout=within * 1000)
    else:
        await expect(found).to_have_count(0, timeout=within * 1000)


async def shows_only(page: Page, pod: Server, *texts: str) -> None:
    """As `shows`, and that nothing comes late: not even before a message posted after it all."""
    await shows(page, *texts)
    await post(pod, "the last")
    await shows(page, "the last", *texts)


async def is_state(page: Page, state: str, words: str) -> None:
    """Waits until the page is in this state and says so where the visitor sees it."""
    await expect(page.locator("html")).to_have_attribute("data-state", state)
    await expect(page.locator("#state")).to_have_text(words)
    await expect(page.locator("#state")).to_be_in_viewport()


async def fits(page: Page) -> None:
    """Nothing is wider than the window."""
    content, window = await page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert content <= window


async def form_is(page: Page, state: str) -> None:
    await expect(page.locator("form")).to_have_attribute("data-state", state)


# ---- Messages come and go


async def test_message_is_seen_on_both_pods_at_once(pods: Pods, visit: Visit) -> None:
    """What is written on one pod's page stands there, and within a second on another pod's: once.

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
    await expect(writer.locator("#note")).to_have_text("Thank you, it is in the book.")
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


async def test_deletion_vanishes(pods: Pods, visit: Visit) -> None:
    """What the admin deletes on one pod leaves the open pages of all."""
    _, spam, _ = await post(pods.a, "one", "spam", "three")
    pages = [await visit(pod.url) for pod in pods]
    async with httpx.AsyncClient(base_url=pods.b.url, headers=ADMIN) as client:
        assert (await client.delete(f"/messages/{spam['id']}")).status_code == 204
    for page in pages:
        await shows(page, "three", "one", within=2)


async def test_watching(pods: Pods, visit: Visit) -> None:
    """The page says which pod serves it, and how many watch."""

    async def nobody_else_watches() -> bool:
        async with EventStream(pods.a.url) as stream:
            return bool((await stream.until("pods")).data["streams"] == 1)

    await eventually(nobody_else_watches)
    await visit(pods.a.url)
    page = await visit(pods.a.url)
    await expect(page.locator("#pod")).to_have_text("pod-a")
    await expect(page.locator("#watching")).to_have_text("2 watching, 2 pods")


# ---- Pods, Redis and networks that fail


async def test_pod_is_killed(pods: Pods, visit: Visit) -> None:
    """A page whose pod dies comes back with its cursor and has missed nothing."""
    cursor = (await post(pods.a, "before"))[0]["id"]
    page = await visit(pods.a.url, clock=True, expects=(LOST,))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    pods.a.signal(signal.SIGKILL)
    await is_state(page, "reconnecting", "Reconnecting…")
    pods.a.wait()
    await post(pods.b, "one", "two", "three")
    await pods.a.start().ready()
    await page.clock.run_for(10_000)
    await is_state(page, "live", "Live")
    await shows_only(page, pods.b, "three", "two", "one", "before")
    streams = {url for url in requests if "/events" in url}
    assert streams == {f"{pods.a.url}/events?after={cursor}"}


async def test_pod_drains(pods: Pods, visit: Visit) -> None:
    """A page whose pod stops comes back likewise; a page of another pod sees it go and come."""
    await post(pods.a, "before")
    page = await visit(pods.a.url, clock=True, expects=(LOST, UNAVAILABLE))
    witness = (await visit(pods.b.url)).locator("#watching")
    await expect(witness).to_contain_text("2 pods")
    pods.a.signal(signal.SIGTERM)
    await is_state(page, "reconnecting", "Reconnecting…")
    await expect(page.locator("#watching")).to_be_hidden()
    await expect(witness).to_have_text("1 watching, 1 pod")
    pods.a.wait()
    await post(pods.b, "one", "two", "three")
    await pods.a.start().ready()
    await page.clock.run_for(10_000)
    await is_state(page, "live", "Live")
    await expect(witness).to_contain_text("2 pods")
    await shows_only(page, pods.b, "three", "two", "one", "before")


async def test_pod_hangs(pods: Pods, visit: Visit) -> None:
    """A stream that says nothing for 40 s is taken for dead, though its connection stands."""
    page = await visit(pods.a.url, clock=True, expects=(LOST,))
    pods.a.signal(signal.SIGSTOP)
    try:
        await page.clock.run_for(35_000)
        await is_state(page, "live", "Live")
        await page.clock.run_for(10_000)
        await is_state(page, "reconnecting", "Reconnecting…")
        await post(pods.b, "meanwhile")
    finally:
        pods.a.signal(signal.SIGCONT)
    await page.clock.run_for(2_000)
    await is_state(page, "live", "Live")
    await shows_only(page, pods.b, "meanwhile")


async def test_network_is_lost(pods: Pods, visit: Visit) -> None:
    """Without a network the page says so, also to who is far down; with it, it has all."""
    before = [str(number) for number in range(20)]
    await post(pods.a, *before)
    page = await visit(pods.a.url, width=320, height=568, expects=(LOST,))
    await page.locator("#messages > li.entry").last.scroll_into_view_if_needed()
    await expect(page.locator("#state")).not_to_be_in_viewport()
    await page.context.set_offline(True)
    await is_state(page, "offline", "Offline")
    await post(pods.b, "meanwhile")
    await page.context.set_offline(False)
    await expect(page.locator("html")).to_have_attribute("data-state", "live")
    await shows_only(page, pods.b, "meanwhile", *reversed(before))


async def test_list_was_trimmed_meanwhile(serve: Serve, visit: Visit) -> None:
    """A page that was away for longer than messages are kept takes the list anew."""
    server = await serve(GUESTBOOK_MAX_MESSAGES="5")
    await post(server, "a", "b", "c")
    page = await visit(server.url, expects=(LOST,))
    await page.context.set_offline(True)
    await is_state(page, "offline", "Offline")
    await post(server, *"0123456789")
    await page.context.set_offline(False)
    await shows_only(page, server, *"98765")
    await is_state(page, "live", "Live")


async def test_redis_outage(valkey: Valkey, serve: Serve, visit: Visit) -> None:
    """While Redis is away the page says so, stays readable and keeps a post, which goes out by
    itself.
    """
    server = await serve(redis=valkey.address)
    await post(server, "before")
    page = await visit(server.url, clock=True, expects=(UNAVAILABLE,))
    plain = await visit(server.url, script=False)
    valkey.kill()
    await is_state(page, "away", AWAY)
    await asyncio.gather(sign(page, "kept"), sign(plain, "kept too"))

    await form_is(page, "waiting")
    await expect(page.locator("#note")).to_have_text(
        "The guestbook cannot take it just now. Your text is kept and goes out by itself."
    )
    await expect(page.locator("#text")).to_have_value("")
    await shows(page, "kept", "before")
    await expect(plain.locator("#form-problem")).not_to_be_empty()
    await expect(plain.locator("#text")).to_have_value("kept too")
    await shows(plain, "before")

    valkey.start()
    await server.ready()
    await page.clock.run_for(6_000)
    await form_is(page, "sent")
    await is_state(page, "live", "Live")
    await plain.click("button")
    await shows_only(page, server, "kept too", "kept", "before")


async def test_redis_comes_after_page(valkey: Valkey, serve: Serve, visit: Visit) -> None:
    """A page that was opened before its pod could read the messages fills by itself."""
    async with Redis(port=valkey.port) as redis:
        for text in ("one", "two"):
            await redis.xadd(EVENTS, {"text": text, "pod": "another"})
    valkey.kill()
    server = await serve(redis=valkey.address, is_ready=False)
    page = await visit(server.url, until=None, expects=(UNAVAILABLE,))
    await is_state(page, "away", AWAY)
    await expect(page.locator("main")).to_have_attribute("data-cursor", "")
    await expect(page.locator(".unread")).to_be_visible()
    valkey.start()
    await expect(page.locator(".unread")).to_be_hidden()
    await shows_only(page, server, "two", "one")


async def test_pod_is_full(serve: Serve, visit: Visit) -> None:
    """A page whose stream is refused keeps trying, and is live when there is room."""
    server = await serve(GUESTBOOK_MAX_STREAMS="1")
    first = await visit(server.url)
    second = await visit(server.url, until="reconnecting", expects=(UNAVAILABLE,))
    await is_state(second, "reconnecting", "Reconnecting…")
    await post(server, "missed")
    await first.close()
    await is_state(second, "live", "Live")
    await shows_only(second, server, "missed")


# ---- The form


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
    """A visitor who is too fast is told so; the text is kept and goes out when it may."""
    server = await serve(GUESTBOOK_POST_RATE="1/2s")
    page = await visit(server.url, expects=(TOO_MANY,))
    await sign(page, "one")
    await form_is(page, "sent")
    await sign(page, "two")
    await form_is(page, "waiting")
    await expect(page.locator("#note")).to_have_text(
        "Too many messages at once. Your text is kept and goes out by itself."
    )
    await expect(page.locator(".pending .text")).to_have_text("two")
    await form_is(page, "sent")
    await shows(page, "two", "one")
    assert len(await listed(server)) == 2


async def test_answer_is_lost(pods: Pods, visit: Visit) -> None:
    """A post whose answer never came is sent again with its key, and stands once."""
    page = await visit(pods.a.url, clock=True, expects=(LOST,))

    async def lose_answer(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await page.route("**/messages", lose_answer, times=1)
    await sign(page, "once")
    await form_is(page, "waiting")
    await expect(page.locator("#note")).to_contain_text("The guestbook cannot be reached.")
    await shows(page, "once")
    await page.clock.run_for(2_000)
    await form_is(page, "sent")
    await shows_only(page, pods.a, "once")


async def test_text_that_waits_can_be_edited(pods: Pods, visit: Visit) -> None:
    """What is on its way can be taken back into the form, and goes out when its visitor says so."""
    page = await visit(pods.a.url, clock=True, expects=(LOST,))
    await page.context.set_offline(True)
    await sign(page, "half a tho")
    await form_is(page, "waiting")
    await page.click(".pending .edit")
    await expect(page.locator("#text")).to_be_focused()
    await page.locator("#text").press_sequentially("ught")
    await page.context.set_offline(False)
    await is_state(page, "live", "Live")
    await page.clock.run_for(30_000)
    await shows(page)
    await page.click("form button")
    await shows_only(page, pods.a, "half a thought")


async def test_outbox_outlives_the_page(pods: Pods, visit: Visit) -> None:
    """What could not be sent is there after a reload, in every tab, and goes out once, in order."""
    page = await visit(pods.a.url, expects=(LOST, UNAVAILABLE))
    await page.route("**/messages", lambda route: route.fulfill(status=503))
    for text in ("one", "two"):
        await sign(page, text)
    await form_is(page, "waiting")
    await shows(page, "two", "one")
    other = await page.context.new_page()
    await other.route("**/messages", lambda route: route.fulfill(status=503))
    await other.goto(pods.a.url)
    await shows(other, "two", "one")
    await page.reload()
    await shows(page, "two", "one")
    await expect(page.locator(".pending")).to_have_count(2)
    for tab in (page, other):
        await tab.unroute_all()
    await expect(page.locator(".pending")).to_have_count(0)
    assert [message["text"] for message in await listed(pods.b)] == ["two", "one"]
    await shows_only(page, pods.b, "two", "one")
    await shows(other, "the last", "two", "one")


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
    """Who has signed once finds their name in the form, also after a reload."""
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


# ---- What visitors write is data

HOSTILE = [
    "<script>hacked = 1</script><img src=x onerror='hacked = 1'><svg onload='hacked = 1'>",
    "</p></li></ol></main><h1>x</h1><template><style>*{display:none}</style>",
    "<!-- <textarea></textarea></title> ]]> &lt;b&gt; &amp;amp; {{ 7 * 7 }} {% raw %} ${7*7}",
    'javascript:hacked=1 " onfocus=\'hacked = 1\' style="position:fixed;inset:0"',
    "\u202eright to left override \u2066 isolates, never closed \u2067\u202d",
    "Z" + "\u0300\u0489\u0301\u0316" * 60,
    "W" * 400,
    "https://example.org/" + "very-long/" * 60,
    "\ufdfd" * 60,
    "مرحبا بكم في دفتر الزوار (123) abc",
    "\u200b" * 40 + "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466" * 30,
    "\n".join("many lines" for _ in range(60)),
    "\u00a0".join(["no-break"] * 40),
]

FOREIGN = """items => items.flatMap((item) => [...item.querySelectorAll("*")])
    .map((element) => element.localName)
    .filter((name) => !["p", "bdi", "time", "span", "a"].includes(name))"""


async def test_hostile_texts(serve: Serve, visit: Visit) -> None:
    """Nothing that a visitor writes, or an operator sets, runs or breaks out of its place."""
    server = await serve(
        "pod-" + "x" * 60, GUESTBOOK_TITLE=f"{HOSTILE[1]}{HOSTILE[6]}", GUESTBOOK_WELCOME=HOSTILE[0]
    )
    page = await visit(server.url, width=320, height=568)
    for text in HOSTILE:
        await post(server, text, author=text[:AUTHOR_MAX])
    entries = page.locator("#messages > li.entry")
    for is_live in (True, False):
        if not is_live:
            await page.reload()
            await expect(page.locator("html")).to_have_attribute("data-state", "live")
        await expect(entries).to_have_count(len(HOSTILE))
        texts = await entries.locator(".text").all_text_contents()
        assert texts == [normalise(text) for text in reversed(HOSTILE)]
        authors = await entries.locator(".author").all_text_contents()
        assert authors == [normalise(text[:AUTHOR_MAX]) for text in reversed(HOSTILE)]
        assert await entries.evaluate_all(FOREIGN) == []
        for width in (320, 900, 1280):
            await page.set_viewport_size({"width": width, "height": 568})
            await fits(page)
    assert await page.evaluate("typeof hacked") == "undefined"
    assert await page.title() == f"{HOSTILE[1]}{HOSTILE[6]}"


unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=AUTHOR_MAX)

SERVED = """async (id) => {
  const html = await (await fetch("/")).text();
  const served = new DOMParser().parseFromString(html, "text/html");
  const item = served.querySelector(`[data-id="${id}"]`);
  return [".text", ".author"].map((part) => item.querySelector(part).textContent);
}"""


@pytest.fixture
async def open_page(pods: Pods, visit: Visit) -> Page:
    return await visit(pods.b.url)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=unicode_text.filter(normalise), author=unicode_text)
async def test_any_text_comes_through(pods: Pods, open_page: Page, text: str, author: str) -> None:
    """Any Unicode text stands in the page, live and served, as it was posted and normalised."""
    (message,) = await post(pods.a, text, author=author)
    entry = open_page.locator(f'#messages > li[data-id="{message["id"]}"]')
    live = [await entry.locator(part).text_content() for part in (".text", ".author")]
    assert live == [normalise(text), normalise(author) or "Anonymous"]
    assert await open_page.evaluate(SERVED, message["id"]) == live


# ---- The tests themselves


async def test_complaints_are_heard(pods: Pods, visit: Visit, complaints: Complaints) -> None:
    """The fixture hears what the browser blocks and which scripts fail."""
    page = await visit(pods.a.url, expects=("Content Security Policy", "CSP violation", "oops"))
    await page.evaluate("""() => {
        document.body.insertAdjacentHTML("beforeend", "<p style='color: red' onclick='x()'>");
        setTimeout(() => { throw new Error("oops"); });
    }""")
    awaited = ("CSP violation: style-src-attr", "CSP violation: script-src-attr", "oops")
    await eventually(lambda: all(words in " ".join(complaints.heard) for words in awaited))


# ---- Many messages (last: the next test would have to delete them)


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
    shown = await entries.evaluate_all("items => items.map((item) => item.dataset.id)")
    assert shown == [message["id"] for message in await listed(pods.b)]
