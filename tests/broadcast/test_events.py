"""`GET /events`: which events come, in which order, after which cursor."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest

from tests.conftest import Serve, two_pods
from tests.support.messages import ADMIN, TOKEN, problem, texts
from tests.support.raw import connect
from tests.support.servers import Server
from tests.support.sse import Event, EventStream
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import PATIENCE, allowed, eventually

_EVENTS = "{guestbook}:events"
# Entries from before the servers start; compared as text 5-10 would come before 5-9.
_OLD = ("5-9", "5-10", "5-11", "10-0")


@dataclass
class Pods:
    """Two pods on one Redis, a client for both, and the times of one pod's pings."""

    one: Server
    two: Server
    redis: Any
    http: httpx.AsyncClient
    pings: asyncio.Task[list[float]]

    async def post(self, text: str, pod: Server | None = None) -> dict[str, Any]:
        """Post a message, and return it as the response has it."""
        answer = await self.http.post(f"{(pod or self.one).url}/messages", json={"text": text})
        assert answer.status_code == 201, answer.text
        message: dict[str, Any] = answer.json()
        return message

    async def delete(self, message_id: str, pod: Server | None = None) -> None:
        answer = await self.http.delete(
            f"{(pod or self.one).url}/messages/{message_id}",
            headers=ADMIN,
        )
        assert answer.status_code == 204, answer.text

    async def stored(self, after: str = "-") -> list[str]:
        """Return the ids of all entries in Redis, or of those after one."""
        start = after if after == "-" else f"({after}"
        return [entry_id for entry_id, _ in await self.redis.xrange(_EVENTS, start)]

    async def have_read_all(self) -> None:
        """Wait until both pods have what is stored: new streams begin after it."""
        last = (await self.stored())[-1]
        for pod in (self.one, self.two):
            await eventually(partial(_has_read, pod.url, last))


async def _has_read(url: str, entry_id: str) -> bool:
    """Return whether this entry is the last that a pod has read: a new stream begins after it."""
    async with EventStream(url) as stream:
        return (await stream.until("pods")).id == entry_id


async def _note_pings(url: str, count: int) -> list[float]:
    """Return when a stream was opened, and when each of its first pings came."""
    async with EventStream(url) as stream:
        times = [time.monotonic()]
        while len(times) <= count:
            await stream.until("ping")
            times.append(time.monotonic())
    return times


@pytest.fixture(scope="module")
async def pods(serve_shared: Serve, shared_valkey: Valkey) -> AsyncIterator[Pods]:
    """Start two pods for all tests that break nothing: they look at what comes after a cursor."""
    redis_url = shared_valkey.new_database()
    async with redis_client(redis_url) as redis, httpx.AsyncClient() as http:
        for entry_id in _OLD:
            await redis.xadd(_EVENTS, {"text": entry_id, "pod": "old"}, id=entry_id)
        one, two = await two_pods(serve_shared, redis=redis_url, GUESTBOOK_ADMIN_TOKEN=TOKEN)
        pings = asyncio.create_task(_note_pings(one.url, 2))
        yield Pods(one, two, redis, http, pings)
        pings.cancel()
        await asyncio.gather(pings, return_exceptions=True)


def _ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


async def test_posted_message_reaches_open_stream(
    server: Server, client: httpx.AsyncClient
) -> None:
    """A message that is posted on a pod arrives on its streams as the API returned it."""
    async with EventStream(server.url) as stream:
        assert (await stream.until("pods")).data["streams"] == 1
        answer = await client.post("/messages", json={"text": "hello", "author": "Ada"})
        event = await stream.until("message")
        assert event.data == answer.json()
        assert event.id == answer.json()["id"]


async def test_streams_of_two_pods_agree(pods: Pods) -> None:
    """Two pods on one Redis send the same messages in the same order."""
    await pods.have_read_all()
    async with EventStream(pods.one.url) as left, EventStream(pods.two.url) as right:
        posted = [await pods.post(str(n), pod) for n, pod in enumerate([pods.one, pods.two] * 5)]
        assert await left.messages(10) == posted
        assert await right.messages(10) == posted


async def test_first_block_is_comment_retry_and_pods(pods: Pods) -> None:
    """It comes at once, so that a proxy sees the stream open, and is one block with an event.

    A block without an event is an empty message to some clients.
    """
    async with asyncio.timeout(PATIENCE), connect(pods.one.port) as (reader, writer):
        writer.write(b"GET /events HTTP/1.1\r\nHost: guestbook\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"data:")
    assert b"transfer-encoding: chunked" in head.lower()
    assert re.fullmatch(rb"[0-9a-f]+\r\n:[^\n]*\nretry: \d+\nid: \d+-\d+\nevent: pods\ndata:", body)


async def test_first_event_has_the_cursor(pods: Pods) -> None:
    """A client that is cut off before its first message misses nothing.

    A cursor that the client sent is repeated. Later `pods` events have no id.
    """
    start = (await pods.post("start"))["id"]
    async with EventStream(pods.one.url) as stream:
        assert (await stream.until("pods")).id == start
    missed = await pods.post("missed")
    await pods.have_read_all()
    async with (
        EventStream(pods.two.url, last_event_id=stream.cursor) as back,
        EventStream(pods.two.url) as another,
    ):
        assert (await back.until("pods")).id == start
        assert [event.data for event in await back.entries(1)] == [missed]
        assert (await another.until("pods")).id == missed["id"]
        message = await pods.post("not delivered by the first event")
        assert [event.data for event in await another.entries(1)] == [message]


async def test_headers_keep_proxies_from_storing_and_buffering(pods: Pods) -> None:
    """The response is an event stream that must be neither stored nor buffered."""
    async with EventStream(pods.one.url) as stream:
        headers = stream.head.headers
        assert stream.head.status == 200
        assert headers["content-type"] in ("text/event-stream", "text/event-stream; charset=utf-8")
        # Without no-transform, a proxy that compresses would hold events back.
        assert headers["cache-control"] == "no-store, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert headers["x-content-type-options"] == "nosniff"
        assert "content-length" not in headers


async def test_retry_differs_from_stream_to_stream(pods: Pods) -> None:
    """Clients that were cut off together do not come back together."""
    retries = set()
    for _ in range(10):
        async with EventStream(pods.one.url) as stream:
            await stream.next()
            retries.add(stream.retries[0])
    assert len(retries) > 2
    assert all(0 < each <= 10_000 for each in retries)


async def test_cursor_is_last_event_id_then_after_then_now(pods: Pods) -> None:
    """`Last-Event-ID` wins over `?after`, and without both a stream begins with what comes next."""
    a, b, c = [(await pods.post(text))["id"] for text in "abc"]
    url = pods.one.url
    async with (
        EventStream(url, after=a, last_event_id=b) as by_header,
        EventStream(url, after=a) as by_query,
        EventStream(url) as by_nothing,
    ):
        await by_nothing.until("pods")
        d = (await pods.post("d"))["id"]
        assert _ids(await by_header.entries(2)) == [c, d]
        assert _ids(await by_query.entries(3)) == [b, c, d]
        assert _ids(await by_nothing.entries(1)) == [d]


@pytest.mark.parametrize("cursor", ["abc", "-1", "1e3", "$", "9" * 5000, "\xff\xfe\xb2"])
async def test_invalid_cursor_is_refused(pods: Pods, cursor: str) -> None:
    """A cursor that is not an id gets 422, which names the header or the parameter."""
    url = f"{pods.one.url}/events"
    by_header = await pods.http.get(url, headers=[(b"Last-Event-ID", cursor.encode("latin-1"))])
    by_query = await pods.http.get(url, params={"after": cursor})
    problem(by_header, 422, "Last-Event-ID")
    problem(by_query, 422, "after")


async def test_ids_compare_as_numbers(pods: Pods) -> None:
    """5-10 comes after 5-9 and before 10-0 in a replay."""
    for number, cursor in enumerate(_OLD[:-1]):
        async with EventStream(pods.one.url, last_event_id=cursor) as stream:
            rest = _OLD[number + 1 :]
            assert tuple(_ids(await stream.entries(len(rest)))) == rest


async def test_ids_of_one_millisecond_come_in_order(pods: Pods) -> None:
    """Each comes once, in the order of the second number."""
    now = int(time.time() * 1000)
    async with EventStream(pods.one.url) as live:
        await live.until("pods")
        written = [f"{now}-{number}" for number in (8, 9, 10, 11)]
        for entry_id in written:
            await pods.redis.xadd(_EVENTS, {"text": entry_id, "pod": "x"}, id=entry_id)
        assert _ids(await live.entries(4)) == written
    async with EventStream(pods.two.url, last_event_id=f"{now}-9") as stream:
        assert _ids(await stream.entries(2)) == written[2:]


async def test_cursor_zero_replays_everything(pods: Pods) -> None:
    """After 0-0 a client gets every stored entry once and in order, then new ones."""
    before = await pods.stored()
    async with EventStream(pods.two.url, after="0-0") as stream:
        last = (await pods.post("the last"))["id"]
        assert _ids(await stream.entries(len(before) + 1)) == [*before, last]


async def test_deletion_is_an_event_of_its_own(pods: Pods) -> None:
    """`deleted` names the message, has its own id, and reaches the streams of all pods."""
    await pods.have_read_all()
    async with EventStream(pods.one.url) as left, EventStream(pods.two.url) as right:
        await left.until("pods")
        await right.until("pods")
        message = await pods.post("not for long")
        await pods.delete(message["id"], pods.two)
        for stream in (left, right):
            said, taken = await stream.entries(2)
            assert said.data == message
            assert taken.name == "deleted"
            assert taken.data == {"id": message["id"]}
            assert taken.id not in ("", message["id"])
            assert taken.id == (await pods.stored(said.id))[0]


async def test_deletion_is_replayed_and_its_message_is_not(pods: Pods) -> None:
    """A client that comes back gets the deletion, and not the deleted message."""
    start = (await pods.post("start"))["id"]
    gone = (await pods.post("gone"))["id"]
    kept = (await pods.post("kept"))["id"]
    await pods.delete(gone)
    deletion = (await pods.stored(kept))[0]
    last = (await pods.post("last"))["id"]
    for cursor, expected in (
        (start, [kept, deletion, last]),
        (gone, [kept, deletion, last]),
        (kept, [deletion, last]),
        (deletion, [last]),
    ):
        async with EventStream(pods.one.url, last_event_id=cursor) as stream:
            assert _ids(await stream.entries(len(expected))) == expected


async def test_unknown_entries_break_no_stream(pods: Pods) -> None:
    """Entries of unknown kinds, and entries that are not UTF-8, stop neither streams nor pages."""
    start = (await pods.post("start"))["id"]
    async with (
        EventStream(pods.one.url, last_event_id=start) as live,
        EventStream(pods.two.url, last_event_id=start) as other,
    ):
        await live.until("pods")
        await other.until("pods")
        unknown = await pods.redis.xadd(_EVENTS, {"foo": "bar"})
        await pods.redis.xadd(_EVENTS, {"deleted": "not an id"})
        await pods.redis.xadd(_EVENTS, {b"deleted": b"\xff"})
        await pods.redis.xadd(_EVENTS, {b"\xff": b"\xff"})
        broken = await pods.redis.xadd(
            _EVENTS, {b"text": b"a\xff\xc3", b"author": b"\xed\xa0\x80", b"pod": b"\xfe"}
        )
        last = (await pods.post("after all"))["id"]
        async with (
            EventStream(pods.one.url, last_event_id=start) as from_start,
            EventStream(pods.two.url, last_event_id=unknown) as from_unknown,
        ):
            for stream in (live, other, from_start, from_unknown):
                events = await stream.entries(2)
                assert _ids(events) == [broken, last]
                assert events[0].data["text"].startswith("a\N{REPLACEMENT CHARACTER}")
    for path in ("/", "/messages", f"/messages/{broken}", "/healthz", "/ready"):
        assert (await pods.http.get(pods.two.url + path)).status_code == 200
    assert (await pods.http.get(f"{pods.two.url}/messages/{unknown}")).status_code == 404
    assert "Traceback" not in pods.one.lines() + pods.two.lines()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_stream_that_stays_with_the_server(pods: Pods, version: str) -> None:
    """HTTP/1.0, which nginx uses by default, and another request in the same segment (pipelining).

    HTTP/1.0 has no chunks (RFC 9112, 6.1): the connection is the end.
    """
    start = (await pods.post("start"))["id"]
    further = b"GET /healthz HTTP/1.1\r\nHost: guestbook\r\n\r\n" if version == "1.1" else b""
    async with EventStream(
        pods.one.url, last_event_id=start, version=version, further=further
    ) as stream:
        assert stream.head.status == 200
        if version == "1.0":
            assert "transfer-encoding" not in stream.head.headers
            assert stream.head.headers["connection"] == "close"
        first = await stream.next()
        assert first is not None
        assert first.name == "pods"
        posted = [await pods.post(str(number)) for number in range(3)]
        assert [event.data for event in await stream.entries(3)] == posted


async def test_bytes_on_an_open_stream_are_ignored(pods: Pods) -> None:
    """Whatever a client sends after its request, the stream goes on."""
    async with EventStream(pods.one.url) as stream:
        await stream.until("pods")
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\xff" * 1000, b"\r\n"):
            stream.send(data)
            message = await pods.post("still here?")
            assert (await stream.until("message")).data == message
    assert "Traceback" not in pods.one.lines()


async def test_half_closed_connection_causes_no_error(pods: Pods) -> None:
    """A client that has closed its sending side gets the stream, or is disconnected."""
    async with EventStream(pods.one.url) as stream:
        await stream.until("pods")
        stream.send_eof()
        with contextlib.suppress(asyncio.IncompleteReadError, AssertionError, ConnectionError):
            message = await pods.post("half closed")
            assert (await stream.entries(1))[0].data == message
    assert "Traceback" not in pods.one.lines()


async def test_cursor_ahead_of_its_pod_waits(pods: Pods) -> None:
    """A pod that lags behind sends a client nothing that it has had from another pod."""
    await pods.post("start")
    pods.two.freeze()
    try:
        async with pods.redis.pipeline(transaction=False) as pipeline:
            for number in range(3000):
                pipeline.xadd(_EVENTS, {"text": f"backlog {number}", "pod": "x"})
            seen = (await pipeline.execute())[-1]
        opening = asyncio.create_task(_open(pods.two, seen))
        await asyncio.sleep(0.05)  # so that the connection waits in the frozen pod's queue
        next_one = (await pods.post("next"))["id"]
    finally:
        pods.two.thaw()
    stream = await opening
    last = (await pods.post("last", pods.two))["id"]
    assert _ids(await stream.entries(2)) == [next_one, last]
    stream.cut()


async def _open(server: Server, cursor: str) -> EventStream:
    return await EventStream(server.url, last_event_id=cursor).__aenter__()


async def test_cursor_from_the_future_is_reset(pods: Pods) -> None:
    """Redis never had such an id, so its data was lost: the client loads the list again."""
    last = (await pods.post("last"))["id"]
    future = f"{int(time.time() * 1000) + 3_600_000}-0"
    async with EventStream(pods.one.url, last_event_id=future) as stream:
        (reset,) = await stream.entries(1)
        assert reset.name == "reset"
        assert reset.id == last
        message = await pods.post("after it")
        assert (await stream.entries(1))[0].data == message


async def test_trimmed_cursor_is_reset(serve: Serve) -> None:
    """A stream whose cursor is too old begins with `reset`, whose id is its new cursor.

    A client that has seen everything that was trimmed misses nothing, and gets no `reset`.
    """
    server, other = await asyncio.gather(
        serve("pod-a", GUESTBOOK_MAX_MESSAGES="5"), serve("pod-b", GUESTBOOK_MAX_MESSAGES="5")
    )
    async with server.client() as http:

        async def post(text: str) -> str:
            return str((await http.post("/messages", json={"text": text})).json()["id"])

        ids = [await post(str(number)) for number in range(12)]
        late = await serve("pod-c", GUESTBOOK_MAX_MESSAGES="5")
        listed = (await http.get("/messages")).json()["messages"]
        assert [message["id"] for message in reversed(listed)] == ids[7:]
        for url in (server.url, other.url, late.url):
            await eventually(partial(_has_read, url, ids[-1]))
            for lost in ("0-0", ids[0], ids[5]):
                async with EventStream(url, last_event_id=lost) as stream:
                    (reset,) = await stream.entries(1)
                    assert (reset.name, reset.id) == ("reset", ids[-1])
                    ids.append(await post("after reset"))
                    assert _ids(await stream.entries(1)) == ids[-1:]
            async with EventStream(url, last_event_id=ids[-6]) as stream:
                events = await stream.entries(5)
                assert _ids(events) == ids[-5:]
                assert {event.name for event in events} == {"message"}


async def test_cleared_stream_resets_streams_once(serve: Serve, valkey: Valkey) -> None:
    """After the stream's key was deleted each stream gets one `reset`, and no more."""
    server = await serve(redis=valkey.address, GUESTBOOK_MAX_MESSAGES="2")
    async with server.client() as http:
        for number in range(5):
            await http.post("/messages", json={"text": f"old {number}"})
        async with EventStream(server.url) as stream, valkey.client() as redis:
            await stream.until("pods")
            await redis.delete(_EVENTS)
            assert (await stream.entries(1))[0].name == "reset"
            assert await texts(http) == []
            # As long as three reads of the follower, each of which once sent a `reset`.
            await asyncio.sleep(3)
            message = (await http.post("/messages", json={"text": "new"})).json()
            assert [event.data for event in await stream.entries(1)] == [message]


async def test_ping_comes_every_15_seconds(pods: Pods) -> None:
    """A page recognises a dead stream by its silence. (The other tests ran meanwhile.)"""
    opened, first, second = await pods.pings
    assert first - opened < 15 + allowed(1)
    assert abs(second - first - 15) < allowed(1)
