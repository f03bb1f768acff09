"""`GET /events`: which events come, in which order, after which cursor."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve, two_pods
from tests.support.raw import connect
from tests.support.servers import Server
from tests.support.sse import Event, EventStream, Visitor
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import PATIENCE, allowed, eventually

_TOKEN = "let me delete"
_EVENTS = "{guestbook}:events"
# Entries from before the servers start; compared as text 5-10 would come before 5-9.
_OLD = ("5-9", "5-10", "5-11", "10-0")


@dataclass
class Pods:
    """Two pods on one Redis, a client for both, and when pings of one of them came."""

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
            headers={"Authorization": f"Bearer {_TOKEN}"},
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
        one, two = await two_pods(serve_shared, redis=redis_url, GUESTBOOK_ADMIN_TOKEN=_TOKEN)
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


async def test_first_bytes_come_at_once(pods: Pods) -> None:
    """A stream opens with a comment, `retry:` and a `pods` event, without waiting for a message.

    They are one block, because a block without an event is an empty message to some clients.
    """
    started = time.monotonic()
    async with EventStream(pods.one.url) as stream:
        event = await stream.next()
        assert time.monotonic() - started < allowed(1)
        assert event is not None
        assert event.name == "pods"
        assert len(stream.comments) == 1
        assert len(stream.retries) == 1


async def test_first_bytes_are_comment_then_retry(pods: Pods) -> None:
    """The comment and `retry:` come before every event, so that a proxy sees the stream open."""
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


async def test_visitor_without_a_cursor_misses_nothing(pods: Pods) -> None:
    """Its first connection is cut before a message came; the second goes on from there."""
    visitor = Visitor(None)
    await visitor.visit(pods.one.url, seconds=0.5)
    assert (visitor.events, visitor.cursor is None) == ([], False)
    missed = await pods.post("missed")
    await visitor.visit(pods.two.url, seconds=5, last=missed["id"])
    assert visitor.texts == ["missed"]


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


@pytest.mark.parametrize(
    "cursor",
    ["abc", "1-", "-1", "1-2-3", "1.5", "1e3", "$", "+", "0x10", "1 2", "18446744073709551616-0",
     "1-18446744073709551616", "9" * 5000, "null"],
)  # fmt: skip
async def test_invalid_cursor_is_refused(pods: Pods, cursor: str) -> None:
    """A cursor that is not an id gets 422, which names the header or the parameter."""
    by_header = await pods.http.get(f"{pods.one.url}/events", headers={"Last-Event-ID": cursor})
    by_query = await pods.http.get(f"{pods.one.url}/events", params={"after": cursor})
    for answer, field in ((by_header, "last-event-id"), (by_query, "after")):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert field in answer.text.lower()


async def test_cursor_that_is_not_text_is_refused(pods: Pods) -> None:
    """A cursor with bytes that are neither ASCII nor UTF-8 gets 422."""
    answer = await pods.http.get(
        f"{pods.one.url}/events", headers=[(b"Last-Event-ID", b"\xff\xfe\xb2")]
    )
    assert answer.status_code == 422
    answer = await pods.http.get(f"{pods.one.url}/events?after=%ff%00%0a")
    assert answer.status_code == 422


async def test_cursor_of_one_pod_works_on_another(pods: Pods) -> None:
    """A stream that was cut continues on another pod."""
    async with EventStream(pods.one.url) as here:
        await here.until("pods")
        seen = await pods.post("seen here")
        assert (await here.until("message")).id == seen["id"]
        missed = await pods.post("missed")
    async with EventStream(pods.two.url, last_event_id=here.cursor) as there:
        later = await pods.post("later")
        assert [event.data for event in await there.entries(2)] == [missed, later]


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


async def test_stream_over_http_1_0(pods: Pods) -> None:
    """nginx uses it by default. There are no chunks (RFC 9112, 6.1): the connection is the end."""
    start = (await pods.post("start"))["id"]
    async with EventStream(pods.one.url, last_event_id=start, version="1.0") as stream:
        assert stream.head.status == 200
        assert "transfer-encoding" not in stream.head.headers
        assert stream.head.headers["connection"] == "close"
        event = await stream.next()
        assert event is not None
        assert event.name == "pods"
        posted = [await pods.post(str(number)) for number in range(3)]
        assert [event.data for event in await stream.entries(3)] == posted


async def test_stream_with_a_request_behind_it(pods: Pods) -> None:
    """Another request in the same segment (pipelining) does not disturb the stream."""
    start = (await pods.post("start"))["id"]
    further = b"GET /healthz HTTP/1.1\r\nHost: guestbook\r\n\r\n"
    async with EventStream(pods.one.url, last_event_id=start, further=further) as stream:
        assert stream.head.status == 200
        event = await stream.next()
        assert event is not None
        assert event.name == "pods"
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


async def test_head_and_other_methods_open_no_stream(pods: Pods) -> None:
    """`/events` allows only GET, beside OPTIONS."""
    for method in ("HEAD", "POST", "PUT", "DELETE"):
        answer = await pods.http.request(method, f"{pods.one.url}/events")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, OPTIONS"


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


async def test_clients_that_come_and_go_miss_nothing(pods: Pods) -> None:
    """A hundred clients reconnect at random, to any pod: each gets every entry once, in order."""
    chance = random.Random(7)
    both = (pods.one, pods.two)
    start = (await pods.post("start"))["id"]
    visitors = [Visitor(start) for _ in range(100)]
    last = ""

    async def wander(visitor: Visitor) -> None:
        while not last:
            await visitor.visit(chance.choice(both).url, seconds=chance.uniform(0.02, 0.8))
        while visitor.cursor != last:
            await visitor.visit(chance.choice(both).url, seconds=5, last=last)

    async def write() -> str:
        ids = []
        for number in range(80):
            ids.append((await pods.post(f"message {number}", chance.choice(both)))["id"])
            if chance.random() < 0.2:
                await pods.delete(ids.pop(chance.randrange(len(ids))), chance.choice(both))
            await asyncio.sleep(chance.uniform(0, 0.03))
        return str((await pods.post("last"))["id"])

    async with EventStream(pods.one.url, last_event_id=start) as reference:
        tasks = [asyncio.create_task(wander(visitor)) for visitor in visitors]
        last = await write()
        everything: list[Event] = []
        while not everything or everything[-1].id != last:
            everything += await reference.entries(1)
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    taken = {event.data["id"] for event in everything if event.name == "deleted"}
    assert taken
    assert sum(visitor.visits for visitor in visitors) > 250
    for visitor in visitors:
        # Of a message that was deleted before the client came back it gets only the deletion.
        had = set(visitor.ids)
        expected = [e for e in everything if e.id in had or e.id not in taken]
        assert visitor.events == expected


async def test_slow_readers_are_dropped_and_miss_nothing(serve: Serve, redis_url: str) -> None:
    """Clients that do not read are cut off; when they come back they have missed nothing.

    Their cursor is older than what the process has in memory (8 MiB), so that it is read from
    Redis, while messages are being posted.
    """
    server = await serve()
    async with server.client() as http:
        start = (await http.post("/messages", json={"text": "start"})).json()["id"]
        published: list[str] = []
        sleepers = [_sleeper(server.port, start) for _ in range(20)]
        reader = Visitor(start)
        reading = asyncio.create_task(reader.stay(server.url))
        await eventually(lambda: _has_streams(http, 21))
        memory = _resident_mib(server.pid)
        async with redis_client(redis_url) as redis:
            # 1000 characters of four bytes: the largest possible message.
            for _ in range(20):
                pipeline = redis.pipeline(transaction=False)
                for number in range(250):
                    text = f"{number:04}" + "\N{SLEEPING SYMBOL}" * 996
                    pipeline.xadd(_EVENTS, {"text": text, "pod": "x"})
                published += await pipeline.execute()
                # No faster than this client can read: only the others are slow.
                await eventually(partial(reader.has, len(published)))
        assert reader.ids == published
        assert reader.visits == 1
        await eventually(lambda: _has_streams(http, 1))
        assert _resident_mib(server.pid) - memory < 48

        back = Visitor(start)
        returning = asyncio.create_task(back.visit(server.url))
        for number in range(20):
            answer = await http.post("/messages", json={"text": f"meanwhile {number}"})
            published.append(answer.json()["id"])
        await eventually(partial(back.has, len(published)))
        await eventually(partial(reader.has, len(published)))
        assert back.ids == published
        assert reader.ids == published
        for task in (reading, returning):
            task.cancel()
        await asyncio.gather(reading, returning, return_exceptions=True)
        for sleeper in sleepers:
            sleeper.close()
    assert '"reason": "slow"' in server.lines()


async def test_clients_that_leave_while_they_are_written_to(serve: Serve, redis_url: str) -> None:
    """At whatever moment they leave: others are not disturbed, nothing fails, none is left over."""
    server = await serve()
    async with redis_client(redis_url) as redis, server.client() as http:
        reader = Visitor("0-0")
        reading = asyncio.create_task(reader.stay(server.url))
        leavers = [_sleeper(server.port, "0-0") for _ in range(200)]
        await eventually(lambda: _has_streams(http, 201))
        for number, leaver in enumerate(leavers):
            # Every other connection is reset instead of closed.
            linger = struct.pack("ii", number % 2, 0)
            leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            leaver.close()
            await redis.xadd(_EVENTS, {"text": str(number), "pod": "x"})
        await eventually(lambda: reader.has(200))
        await eventually(lambda: _has_streams(http, 1))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert reader.texts == [str(number) for number in range(200)]
    assert reader.visits == 1
    assert "Traceback" not in server.lines()


async def test_streams_share_reads_from_redis(serve: Serve, redis_url: str) -> None:
    """Many streams with old cursors cost Redis hardly more than one, and each gets what it missed.

    A message that is deleted after it was read is not sent to streams that come later.
    """
    server = await serve(GUESTBOOK_MAX_MESSAGES="50", GUESTBOOK_ADMIN_TOKEN=_TOKEN)
    async with redis_client(redis_url) as redis, server.client() as http:

        async def reads() -> int:
            stats = await redis.info("commandstats")
            return int(stats.get("cmdstat_xrange", {"calls": 0})["calls"])

        async def come_back(cursors: list[str]) -> list[list[str]]:
            back = [Visitor(cursor) for cursor in cursors]
            visits = (each.visit(server.url, seconds=30, last=last) for each in back)
            await asyncio.gather(*visits)
            return [each.ids for each in back]

        pipeline = redis.pipeline(transaction=False)
        for number in range(400):
            pipeline.xadd(_EVENTS, {"text": f"{number:04}" * 1000, "pod": "x"})
        ids = await pipeline.execute()
        last = ids[-1]
        await eventually(lambda: _lists(http, last))

        before = await reads()
        assert await come_back(ids[:1]) == [ids[1:]]
        alone = await reads() - before
        assert alone > 10
        assert await come_back(ids[:30]) == [ids[n + 1 :] for n in range(30)]
        assert await reads() - before < 4 * alone

        # This one does not read, so that the chunk that was read for it is still in memory.
        sleeper = _sleeper(server.port, ids[0])
        await eventually(lambda: _has_streams(http, 1))
        await come_back(ids[:2])
        answer = await http.delete(
            f"/messages/{ids[5]}", headers={"Authorization": f"Bearer {_TOKEN}"}
        )
        assert answer.status_code == 204, answer.text
        (last,) = [entry_id for entry_id, _ in await redis.xrange(_EVENTS, f"({last}")]
        kept = [entry_id for entry_id in ids if entry_id != ids[5]]
        assert await come_back(ids[:1]) == [[*kept[1:], last]]
        sleeper.close()


async def _lists(http: httpx.AsyncClient, message_id: str) -> bool:
    messages = (await http.get("/messages")).json()["messages"]
    return [message["id"] for message in messages[:1]] == [message_id]


def _sleeper(port: int, cursor: str) -> socket.socket:
    """Open a stream and never read it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET /events?after={cursor} HTTP/1.1\r\nHost: guestbook\r\n\r\n".encode())
    return client


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


async def _has_streams(http: httpx.AsyncClient, number: int) -> bool:
    return f"\nguestbook_streams {number}.0\n" in (await http.get("/metrics")).text


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


async def test_streams_are_limited(serve: Serve) -> None:
    """Over either limit a client gets 503 and a `Retry-After` in whole seconds that varies.

    A place that becomes free can be taken again.
    """
    server = await serve(GUESTBOOK_MAX_STREAMS="5", GUESTBOOK_MAX_STREAMS_PER_ADDRESS="3")
    async with contextlib.AsyncExitStack() as stack, httpx.AsyncClient(verify=False) as http:

        async def opened(source: str) -> EventStream:
            return await stack.enter_async_context(EventStream(server.url, source=source))

        streams = [await opened("127.0.0.1") for _ in range(3)]
        assert [stream.head.status for stream in streams] == [200] * 3
        assert (await opened("127.0.0.1")).head.status == 503

        more = [await opened("127.0.0.2") for _ in range(3)]
        assert [stream.head.status for stream in more] == [200, 200, 503]

        waits = set()
        for source in ("127.0.0.1", "127.0.0.3"):
            for _ in range(15):
                async with EventStream(server.url, source=source) as stream:
                    assert stream.head.status == 503
                    assert stream.head.headers["content-type"] == "application/problem+json"
                    assert b"streams" in await stream.body()
                    waits.add(int(stream.head.headers["retry-after"]))
        assert len(waits) > 2
        assert min(waits) >= 1
        assert (await http.get(f"{server.url}/ready")).status_code == 200

        streams[0].cut()

        async def is_free() -> bool:
            return (await opened("127.0.0.1")).head.status == 200

        await eventually(is_free)
        assert (await opened("127.0.0.1")).head.status == 503


async def test_flushed_redis_resets_streams(serve: Serve, valkey: Valkey) -> None:
    """When Redis has lost its data every open stream gets `reset`, and no old message is shown."""
    server = await serve(redis=valkey.address)
    async with server.client() as http:
        for number in range(3):
            old = (await http.post("/messages", json={"text": f"old {number}"})).json()["id"]
        async with (
            EventStream(server.url) as stream,
            EventStream(server.url, version="1.0") as plain,
            valkey.client() as redis,
        ):
            await stream.until("pods")
            await plain.until("pods")
            await redis.flushall()
            for each in (stream, plain):
                assert (await each.entries(1))[0].name == "reset"
            assert (await http.get("/messages")).json()["messages"] == []
            assert "old 1" not in (await http.get("/")).text
            message = (await http.post("/messages", json={"text": "new"})).json()
            for each in (stream, plain):
                assert [event.data for event in await each.entries(1)] == [message]
        async with EventStream(server.url, last_event_id=old) as back:
            assert (await back.entries(1))[0].name in ("reset", "message")
            assert (await http.get("/messages")).json()["messages"] == [message]
        assert (await http.get("/ready")).status_code == 200


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
            # As long as three reads of the follower, each of which once sent a `reset`.
            await asyncio.sleep(3)
            message = (await http.post("/messages", json={"text": "new"})).json()
            assert [event.data for event in await stream.entries(1)] == [message]


async def test_ping_comes_every_15_seconds(pods: Pods) -> None:
    """A page recognises a dead stream by its silence. (The other tests ran meanwhile.)"""
    opened, first, second = await pods.pings
    assert first - opened < 15 + allowed(1)
    assert abs(second - first - 15) < allowed(1)
