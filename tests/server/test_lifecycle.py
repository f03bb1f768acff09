"""Open streams, the drain, and the end of the process."""

from __future__ import annotations

import asyncio
import resource
import signal
import time

import httpx
import pytest

from tests.conftest import Serve
from tests.support.metrics import sample
from tests.support.raw import connect
from tests.support.servers import Server
from tests.support.sse import Event, EventStream
from tests.support.waiting import allowed, eventually, eventually_equal

_NOWHERE = "127.0.0.1:1"
_STREAMS = 500
# Long enough for the requests that are made meanwhile, also on a busy machine.
_DRAIN_SECONDS = 5


async def _open_many(server: Server, count: int) -> list[EventStream]:
    # Connections at once, no more than a listener's queue may hold.
    slots = asyncio.Semaphore(100)

    async def open_one() -> EventStream:
        async with slots:
            return await EventStream(server.url).__aenter__()

    return await asyncio.gather(*(open_one() for _ in range(count)))


# Streams


async def test_open_streams_are_counted_as_requests(server: Server) -> None:
    """The metrics have the request of a stream while the stream is open."""
    streams = await _open_many(server, 20)
    for stream in streams:
        await stream.until("pods")

    await eventually_equal(lambda: sample(server, "guestbook_streams"), 20)
    labels = {"method": "GET", "route": "/events", "status": "200"}
    await eventually_equal(lambda: sample(server, "guestbook_http_requests_total", **labels), 20)
    for stream in streams:
        stream.cut()


async def test_client_that_pipelines_leaves_nothing_behind(server: Server) -> None:
    """A stream ends with its client, also if further requests were sent behind its own."""
    for version in ("1.1", "1.0"):
        request = b"GET /events HTTP/%s\r\nHost: guestbook\r\n\r\n" % version.encode()
        for _ in range(20):
            async with connect(server.port) as (reader, writer):
                writer.write(request * 5)
                await reader.readuntil(b"event: pods")

    assert await sample(server, "guestbook_streams_opened_total") == 40
    await eventually_equal(lambda: sample(server, "guestbook_streams"), 0)


# The drain


async def test_sigterm_ends_five_hundred_streams(serve: Serve) -> None:
    """In the drain each stream gets `retry:`, `bye` and its last chunk; then the process ends.

    Streams that go through ASGI's `send` (HTTP/1.0, pipelined) end the same way. Until the end
    everything else is answered, and a new stream is refused.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = await serve(GUESTBOOK_DRAIN_SECONDS=str(_DRAIN_SECONDS))
    streams = await _open_many(server, _STREAMS - 2)
    further = b"GET /healthz HTTP/1.1\r\nHost: guestbook\r\n\r\n"
    streams.append(await EventStream(server.url, version="1.0").__aenter__())
    streams.append(await EventStream(server.url, further=further).__aenter__())
    assert {stream.head.status for stream in streams} == {200}
    ends: list[float] = []

    async def read(stream: EventStream) -> list[Event]:
        events = await stream.rest()
        ends.append(time.monotonic())
        return events

    reading = [asyncio.create_task(read(stream)) for stream in streams]
    async with server.client() as http:
        signalled_at = time.monotonic()
        server.signal(signal.SIGTERM)
        ending = asyncio.create_task(server.ended())
        await eventually(lambda: _has_status(http, "/ready", 503))
        ready = await http.get("/ready")
        assert ready.status_code == 503
        assert any("drain" in reason for reason in ready.json()["reasons"])
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/")).status_code == 200
        posted = await http.post("/messages", json={"text": "amid the drain"})
        assert posted.status_code == 201
        async with EventStream(server.url) as refused:
            assert refused.head.status == 503
            assert int(refused.head.headers["retry-after"]) >= 1
        # All that came before the last stream's end.
        assert not all(task.done() for task in reading)
    status = await ending
    ended_at = time.monotonic()
    assert status == -signal.SIGTERM
    assert ended_at - signalled_at < allowed(_DRAIN_SECONDS + 1)

    all_events = await asyncio.gather(*reading)
    assert ended_at - max(ends) < allowed(1)
    for stream, events in zip(streams, all_events, strict=True):
        assert events[-1].name == "bye"
        assert [event.name for event in events].count("bye") == 1
        assert len(stream.retries) == 2
        stream.cut()
    assert all(stream.is_complete for stream in streams)
    assert len({stream.retries[-1] for stream in streams}) > 100
    # Spread over the time that the drain takes, not all at once.
    assert max(ends) - min(ends) > _DRAIN_SECONDS / 2
    messages = [sum(event.name == "message" for event in events) for events in all_events]
    assert 0 < sum(messages) <= _STREAMS
    records = server.records()
    assert sum(record.get("reason") == "drain" for record in records) == _STREAMS
    assert not any(record["level"] in ("warning", "error", "critical") for record in records)


async def _has_status(http: httpx.AsyncClient, path: str, status: int) -> bool:
    return (await http.get(path)).status_code == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_other_signals_end_it_as_sigterm_does(serve: Serve, number: signal.Signals) -> None:
    """Ctrl-C and a closed terminal drain, too; the exit status is that of the signal."""
    server = await serve(GUESTBOOK_DRAIN_SECONDS="0")
    async with EventStream(server.url) as stream:
        await stream.until("pods")
        server.signal(number)
        assert (await stream.rest())[-1].name == "bye"
        assert stream.is_complete
    assert await server.ended() == -number
    assert "Traceback" not in server.lines()


async def test_second_signal_ends_at_once(serve: Serve) -> None:
    """The second signal cuts the drain short."""
    one, two = await asyncio.gather(
        serve("pod-a", GUESTBOOK_DRAIN_SECONDS="600"), serve("pod-b", GUESTBOOK_DRAIN_SECONDS="600")
    )
    for server, number in ((one, signal.SIGTERM), (two, signal.SIGINT)):
        async with EventStream(server.url) as stream:
            await stream.until("pods")
            server.signal(number)
            await server.until("/ready", 503)
            server.signal(number)
            assert await server.ended() == -number
        assert "Traceback" not in server.lines()


async def test_drain_without_streams_keeps_answering(serve: Serve) -> None:
    """A pod without streams goes on too, because load balancers learn of its end later."""
    server = await serve(GUESTBOOK_DRAIN_SECONDS="4")
    server.signal(signal.SIGTERM)
    started = time.monotonic()
    async with server.client() as http:
        while time.monotonic() - started < 0.8:
            assert (await http.get("/")).status_code == 200
            await asyncio.sleep(0.1)
        assert (await http.get("/ready")).status_code == 503
    assert await server.ended() == -signal.SIGTERM


async def test_drain_without_streams_ends_when_it_is_known(serve: Serve) -> None:
    """At once if nothing asks for /ready, else soon after that said so, and no later."""
    env = {"GUESTBOOK_DRAIN_SECONDS": "600"}
    local, balanced = await asyncio.gather(
        serve("pod-a", is_ready=False, **env), serve("pod-b", **env)
    )
    local.signal(signal.SIGTERM)
    assert await local.ended(within=2) == -signal.SIGTERM
    balanced.signal(signal.SIGTERM)
    await balanced.until("/ready", 503)
    await balanced.until("/healthz", 200)
    assert await balanced.ended(within=3) == -signal.SIGTERM


async def test_sigterm_while_redis_is_away(serve: Serve) -> None:
    """A pod that never reached Redis ends its streams and itself as fast."""
    server = await serve(redis=_NOWHERE, is_ready=False)
    async with EventStream(server.url) as stream:
        await stream.until("pods")
        server.signal(signal.SIGTERM)
        assert (await stream.rest())[-1].name == "bye"
        assert stream.is_complete
    assert await server.ended(within=2) == -signal.SIGTERM
    assert "Traceback" not in server.lines()


@pytest.mark.parametrize("sent", ["{", ""])
async def test_half_a_request_does_not_delay_the_end(serve: Serve, sent: str) -> None:
    """Its client gets 503 and may send it to another pod; the log has no error."""
    server = await serve(GUESTBOOK_DRAIN_SECONDS="0")
    length = "Content-Length: 50\r\n\r\n" if sent else ""
    half = f"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}{sent}"
    async with connect(server.port) as (reader, writer):
        writer.write(half.encode())
        async with server.client() as api:
            await api.get("/healthz")
        server.signal(signal.SIGTERM)
        answer = (await reader.read()).decode()
        assert await server.ended(within=4) == -signal.SIGTERM
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert "application/problem+json" in head
    assert "about to stop" in body
    assert "Traceback" not in server.lines()
