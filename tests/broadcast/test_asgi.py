"""Streams through ASGI's `send`: clients that read, that do not, and that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from guestbook.broadcast import AsgiStream, Fanout
from guestbook.core import ORIGIN, EntryId, EventLog, LogEntry, Message
from tests.support.waiting import PATIENCE, eventually


class Client:
    """The server's side of one response: what was sent, and whether the client still reads."""

    def __init__(self) -> None:
        self.body = b""
        self.is_complete = False
        self.reads = asyncio.Event()
        self.reads.set()
        self.has_left = asyncio.Event()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.reads.wait()
        assert message["type"] == "http.response.body"
        self.body += message["body"]
        self.is_complete = not message["more_body"]

    async def receive(self) -> MutableMapping[str, Any]:
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    def has(self, count: int) -> bool:
        return self.body.count(b"\n\nid: ") == count


def _fanout() -> tuple[EventLog, Fanout]:
    async def read_after(cursor: EntryId, count: int) -> Any:
        raise AssertionError("everything is in memory")

    log = EventLog(1000, 10**9)
    log.load([], low_watermark=ORIGIN, last=ORIGIN, is_complete=True)
    greeting = b"event: pods\ndata: {}\n\n"
    return log, Fanout(log, read_after, greeting=lambda: greeting, on_delivered=lambda _: None)


def _append(log: EventLog, fanout: Fanout, numbers: range, text: str = "hello") -> None:
    ids = [EntryId(number, 0) for number in numbers]
    log.append([LogEntry.encode(Message(each, None, text, "pod-a")) for each in ids], ids[-1])
    fanout.schedule_flush()


@asynccontextmanager
async def _open(fanout: Fanout) -> AsyncIterator[tuple[AsgiStream, Client, asyncio.Task[None]]]:
    client = Client()
    stream = AsgiStream(fanout, "10.0.0.1", ORIGIN)
    running = asyncio.create_task(stream.run(client.receive, client.send))
    try:
        yield stream, client, running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(fanout) == 0


async def test_entries_are_sent_as_they_come() -> None:
    """Without chunks of HTTP, which are the server's part."""
    log, fanout = _fanout()
    async with _open(fanout) as (_, client, running):
        await eventually(lambda: client.body.endswith(b"data: {}\n\n"))
        _append(log, fanout, range(1, 4))
        await eventually(lambda: client.has(3))
        assert not client.is_complete
        assert not running.done()


async def test_client_that_does_not_read_is_paused() -> None:
    """Little is kept for it; when it reads again it is sent everything, once and in order."""
    log, fanout = _fanout()
    async with _open(fanout) as (stream, client, _):
        await eventually(lambda: client.body != b"")
        client.reads.clear()
        for first in range(1, 101, 10):
            _append(log, fanout, range(first, first + 10), "x" * 3000)
            await asyncio.sleep(0.005)
        await eventually(lambda: stream.paused_at is not None)
        client.reads.set()
        await eventually(lambda: client.has(100))
        assert stream.paused_at is None
        _append(log, fanout, range(101, 102))
        await eventually(lambda: client.has(101))
        positions = [client.body.index(b"\nid: %d-0\n" % number) for number in range(1, 102)]
        assert positions == sorted(positions)


async def test_drain_completes_the_response() -> None:
    """After `bye`, and then the application returns."""
    _, fanout = _fanout()
    async with _open(fanout) as (_, client, running):
        await eventually(lambda: client.body != b"")
        await asyncio.wait_for(fanout.drain(0), PATIENCE)
        await asyncio.wait_for(running, PATIENCE)
        assert client.is_complete
        assert client.body.endswith(b"event: bye\ndata: {}\n\n")
        assert fanout.counts.closed["drain"] == 1


async def test_client_that_leaves_ends_its_stream() -> None:
    """Also while it is being sent something that it does not take."""
    log, fanout = _fanout()
    async with _open(fanout) as (_, client, running):
        await eventually(lambda: client.body != b"")
        client.reads.clear()
        _append(log, fanout, range(1, 4))
        client.has_left.set()
        await asyncio.wait_for(running, PATIENCE)
        assert fanout.counts.closed["client gone"] == 1
        assert not client.is_complete


async def test_stream_that_is_cut_ends_incomplete() -> None:
    """So that its client knows that it was cut off, and comes back."""
    _, fanout = _fanout()
    async with _open(fanout) as (_, client, running):
        await eventually(lambda: client.body != b"")
        fanout.cut()
        await asyncio.wait_for(running, PATIENCE)
        assert fanout.counts.closed["cut"] == 1
        assert not client.is_complete
