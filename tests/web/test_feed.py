"""The feed, as a reader of feeds understands it."""

from __future__ import annotations

import re
import warnings
from typing import Any
from xml.etree import ElementTree

import httpx

from guestbook.core import normalise
from guestbook.storage.keys import EVENTS
from tests.conftest import Serve
from tests.support.messages import ADMIN, BROWSER, TOKEN, names, post_all
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import eventually

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import feedparser

ATOM = "{http://www.w3.org/2005/Atom}"


def parsed(answer: httpx.Response) -> Any:
    """Return the feed as a feed reader understands it."""
    found = feedparser.parse(answer.content, response_headers=dict(answer.headers))
    assert not found.bozo, found.get("bozo_exception")
    assert found.version == "atom10"
    return found


async def test_feed_has_the_newest_messages(serve: Serve) -> None:
    """The newest 50, with names, times and texts as they were posted; ids that stay."""
    server = await serve("pod-a", GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with server.client() as client:
        empty = parsed(await client.get("/feed.atom"))
        assert empty.entries == []
        assert empty.feed.updated == "1970-01-01T00:00:00.000Z"
        await post_all(client, *map(str, range(50)))
        await post_all(client, "<b>bold</b> & http://a.b\n second line", author="Ada")
        answer = await client.get("/feed.atom")
        assert answer.headers["content-type"] == "application/atom+xml; charset=utf-8"
        feed = parsed(answer)
        stored = (await client.get("/messages?limit=50")).json()["messages"]
        assert [entry.content[0].value for entry in feed.entries] == [m["text"] for m in stored]
        assert {entry.content[0].type for entry in feed.entries} == {"text/plain"}
        assert [entry.updated for entry in feed.entries] == [m["posted_at"] for m in stored]
        assert feed.feed.updated == stored[0]["posted_at"]
        newest = feed.entries[0]
        assert (newest.author, feed.entries[1].author) == ("Ada", "Anonymous")
        assert newest.link == f"{server.url}/messages/{stored[0]['id']}"
        ids = [entry.id for entry in feed.entries]
        assert len(set(ids)) == 50
        assert all(re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", each) for each in ids)

        elsewhere = parsed(await client.get("/feed.atom", headers={"Host": "other.example"}))
        assert [entry.id for entry in elsewhere.entries] == ids
        assert elsewhere.feed.id != feed.feed.id
        await client.delete(f"/messages/{stored[0]['id']}", headers=ADMIN)
        after = await client.get("/feed.atom", headers={"If-None-Match": answer.headers["etag"]})
        assert after.status_code == 200
        assert parsed(after).entries[0].id == ids[1]


async def test_feed_is_shown_in_a_browser(api: httpx.AsyncClient) -> None:
    """As XML with a style: Firefox would save a feed as a file."""
    await post_all(api, "one")
    answer = await api.get("/feed.atom", headers=BROWSER)
    assert answer.headers["content-type"].partition(";")[0] == "text/xml"
    assert names(answer.headers["vary"]) >= {"accept"}
    style = re.search(r'<\?xml-stylesheet href="([^"]+)"', answer.text)
    assert style is not None
    assert (await api.get(style[1])).headers["content-type"].startswith("text/css")


def children(element: ElementTree.Element) -> list[str]:
    return [child.tag.removeprefix(ATOM) for child in element]


async def test_feed_has_what_the_standard_requires(api: httpx.AsyncClient) -> None:
    """RFC 4287, section 4.1: each of these exactly once, times in the format of RFC 3339."""
    await post_all(api, "one")
    feed = ElementTree.fromstring((await api.get("/feed.atom")).content)
    assert feed.tag == f"{ATOM}feed"
    for element in (feed, *feed.findall(f"{ATOM}entry")):
        for required in ("id", "title", "updated"):
            assert children(element).count(required) == 1
        updated = element.findtext(f"{ATOM}updated") or ""
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", updated)
    for entry in feed.findall(f"{ATOM}entry"):
        assert children(entry).count("author") == children(entry).count("content") == 1


HOSTILE = [
    "]]><x/>&amp;&#0;",
    "\ufffe\uffff\U0001fffe",
    "<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>&y;",
    "\u202e\u2028\u0085x \u200b",
]


async def test_feed_changes_no_direction_beyond_titles_and_names(api: httpx.AsyncClient) -> None:
    """An override in a message or a name stays out of a feed reader's list."""
    await post_all(api, "\u202eevil \u2067" + "x" * 100, author="\u202eAda\u2066")
    answer = await api.get("/feed.atom")
    entry = parsed(answer).entries[0]
    assert (entry.title, entry.author) == ("evil " + "x" * 54 + "…", "Ada")
    assert entry.content[0].value.startswith("\u202eevil")


async def test_nothing_breaks_the_feed(redis_url: str, serve: Serve) -> None:
    """The feed survives any message, even characters that XML does not allow."""
    server = await serve()
    async with server.client() as client:
        await post_all(client, *HOSTILE, author="\ufffe<&>")
        async with redis_client(redis_url) as redis:
            fields = {
                "text": b"\x00\x01\x08\x1b\xff\xed\xa0\x80",
                "author": b"\x00\xff",
                "pod": b"\x02",
            }
            raw_id = await redis.xadd(EVENTS, fields)

        async def has_it() -> bool:
            return (await client.get(f"/messages/{raw_id}")).status_code == 200

        await eventually(has_it)
        answer = await client.get("/feed.atom")
        texts = [entry.content[0].value for entry in parsed(answer).entries]
        assert len(texts) == len(HOSTILE) + 1
        elements = ElementTree.fromstring(answer.content).findall(f"{ATOM}entry")
        contents = [element.findtext(f"{ATOM}content") for element in elements]
        assert contents[1:] == [
            re.sub("[\ufffe\uffff]", "\ufffd", normalise(text)) for text in reversed(HOSTILE)
        ]
        assert set(contents[0] or "") == {"\ufffd"}


async def test_feed_is_unavailable_until_it_is_complete(valkey: Valkey, serve: Serve) -> None:
    """A feed reader must not see an empty feed before the pod has read the messages."""
    valkey.kill()
    server = await serve(redis=valkey.address, is_ready=False)
    async with server.client() as client:
        answer = await client.get("/feed.atom")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
