"""The bounds of a connection: clients that are slow, endless, silent, or too many."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.raw import Raw, statuses
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.waiting import eventually, run_scenarios

REQUEST_SECONDS = 1
# Far more than a client that is busy here is silent for.
KEEP_ALIVE_SECONDS = 3
HEAD_BYTES = 8192
HEAD = b"GET /healthz HTTP/1.1\r\nHost: guestbook\r\n"
GET = HEAD + b"\r\n"
POST = b"POST /messages HTTP/1.1\r\nHost: guestbook\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b'11\r\n{"text": "hello"}\r\n0\r\n'


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    """A server with short time-outs."""
    return await serve_shared(
        GUESTBOOK_REQUEST_SECONDS=str(REQUEST_SECONDS),
        GUESTBOOK_KEEP_ALIVE_SECONDS=str(KEEP_ALIVE_SECONDS),
        GUESTBOOK_MAX_HEAD_BYTES=str(HEAD_BYTES),
    )


def _sockets(pod: Server) -> set[str]:
    """Return the sockets that a server has open."""
    links = set()
    for file in Path(f"/proc/{pod.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            links.add(os.readlink(file))
    return {link for link in links if link.startswith("socket:")}


def _is_open(pod: Server, client: Raw) -> bool:
    """Return whether a server has its end of a connection open."""
    ends = f":{pod.port:04X}", f":{client.writer.get_extra_info('sockname')[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = {f"socket:[{row[9]}]" for row in rows if (row[1][8:], row[2][8:]) == ends}
    return bool(found & _sockets(pod))


_TOO_LONG = [b"x: %s\r\n" % (b"y" * 1000)] * 100
_ENDLESS = [b"y" * 10_000] * 100

_CUT = b"Content-Length: 20\r\n\r\n{"
_LONG = b"Content-Length: 99999999\r\n\r\n"

# The parts that a client sends, and the statuses of its answers before the connection is closed.
CLIENTS: dict[str, tuple[list[bytes], list[int]]] = {
    "nothing": ([], []),
    "half a head": ([HEAD], [408]),
    "half a method": ([b"GE"], [408]),
    "a header now and then": ([HEAD, *[b"x: y\r\n"] * 20], [408]),
    "endless headers": ([HEAD, *_TOO_LONG], [431]),
    "an endless header": ([HEAD + b"x: ", *_ENDLESS], [431]),
    "an endless name": ([HEAD, *_ENDLESS], [431]),
    "a long head at once": ([HEAD + b"".join(_TOO_LONG[:9]) + b"\r\n"], [431]),
    "a long address": ([b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n"], [414]),
    "an endless address": ([b"GET /", *_ENDLESS], [414]),
    "half a body": ([POST + _CUT], [408]),
    "a body now and then": ([CHUNKED, *[b"1\r\n \r\n"] * 20], [408]),
    "an endless body": ([POST + _LONG, *_ENDLESS], [413]),
    "endless chunks": ([CHUNKED, *[b"1\r\n \r\n" * 1000] * 200], [413]),
    "an endless chunk size": ([CHUNKED + b"1;", *_ENDLESS], [413]),
    "endless trailers": ([CHUNKED + HELLO, *_TOO_LONG * 4], [413]),
    "a body that is not read": ([HEAD + _LONG, *_ENDLESS], [200]),
    # Some proxies send no more of a body once they have the answer, but the next request.
    "half a body that is not wanted": ([POST.replace(b"messages", b"nothing") + _CUT], [408]),
    "half a post of another site": ([POST + b"Origin: http://evil.example\r\n" + _CUT], [408]),
    "an expectation that is refused": ([HEAD + b"Expect: 100-continue\r\n" + _CUT[:-1]], [200]),
    "one request": ([GET], [200]),
    "one request, then half of one": ([GET, HEAD], [200, 408]),
    "half a body behind a request": ([GET + POST + _CUT], [200, 408]),
    "nonsense": ([b"\x16\x03\x01\x02\x00\x01\x00"], [400]),
    "nonsense behind requests": ([GET * 3 + b"nonsense\r\n\r\n"], [200] * 3 + [400]),
    "nonsense in a body": ([CHUNKED + b"nonsense\r\n"], [400]),
    "nonsense in a later body": ([GET * 3 + CHUNKED + b"nonsense\r\n"], [200] * 3 + [400]),
    "many requests ahead of their answers": ([GET * 3000], [200] * 3000),
    "a long head ahead of its turn": ([GET + HEAD + b"".join(_TOO_LONG[:9]) + b"\r\n"], [200, 431]),
    "many short fields": ([HEAD + b"a:\r\n" * 3000 + b"\r\n"], [431]),
    "long chunk extensions": ([CHUNKED + b"1;%s\r\n \r\n" % (b"x" * 1000) * 300], [413]),
    "a request that ends there": ([HEAD + b"Connection: close\r\n\r\n" + GET], [200]),
}
# These send a part each 0.2 s.
SLOW = ("a header now and then", "a body now and then", "one request, then half of one")


async def test_every_connection_ends_in_time(pod: Server) -> None:
    """Whatever a client sends or does not send, it gets an error and its connection is closed.

    Meanwhile the stream of a visitor continues, and other clients are answered.
    """

    async def one(name: str) -> None:
        parts, expected = CLIENTS[name]
        every = 0.2 if name in SLOW else 0
        async with Raw(pod) as client:
            sending = asyncio.create_task(client.send(*parts, every=every))
            received = await client.end()
            sending.cancel()
        assert statuses(received) == expected, (name, received)
        for answer in received.split(b"HTTP/1.1 ")[1:]:
            assert b"\r\ncontent-security-policy: " in answer.lower()
            if answer[:1] == b"4":
                assert b"\r\ncontent-type: application/problem+json\r\n" in answer

    async with (
        pod.client() as visitor,
        EventStream(pod.url) as stream,
        run_scenarios({name: one(name) for name in CLIENTS}) as scenarios,
    ):
        while not all(task.done() for task in scenarios.values()):
            posted = await visitor.post("/messages", json={"text": "still here"})
            assert posted.status_code == 201
            # "endless trailers" has posted too.
            while (await stream.until("message")).id != posted.json()["id"]:
                pass
            await asyncio.sleep(0.05)
        for task in scenarios.values():
            await task
    assert "Traceback" not in pod.lines()


async def test_slow_client_gets_its_response_and_a_silent_one_is_closed(pod: Server) -> None:
    """A response may take long as long as the client reads it, and no longer."""
    async with pod.client() as client:
        for number in range(100):
            await client.post("/messages", json={"text": f"{number} " + "long " * 190})
        whole = (await client.get("/messages?limit=100")).content
    listing = b"GET /messages?limit=100 HTTP/1.1\r\nHost: guestbook\r\n\r\n"

    async def slow() -> None:
        async with Raw(pod) as client:
            client.writer.write(listing * 30)
            taken = 0
            for _ in range(6):
                taken += len(await client.reader.read(2**16))
                await asyncio.sleep(KEEP_ALIVE_SECONDS / 5)
            while taken < 30 * len(whole):
                data = await client.reader.read(2**20)
                assert data
                taken += len(data)

    async def never_reads() -> None:
        async with Raw(pod) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(listing * 30)
            await eventually(lambda: _is_open(pod, client))
            await eventually(lambda: not _is_open(pod, client), every=0.2)

    await asyncio.gather(slow(), never_reads())


async def test_trailers_are_not_headers(pod: Server) -> None:
    """A trailer cannot smuggle in a field that a proxy would have looked for in the head."""
    async with Raw(pod) as client:
        trailers = b"Idempotency-Key: not one\r\nConnection: close\r\n\r\n"
        await client.send(CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + HELLO)
        await client.send(trailers)
        assert statuses(await client.end()) == [201]


@contextlib.asynccontextmanager
async def _idle_connections(server: Server, count: int) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(Raw(server))
        yield


@pytest.fixture
def many_files() -> None:
    """Raise the soft limit of open files of this process to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def test_idle_connections_keep_no_client_out(serve: Serve, many_files: None) -> None:
    """However many connections are idle, streams continue and requests are answered.

    The connections that have waited longest are closed and counted, and the log has a warning.
    """
    pod = await serve(GUESTBOOK_MAX_CONNECTIONS="300")
    async with pod.client() as client, EventStream(pod.url) as stream, _idle_connections(pod, 800):
        assert (await client.get("/healthz")).status_code == 200
        await pod.until("/ready", 200)
        async with EventStream(pod.url) as another:
            posted = await client.post("/messages", json={"text": "not locked out"})
            assert posted.status_code == 201
            for each in (stream, another):
                assert (await each.until("message")).id == posted.json()["id"]
        assert len(_sockets(pod)) < 400
        await eventually(lambda: "too many connections" in pod.lines())
        metrics = (await client.get("/metrics")).text
        evicted = re.search(r"^guestbook_connections_evicted_total (\S+)", metrics, re.MULTILINE)
        assert evicted is not None
        assert float(evicted[1]) >= 500


async def test_limit_of_open_files_keeps_no_client_out(tmp_path: Path, redis_url: str) -> None:
    """If few files may be open, the start warns, and some are reserved for requests."""
    under = ("/bin/sh", "-c", 'ulimit -n 200; exec "$@"', "sh")
    with Server(tmp_path / "log", redis_url).start(under=under) as pod:
        await pod.ready()
        assert "GUESTBOOK_MAX_STREAMS" in pod.lines()
        async with contextlib.AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(EventStream(pod.url)) for _ in range(80)]
            opened = [stream.head.status for stream in streams]
            assert opened == [200] * 72 + [503] * 8
            await stack.enter_async_context(_idle_connections(pod, 300))
            for path in ("/healthz", "/ready", "/", "/static/guestbook.css"):
                await pod.until(path, 200)
            for stream in streams[:72]:
                await stream.until("pods")
        assert "Traceback" not in pod.lines()
