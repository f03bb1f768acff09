"""Streams through ASGI's `send`: clients that read, that do not, and that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from guestbook.broadcast import AsgiStream, Fanout
from guestbook.core import ORIGIN
from tests.broadcast.book import Book, message
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


def _book() -> Book:
    book = Book()
    book.load()
    return book


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
    """Entries are sent without HTTP chunks, which the server adds."""
    book = _book()
    async with _open(book.fanout) as (_, client, running):
        await eventually(lambda: client.body.endswith(b"data: {}\n\n"))
        book.append(*(message(n) for n in range(1, 4)))
        await eventually(lambda: client.has(3))
        assert not client.is_complete
        assert not running.done()


async def test_client_that_does_not_read_is_paused() -> None:
    """Little is kept for it; when it reads again it is sent everything, once and in order."""
    book = _book()
    async with _open(book.fanout) as (stream, client, _):
        await eventually(lambda: client.body != b"")
        client.reads.clear()
        for first in range(1, 101, 10):
            book.append(*(message(n, "x" * 3000) for n in range(first, first + 10)))
            await asyncio.sleep(0.005)
        await eventually(lambda: stream.paused_at is not None)
        client.reads.set()
        await eventually(lambda: client.has(100))
        assert stream.paused_at is None
        book.append(*(message(n) for n in range(101, 102)))
        await eventually(lambda: client.has(101))
        positions = [client.body.index(b"\nid: %d-0\n" % number) for number in range(1, 102)]
        assert positions == sorted(positions)


async def test_drain_completes_the_response() -> None:
    """After `bye`, and then the application returns."""
    book = _book()
    async with _open(book.fanout) as (_, client, running):
        await eventually(lambda: client.body != b"")
        await asyncio.wait_for(book.fanout.drain(0), PATIENCE)
        await asyncio.wait_for(running, PATIENCE)
        assert client.is_complete
        assert client.body.endswith(b"event: bye\ndata: {}\n\n")
        assert book.fanout.counts.closed["drain"] == 1


async def test_client_that_leaves_ends_its_stream() -> None:
    """A client that leaves ends its stream, even while data is being sent to it."""
    book = _book()
    async with _open(book.fanout) as (_, client, running):
        await eventually(lambda: client.body != b"")
        client.reads.clear()
        book.append(*(message(n) for n in range(1, 4)))
        client.has_left.set()
        await asyncio.wait_for(running, PATIENCE)
        assert book.fanout.counts.closed["client gone"] == 1
        assert not client.is_complete


async def test_stream_that_is_cut_ends_incomplete() -> None:
    """So that its client knows that it was cut off, and comes back."""
    book = _book()
    async with _open(book.fanout) as (_, client, running):
        await eventually(lambda: client.body != b"")
        book.fanout.cut()
        await asyncio.wait_for(running, PATIENCE)
        assert book.fanout.counts.closed["cut"] == 1
        assert not client.is_complete
