"""The author's second thought: editing and taking back a message with the key of its post."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis.asyncio as redis

from guestbook.storage.keys import EVENTS
from tests.conftest import Serve
from tests.support.messages import ADMIN, TOKEN, problem, texts
from tests.support.servers import Server, guestbook
from tests.support.sse import EventStream
from tests.support.waiting import eventually, eventually_equal

EDITS = "{guestbook}:edits"

_keys = itertools.count()


async def read(http: httpx.AsyncClient, message_id: str) -> Any:
    return (await http.get(f"/messages/{message_id}")).json()


class Author:
    """A client that remembers the key of each post."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.keys: dict[str, str] = {}

    async def post(self, text: str, author: str | None = None) -> dict[str, Any]:
        """Post a message."""
        key = f"key-{next(_keys)}"
        answer = await self.http.post(
            "/messages", json={"text": text, "author": author}, headers={"Idempotency-Key": key}
        )
        assert answer.status_code == 201, answer.text
        message: dict[str, Any] = answer.json()
        self.keys[message["id"]] = key
        return message

    async def edit(self, message_id: str, text: str, **headers: str) -> httpx.Response:
        """Edit one of the own messages."""
        headers = headers or {"Idempotency-Key": self.keys[message_id]}
        return await self.http.patch(
            f"/messages/{message_id}", json={"text": text}, headers=headers
        )

    async def take_back(self, message_id: str, **headers: str) -> httpx.Response:
        """Delete one of the own messages."""
        headers = headers or {"Idempotency-Key": self.keys[message_id]}
        return await self.http.delete(f"/messages/{message_id}", headers=headers)


@pytest.fixture(scope="module")
async def author(pods: list[Server]) -> AsyncIterator[Author]:
    """The author, at the first pod."""
    async with pods[0].client() as http:
        yield Author(http)


@pytest.fixture(scope="module")
async def store(pods: list[Server]) -> AsyncIterator[redis.Redis]:
    """The Redis of both pods."""
    async with redis.Redis.from_url(pods[0].env["REDIS_URL"]) as store:
        yield store


async def test_edited_message_is_seen_everywhere(pods: list[Server], author: Author) -> None:
    """Every read of the pod that answered has the new words at once, and every stream the event."""
    before = await author.post("before")
    posted = await author.post("tihs <b>words</b>", "Ada")
    after = await author.post("after")
    async with EventStream(pods[0].url) as here, EventStream(pods[1].url) as there:
        await asyncio.gather(here.until("pods"), there.until("pods"))
        answer = await author.edit(posted["id"], " the <b>words</b>\r\n")
        assert answer.status_code == 200
        edited = answer.json()
        assert edited == posted | {"text": "the <b>words</b>", "edited_at": edited["edited_at"]}
        events = await asyncio.gather(here.until("edited"), there.until("edited"))
        assert [event.data for event in events] == [edited] * 2
        assert events[0].id == events[1].id > after["id"]
    for server in pods:
        async with server.client() as http:
            listing = (await http.get("/messages?limit=3")).json()["messages"]
            assert listing == [after, edited, before]
            assert await read(http, posted["id"]) == edited
            since = await http.get(f"/messages?after={before['id']}")
            assert since.json()["messages"] == [edited, after]
            for path in ("/", "/feed.atom", "/wall"):
                page = (await http.get(path)).text
                assert "the &lt;b&gt;words" in page
                assert "tihs" not in page


async def test_returning_stream_gets_the_new_words_and_the_edit(
    pods: list[Server], author: Author
) -> None:
    """From memory: a cursor before the message has both, one after it has the edit alone."""
    before = await author.post("before")
    posted = await author.post("teh")
    edited = (await author.edit(posted["id"], "the")).json()
    async with pods[1].client() as http:
        await eventually_equal(lambda: read(http, posted["id"]), edited)
    async with EventStream(pods[1].url, last_event_id=before["id"]) as from_start:
        events = await from_start.entries(2)
    assert [(event.name, event.data) for event in events] == [
        ("message", edited),
        ("edited", edited),
    ]
    async with EventStream(pods[1].url, last_event_id=posted["id"]) as from_message:
        assert (await from_message.entries(1))[0] == events[1]


async def test_later_edit_takes_the_place_of_the_earlier_one(
    pods: list[Server], author: Author, store: redis.Redis
) -> None:
    """Streams are sent each, a replay has the last one only, and Redis no other words."""
    posted = await author.post("one")
    async with EventStream(pods[1].url) as stream:
        await stream.until("pods")
        for text in ("two", "three", "four"):
            edited = (await author.edit(posted["id"], text)).json()
            assert (await stream.until("edited")).data == edited
        async with EventStream(pods[1].url, last_event_id=posted["id"]) as replayed:
            assert [event.data for event in await replayed.entries(1)] == [edited]
    raw: Any = await store.xrange(EVENTS, min=f"({posted['id']}")
    ((_, fields),) = raw
    # An older version takes what has one of the fields `text` and `deleted` for one of its own.
    assert set(fields) == {b"edited", b"body", b"pod", b"replaces"}
    assert (fields[b"body"], fields[b"replaces"].count(b",")) == (b"four", 1)
    words: Any = await store.hget(EDITS, posted["id"])
    assert words.partition(b" ")[2] == b"four"


async def test_many_edits_do_not_grow_without_bound(author: Author, store: redis.Redis) -> None:
    """The newest 20 edits of a message are remembered."""
    posted = await author.post("0")
    for number in range(1, 30):
        assert (await author.edit(posted["id"], str(number))).status_code == 200
    words: Any = await store.hget(EDITS, posted["id"])
    ids, _, text = words.partition(b" ")
    assert (len(ids.split(b",")), text) == (20, b"29")
    entries: Any = await store.xrange(EVENTS, min=posted["id"])
    assert len(entries) == 2
    assert (await author.http.get("/messages?limit=1")).json()["messages"][0]["text"] == "29"


async def test_deleted_message_stays_deleted_with_its_words(
    pods: list[Server], author: Author, store: redis.Redis
) -> None:
    """By the author or by a moderator: 404 from then on, and its words are nowhere."""
    for headers in ({}, ADMIN):
        posted = await author.post("whisper one")
        await author.edit(posted["id"], "whisper two")
        await author.edit(posted["id"], "whisper three")
        async with EventStream(pods[1].url) as stream:
            await stream.until("pods")
            answer = await author.take_back(posted["id"], **headers)
            assert (answer.status_code, answer.content) == (204, b"")
            assert (await stream.until("deleted")).data == {"id": posted["id"]}
        assert (await author.take_back(posted["id"], **headers)).status_code == 404
        assert (await author.edit(posted["id"], "again")).status_code == 404
        assert not await store.hexists(EDITS, posted["id"])
        assert b"whisper" not in repr(await store.xrange(EVENTS)).encode()
        for server in pods:
            async with EventStream(server.url, last_event_id=posted["id"]) as replayed:
                events = await replayed.entries(1)
                assert events[0].name == "deleted"


async def test_edit_that_races_a_deletion_loses(author: Author) -> None:
    """Whichever comes first, in the end the message is gone."""
    posted = [await author.post("race") for _ in range(20)]
    answers = await asyncio.gather(
        *(
            each(m["id"])
            for m in posted
            for each in (lambda i: author.edit(i, "x"), author.take_back)
        )
    )
    assert {answer.status_code for answer in answers[::2]} <= {200, 404}
    assert {answer.status_code for answer in answers[1::2]} == {204}
    listed = (await author.http.get("/messages")).json()["messages"]
    assert not [message for message in listed if message["text"] in ("x", "race")]


async def test_edit_that_waited_in_a_frozen_pod_is_not_made(serve: Serve) -> None:
    """Its client has given up, and sent newer words to another pod."""
    frozen, other = await serve("pod-a"), await serve("pod-b")
    async with other.client() as http:
        author = Author(http)
        posted = await author.post("first")

        def is_answered(before: int) -> bool:
            return frozen.lines().count('"PATCH"') > before

        for number in range(3):
            frozen.freeze()
            async with frozen.client(timeout=0.5) as impatient:
                old = Author(impatient)
                old.keys = author.keys
                with pytest.raises(httpx.ReadTimeout):
                    await old.edit(posted["id"], "older words")
            newer = (await author.edit(posted["id"], f"newer words {number}")).json()
            frozen.thaw()
            await eventually(functools.partial(is_answered, number))
            for server in (frozen, other):
                answer = await http.get(f"{server.url}/messages/{posted['id']}")
                assert answer.json()["text"] == newer["text"]


async def test_only_the_author_may_change_a_message(author: Author) -> None:
    """Another key, no key and the admin token do not edit; another key deletes nothing."""
    mine, other = await author.post("mine"), await author.post("other")
    stranger = {"Idempotency-Key": author.keys[other["id"]]}
    unknown = {"Idempotency-Key": "unknown"}
    for headers in (stranger, unknown, ADMIN, {"X-Other": "1"}):
        answer = await author.edit(mine["id"], "changed", **headers)
        problem(answer, 403)
    for headers in (stranger, unknown):
        assert (await author.take_back(mine["id"], **headers)).status_code == 403
    wrong_token = {"Authorization": "Bearer wrong", "Idempotency-Key": author.keys[mine["id"]]}
    assert (await author.take_back(mine["id"], **wrong_token)).status_code == 401
    assert (await author.take_back(mine["id"], **{"X-Other": "1"})).status_code == 401
    assert (await author.http.get("/messages?limit=2")).json()["messages"] == [other, mine]


async def test_what_cannot_be_an_edit_is_refused(author: Author) -> None:
    """As a post is, and with the same problems; an unknown message is 404."""
    posted = await author.post("words")
    path, headers = f"/messages/{posted['id']}", {"Idempotency-Key": author.keys[posted["id"]]}
    for content, kind, status in [
        (b'{"text": ""}', "application/json", 422),
        (b'{"text": "\\u200b"}', "application/json", 422),
        (b'{"text": 1}', "application/json", 422),
        (b"{}", "application/json", 422),
        (b"{", "application/json", 422),
        (json.dumps({"text": "x" * 1001}).encode(), "application/json", 422),
        (b'{"text": "' + b"x" * 20_000, "application/json", 413),
        (b"text=words", "application/x-www-form-urlencoded", 415),
    ]:
        answer = await author.http.patch(
            path, content=content, headers=headers | {"Content-Type": kind}
        )
        assert answer.status_code == status, content
    assert answer.headers["accept-patch"] == "application/json"
    assert (await author.edit(posted["id"], "x", **{"Idempotency-Key": "a b"})).status_code == 422
    evil = headers | {"Origin": "https://evil.example"}
    assert (await author.edit(posted["id"], "x", **evil)).status_code == 403
    for message_id in ("1-0", "9999999999999-0", "nonsense"):
        assert (await author.edit(message_id, "x", **headers)).status_code == 404
    assert (await author.http.get(path)).json() == posted


async def test_window_ends(serve: Serve) -> None:
    """After GUESTBOOK_UNDO_SECONDS the author is too late; with 0 changing is switched off."""
    off = await serve("off", GUESTBOOK_UNDO_SECONDS="0", GUESTBOOK_ADMIN_TOKEN=TOKEN)
    short = await serve("short", GUESTBOOK_UNDO_SECONDS="3")
    async with off.client() as http:
        author = Author(http)
        posted = await author.post("words")
        for answer in (await author.edit(posted["id"], "x"), await author.take_back(posted["id"])):
            assert answer.status_code == 403
            assert answer.json()["code"] == "final"
            assert "switched off" in answer.json()["detail"]
    async with short.client() as http:
        author.http = http

        async def is_too_late() -> bool:
            answer = await author.edit(posted["id"], "x")
            return answer.status_code == 403 and answer.json()["code"] == "too_late"

        await eventually(is_too_late)
        assert (await author.take_back(posted["id"])).status_code == 403
        # Without an admin token, authors may take back all the same.
        fresh = await author.post("fresh")
        assert (await author.take_back(fresh["id"])).status_code == 204
        assert (await author.take_back(posted["id"], **{"X-Other": "1"})).status_code == 403


async def test_edits_count_as_posts(serve: Serve) -> None:
    """Each of them goes to all visitors."""
    server = await serve(GUESTBOOK_POST_RATE="3/1h")
    async with server.client() as http:
        author = Author(http)
        posted = await author.post("words")
        statuses = [(await author.edit(posted["id"], str(n))).status_code for n in range(3)]
        assert statuses == [200, 200, 429]
        assert (await author.take_back(posted["id"])).status_code == 204


async def test_new_words_are_read_from_redis_too(serve: Serve, redis_url: str) -> None:
    """Older than a pod's memory: in lists, in one message, in a replay, and in an export."""
    server = await serve()
    async with server.client() as http, redis.Redis.from_url(redis_url) as store:
        author = Author(http)
        posted = await author.post("teh")
        edited = (await author.edit(posted["id"], "the")).json()
        long = "x" * 100_000
        async with store.pipeline(transaction=False) as pipeline:
            for _ in range(60):
                pipeline.xadd(EVENTS, {"text": long, "pod": "pod-b"})
            pipeline.xadd(EVENTS, {"text": "last", "pod": "pod-b"})
            last = (await pipeline.execute())[-1].decode()
        await server.until(f"/messages/{last}", 200)
        # Edited while it is in Redis only.
        edited = (await author.edit(posted["id"], "the one")).json()
        assert await read(http, posted["id"]) == edited
        assert (await http.get("/messages?after=0-0&limit=1")).json()["messages"] == [edited]
        before = f"/messages?before={posted['id'].partition('-')[0]}-1"
        assert (await http.get(before)).json()["messages"] == [edited]
        async with EventStream(server.url, last_event_id="0-0") as stream:
            assert (await stream.entries(1))[0].data == edited
        async with EventStream(server.url, last_event_id=last) as stream:
            event = (await stream.entries(1))[0]
            assert (event.name, event.data) == ("edited", edited)
    exported = await asyncio.to_thread(guestbook, "export", redis=redis_url)
    assert json.loads(exported.stdout.splitlines()[1]) == edited


async def test_edit_survives_export_and_import(
    author: Author, pods: list[Server], redis_url: str
) -> None:
    """The imported message has its new text, and the time of its edit."""
    posted = await author.post("teh", "Ada")
    edited = (await author.edit(posted["id"], "the")).json()
    here = pods[0].env["REDIS_URL"]
    exported = await asyncio.to_thread(guestbook, "export", redis=here)
    given = exported.stdout
    imported = await asyncio.to_thread(guestbook, "import", "-", redis=redis_url, given=given)
    assert imported.returncode == 0, imported.stderr
    listed = await asyncio.to_thread(guestbook, "list", "--json", "--limit", "1", redis=redis_url)
    assert json.loads(listed.stdout) == edited


async def test_words_of_trimmed_edits_are_forgotten(serve: Serve, redis_url: str) -> None:
    """By number here: the hash has no more words than the stream has edits."""
    server = await serve(GUESTBOOK_MAX_MESSAGES="5")
    async with server.client() as http, redis.Redis.from_url(redis_url) as store:
        author = Author(http)
        for number in range(8):
            posted = await author.post(str(number))
            assert (await author.edit(posted["id"], f"{number}!")).status_code == 200
        assert await store.xlen(EVENTS) == 5
        raw: Any = await store.xrange(EVENTS)
        edited = {fields[b"edited"] for _, fields in raw if b"edited" in fields}
        assert set(await store.hkeys(EDITS)) == edited
        assert await texts(http) == ["7!", "6!"]


async def test_words_of_expired_edits_are_forgotten(serve: Serve, redis_url: str) -> None:
    """By age, without a post."""
    server = await serve(GUESTBOOK_MAX_AGE="3s")
    async with server.client() as http, redis.Redis.from_url(redis_url) as store:
        author = Author(http)
        posted = await author.post("teh")
        assert (await author.edit(posted["id"], "the")).status_code == 200

        async def is_empty() -> bool:
            return not await store.xlen(EVENTS) and not await store.exists(EDITS)

        await eventually(is_empty)
