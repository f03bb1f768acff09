"""The page works in browsers that lack or refuse features, and with answers of other servers."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import ADMIN, Pods, Visit
from tests.browser.test_list import HIDE
from tests.browser.visitor import LOST, form_is, is_state, listed, post, shows, shows_only, sign
from tests.conftest import Serve
from tests.support.waiting import allowed, eventually

# Each counts how often it was asked.
_COUNT = "window.refused = 0; const refuse = (error) => { window.refused += 1; return error; };"
_REFUSED = "new DOMException('The request was denied.', 'SecurityError')"
LOCKS_REJECT = (
    f"if (navigator.locks) navigator.locks.request = () => Promise.reject(refuse({_REFUSED}));"
)
LOCKS_THROW = (
    f"if (navigator.locks) navigator.locks.request = () => {{ throw refuse({_REFUSED}); }};"
)
LOCKS_ABORT = """if (navigator.locks) navigator.locks.request = async (...given) => {
  given[given.length - 1]();
  throw refuse(new DOMException("", "AbortError"));
};"""
NO_LOCKS = "Object.defineProperty(navigator, 'locks', { value: undefined });"
CHANNEL_THROWS = f"""window.BroadcastChannel = class {{
  constructor() {{ throw refuse({_REFUSED}); }}
}};"""
NO_CHANNEL = "delete window.BroadcastChannel;"
STORAGE_THROWS = f"""for (const name of ["localStorage", "sessionStorage"]) {{
  Object.defineProperty(window, name, {{ get() {{ throw refuse({_REFUSED}); }} }});
}}"""
NO_STORAGE = "Object.defineProperty(window, 'localStorage', { value: null });"

REFUSALS = {
    "locks reject": LOCKS_REJECT,
    "locks throw": LOCKS_THROW,
    "locks are missing": NO_LOCKS,
    "channels throw": CHANNEL_THROWS,
    "channels are missing": NO_CHANNEL,
    "storage throws": STORAGE_THROWS,
    "storage is null": NO_STORAGE,
    "all site data is blocked": LOCKS_REJECT + CHANNEL_THROWS + STORAGE_THROWS,
}


async def _works(page: Page, pods: Pods) -> None:
    """The page takes a message, shows it and another's, and is asleep between them."""
    await sign(page, "mine")
    await form_is(page, "sent")
    await post(pods.b, "another's")
    await shows(page, "another's", "mine")
    assert [message["text"] for message in await listed(pods.a)] == ["another's", "mine"]


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_browser_refuses(pods: Pods, visit: Visit, refusal: str) -> None:
    """The page is live, posts and reads all the same, and does not ask without end."""
    page = await visit(pods.a.url, before=_COUNT + refusal)
    await _works(page, pods)
    assert await page.evaluate("window.refused") < 50


async def test_two_tabs_that_cannot_talk(pods: Pods, visit: Visit) -> None:
    """Each has its own stream, and what one tab sends is one message in both."""
    page = await visit(pods.a.url, before=_COUNT + CHANNEL_THROWS)
    other = await page.context.new_page()
    await other.add_init_script(CHANNEL_THROWS)
    await other.goto(pods.a.url)
    await is_state(other, "live", "Live")
    await _works(page, pods)
    await shows(other, "another's", "mine")


async def test_hidden_tab_without_locks_polls(pods: Pods, visit: Visit) -> None:
    """A stream in each of seven tabs would take all connections: only the visible one has it."""
    page = await visit(pods.a.url, before=NO_LOCKS, clock=True)
    await page.evaluate(HIDE, True)
    await expect(page.locator("html")).to_have_attribute("data-state", "polling")
    await post(pods.b, "one")
    await page.clock.run_for(60_000)
    await shows(page, "one")
    await page.evaluate(HIDE, False)
    await is_state(page, "live", "Live")
    await shows_only(page, pods.b, "one")


async def test_lock_that_is_lost_at_once(pods: Pods, visit: Visit) -> None:
    """The page asks again, but at intervals."""
    page = await visit(pods.a.url, until=None, before=_COUNT + LOCKS_ABORT)

    async def asks_again() -> bool:
        return bool(await page.evaluate("window.refused > 1"))

    await eventually(asks_again, every=0.1)
    await asyncio.sleep(1)
    assert await page.evaluate("window.refused") < 50


# Safari 15 and Chrome below 110 have none of these.
OLD_BROWSER = """
delete AbortSignal.timeout;
delete AbortSignal.any;
delete crypto.constructor.prototype.randomUUID;
delete HTMLFormElement.prototype.requestSubmit;
delete Object.groupBy;
delete Promise.withResolvers;
delete window.structuredClone;
delete window.scheduler;
for (const type of [Array, String, Int8Array.__proto__]) {
  for (const name of ["at", "findLast", "findLastIndex", "toReversed", "toSorted", "toSpliced",
    "with", "isWellFormed", "toWellFormed"]) delete type.prototype[name];
}
for (const name of ["union", "difference", "intersection"]) delete Set.prototype[name];
"""


async def test_older_browser(serve: Serve, pods: Pods, visit: Visit) -> None:
    """Posting, also by keys, and loading the list again need no features of newer browsers."""
    page = await visit(pods.a.url, before=OLD_BROWSER)
    await _works(page, pods)
    await page.fill("#text", "by keys https://example.org/.")
    await page.locator("#text").press("Control+Enter")
    await shows(page, "by keys https://example.org/.", "another's", "mine")

    server = await serve(GUESTBOOK_MAX_MESSAGES="5")
    page = await visit(server.url, before=OLD_BROWSER, expects=(LOST,))
    await page.context.set_offline(True)
    await is_state(page, "offline", "Offline")
    await post(server, *"0123456789")
    await page.context.set_offline(False)
    await shows_only(page, server, *"98765")


@pytest.mark.parametrize("languages", [["en-US@posix"], ["", "x", "en_GB", "en-GB"], [], None])
async def test_odd_language_tags(pods: Pods, visit: Visit, languages: list[str] | None) -> None:
    """A tag that Intl refuses is passed over."""
    before = (
        f"Object.defineProperty(navigator, 'languages', {{ value: {languages or 'undefined'} }});"
    )
    page = await visit(pods.a.url, before=before)
    await _works(page, pods)
    await expect(page.locator("#messages time").first).to_have_text("now")


@pytest.mark.parametrize(
    "event_source",
    ["delete window.EventSource;", "window.EventSource = class { constructor() { throw 1; } };"],
    ids=["missing", "refused"],
)
async def test_no_streams(pods: Pods, visit: Visit, event_source: str) -> None:
    """The page asks every few seconds, as where streams are blocked."""
    page = await visit(pods.a.url, until=None, before=event_source)
    await expect(page.locator("html")).to_have_attribute("data-state", "polling")
    await _works(page, pods)


async def test_list_ends_early(pods: Pods, visit: Visit) -> None:
    """From a pod that lags, which has no message yet: what the page had before comes again."""
    page = await visit(
        pods.a.url, until=None, before="window.Stream = EventSource; delete window.EventSource;"
    )
    await expect(page.locator("html")).to_have_attribute("data-state", "polling")
    async with httpx.AsyncClient(base_url=pods.b.url, headers=ADMIN) as client:
        early = await client.get("/messages?limit=50")
        asked = asyncio.Event()

        async def lag(route: Route) -> None:
            await route.fulfill(status=200, headers=dict(early.headers), body=early.text)
            asked.set()

        await page.route("**/messages?limit=50", lag)
        _, gone = await post(pods.b, "meanwhile", "gone")
        await shows(page, "gone", "meanwhile")
        await client.delete(f"/messages/{gone['id']}")
    await asyncio.wait_for(asked.wait(), 30)
    await page.evaluate("window.EventSource = Stream; dispatchEvent(new Event('online'))")
    await is_state(page, "live", "Live")
    await shows_only(page, pods.b, "meanwhile")


async def test_list_comes_late(pods: Pods, visit: Visit) -> None:
    """A list from a pod that was frozen for a while removes nothing that came meanwhile."""
    asked, may_come = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        answer = await route.fetch()
        asked.set()
        await may_come.wait()
        await route.fulfill(response=answer)

    await post(pods.b, "before")
    page = await visit(
        pods.a.url,
        until=None,
        before="window.Stream = EventSource; delete window.EventSource;",
        routes={"**/messages?limit=50": hold},
    )
    await asyncio.wait_for(asked.wait(), 30)
    await page.evaluate("window.EventSource = Stream; dispatchEvent(new Event('online'))")
    await is_state(page, "live", "Live")
    await post(pods.b, "meanwhile")
    await shows(page, "meanwhile", "before")
    async with page.expect_response("**/messages?limit=50"):
        may_come.set()
    await shows_only(page, pods.b, "meanwhile", "before")


async def test_visitors_clock_is_wrong(pods: Pods, visit: Visit) -> None:
    """Ages go by the server's clock, also where the page only asks every few seconds."""
    await post(pods.b, "just now")
    ahead = "const now = Date.now; Date.now = () => now() + 3 * 3600 * 1000;"
    page = await visit(pods.a.url, before=ahead)
    await expect(page.locator("#messages time")).to_have_text("now")
    page = await visit(pods.a.url, until=None, before=f"{ahead} delete window.EventSource;")
    await expect(page.locator("html")).to_have_attribute("data-state", "polling")
    await expect(page.locator("#messages time")).to_have_text("now")


NO_LISTS = [
    ("{}", "application/json"),
    ("[]", "application/json"),
    ("null", "application/json"),
    ('{"messages": null}', "application/json"),
    ('{"messages": [{"id": "x"}], "next": null}', "application/json"),
    ("<h1>Welcome to our network</h1>", "text/html"),
]


async def test_list_is_no_list(serve: Serve, visit: Visit) -> None:
    """A captive portal answers in the guestbook's place: the page comes back when it is gone.

    It asks again after each such answer.
    """
    server = await serve(GUESTBOOK_MAX_MESSAGES="5")
    await post(server, "a", "b", "c")
    page = await visit(server.url, clock=True, expects=(LOST,))
    answers = iter([*NO_LISTS, NO_LISTS[0]])
    given = asyncio.Semaphore(0)

    async def answer(route: Route) -> None:
        body, content_type = next(answers, NO_LISTS[0])
        await route.fulfill(body=body, content_type=content_type)
        given.release()

    await page.route("**/messages?*", answer)
    await page.context.set_offline(True)
    await is_state(page, "offline", "Offline")
    await post(server, *"0123456789")
    await page.context.set_offline(False)

    async def was_asked() -> bool:
        await page.clock.run_for(1_000)
        return not given.locked()

    for _ in range(len(NO_LISTS) + 1):
        await eventually(was_asked)
        await given.acquire()
    await page.unroute_all(behavior="wait")
    await page.clock.run_for(15_000)
    await is_state(page, "live", "Live")
    await shows_only(page, server, *"98765")


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        ("<h1>Blocked</h1>", "text/html", "The guestbook did not accept this."),
        ('{"status": 403}', "application/json", "The guestbook did not accept this."),
        (
            '{"status": 403}',
            "application/problem+json",
            "Another site may not post here in your name.",
        ),
    ],
)
async def test_firewall_refuses_a_post(
    pods: Pods, visit: Visit, body: str, content_type: str, reason: str
) -> None:
    """Only the guestbook's own 403 is explained as its own; the text can be edited again."""
    page = await visit(pods.a.url, expects=("403",))

    async def block(route: Route) -> None:
        await route.fulfill(status=403, body=body, content_type=content_type)

    await page.route("**/messages", block)
    await sign(page, "blocked")
    await expect(page.locator("#form-problem")).to_have_text(reason)
    await expect(page.locator("#text")).to_have_value("blocked")


async def test_error_of_the_page_is_no_error_of_the_network(pods: Pods, visit: Visit) -> None:
    """It is reported, the page does not blame the network, and nothing spins."""
    page = await visit(pods.a.url, expects=("our own",))
    await page.evaluate(
        """() => {
          window.calls = 0;
          Headers.prototype.get = () => { window.calls += 1; throw new TypeError("our own"); };
        }"""
    )
    async with page.expect_event("pageerror"):
        await sign(page, "kept")
    await shows(page, "kept")
    await expect(page.locator("#note")).not_to_contain_text("cannot be reached")
    await asyncio.sleep(1)
    assert await page.evaluate("window.calls") == 1


async def test_browsers_storage_is_full(pods: Pods, visit: Visit) -> None:
    """The text is sent all the same, unkept; what waits can be edited."""
    page = await visit(pods.a.url, expects=(LOST,))
    await page.evaluate(
        """() => {
          const fill = (length) => {
            for (;;) localStorage[`${length} ${Math.random()}`] = "x".repeat(length);
          };
          for (let length = 4_000_000; length >= 1; length = Math.floor(length / 2)) {
            try { fill(length); } catch {}
          }
        }"""
    )
    await sign(page, "too much")
    await form_is(page, "sent")
    await shows_only(page, pods.a, "too much")

    await page.context.set_offline(True)
    await sign(page, "later")
    await form_is(page, "waiting")
    words = "Your message will be sent if this page stays open."
    await expect(page.locator("#note")).to_have_text(f"The guestbook cannot be reached. {words}")
    await expect(page.locator(".pending .why")).to_have_text(words)
    await page.click(".pending .edit")
    await page.locator("#text").press_sequentially("!")
    await page.click("form button")
    await page.context.set_offline(False)
    await shows_only(page, pods.a, "later!", "the last", "too much")


async def test_many_spaces_do_not_take_quadratic_time(pods: Pods, visit: Visit) -> None:
    """A keystroke after 50,000 pasted spaces is handled at once."""
    page = await visit(pods.a.url)
    milliseconds = await page.locator("#text").evaluate(
        """(text) => {
          text.value = `a${" ".repeat(50_000)}b`;
          const start = performance.now();
          text.dispatchEvent(new Event("input", { bubbles: true }));
          return performance.now() - start;
        }"""
    )
    assert milliseconds < 1000 * allowed(0.3)
    await expect(page.locator("#room")).to_have_text("49,002 too many")
