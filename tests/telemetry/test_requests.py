"""A request's id, and its line in the log."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support.raw import connect
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.waiting import eventually

_TRACE = "0af7651916cd43dd8448eb211c80319c"


def lines(server: Server, **having: Any) -> list[dict[str, Any]]:
    """Return the lines of the log with these values."""
    return [line for line in server.records() if having.items() <= line.items()]


async def line(server: Server, **having: Any) -> dict[str, Any]:
    """Wait for the one line of the log with these values."""
    await eventually(lambda: bool(lines(server, **having)))
    (found,) = lines(server, **having)
    return found


# Request ids


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Request-ID": "checkout.7/a=b"}, "checkout.7/a=b"),
        ({"traceparent": f"00-{_TRACE}-b7ad6b7169203331-01"}, _TRACE),
        ({"X-Request-ID": "mine", "traceparent": f"00-{_TRACE}-b7ad6b7169203331-01"}, "mine"),
        ({"X-Request-ID": "", "traceparent": f"00-{'7' * 32}-b7ad6b7169203331-00"}, "7" * 32),
    ],
)
async def test_request_id_is_adopted(
    pod: Server, api: httpx.AsyncClient, headers: dict[str, str], expected: str
) -> None:
    """The id of a client's request or trace is in the answer and in the log."""
    answer = await api.get("/messages", headers=headers)
    assert answer.headers.get_list("x-request-id") == [expected]
    assert (await line(pod, request_id=expected))["path"] == "/messages"


async def test_unusable_request_id_is_replaced(pod: Server, api: httpx.AsyncClient) -> None:
    """An id that is too long, empty, or could forge a line is replaced by a new one each time."""
    sent = [b"", b"x" * 65, b"two words", b'"quoted"', "naïve".encode(), b"a\tb"]
    headers: list[dict[bytes, bytes]] = [{b"x-request-id": value} for value in sent]
    zero = f"00-{'0' * 32}-b7ad6b7169203331-01"
    headers += [{b"traceparent": v.encode()} for v in (zero, zero[:-1], "nonsense")]
    given = [(await api.get("/messages", headers=h)).headers["x-request-id"] for h in headers]
    assert len(set(given)) == len(headers)
    assert not set(given) & {value.decode() for value in sent}
    assert all(request_id.isascii() and len(request_id) < 65 for request_id in given)


async def test_every_answer_has_its_request_id(pod: Server, api: httpx.AsyncClient) -> None:
    """Pages, problems, redirects, files, probes and refused streams have an id."""
    paths = ("/", "/nowhere", "/static/js/main.js", "/ready", "/metrics", "/events?after=nonsense")
    requests = [("GET", path) for path in paths]
    requests += [("HEAD", "/"), ("PUT", "/messages"), ("POST", "/messages")]
    for number, (method, path) in enumerate(requests):
        answer = await api.request(method, path, headers={"X-Request-ID": f"n{number}"})
        assert answer.headers.get_list("x-request-id") == [f"n{number}"], path


async def test_every_line_within_a_request_has_its_id(serve: Serve) -> None:
    """A line that any part logs while a request is answered has the request's id."""
    server = await serve(redis="127.0.0.1:1", is_ready=False)
    async with server.client() as http:
        ids = [{"X-Request-ID": name} for name in ("one", "two")]
        posts = (http.post("/messages", json={"text": "x"}, headers=each) for each in ids)
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {503}
    for request_id in ("one", "two"):
        await line(server, request_id=request_id, event="request", status=503)
        await line(server, request_id=request_id, event="Redis did not take a command")
    assert "request_id" not in await line(server, event="Redis is away")


# Lines


async def test_request_is_one_line(pod: Server, api: httpx.AsyncClient) -> None:
    """A line has id, method, path as sent, status, duration and address; probes have no line."""
    await api.get("/nowhere%0A?q=1", headers={"X-Request-ID": "one"})
    for path in ("/healthz", "/ready", "/metrics"):
        await api.get(path, headers={"X-Request-ID": "probe"})
    await api.get("/messages", headers={"X-Request-ID": "last"})
    found = await line(pod, request_id="one")
    assert found.pop("timestamp").endswith("Z")
    assert found.pop("ms") > 0
    assert found == {
        "level": "info",
        "event": "request",
        "request_id": "one",
        "method": "GET",
        "path": "/nowhere%0A",
        "status": 404,
        "address": "127.0.0.1",
    }
    await line(pod, request_id="last")
    assert not lines(pod, request_id="probe")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_stream_is_one_line_when_it_ends(
    pod: Server, api: httpx.AsyncClient, version: str
) -> None:
    """It has the duration, the number of entries, replayed and live, and the reason for the end."""
    first = (await api.post("/messages", json={"text": "seen"})).json()["id"]
    await api.post("/messages", json={"text": "missed"})
    request_id = f"stream-{version}"
    named: Any = {"X-Request-ID": request_id}
    async with EventStream(pod.url, after=first, version=version, **named) as stream:
        assert stream.head.headers["x-request-id"] == request_id
        await stream.entries(1)
        await api.post("/messages", json={"text": "live"})
        await stream.entries(1)
        assert not lines(pod, request_id=request_id)
    ended = await line(pod, request_id=request_id)
    assert ended.pop("timestamp")
    assert ended.pop("seconds") > 0
    assert ended == {
        "level": "info",
        "event": "stream ended",
        "request_id": request_id,
        "reason": "client gone",
        "entries": 2,
        "address": "127.0.0.1",
    }


async def test_refused_stream_is_logged_as_a_request(serve: Serve) -> None:
    """A stream that was not opened is a request like any other."""
    server = await serve(GUESTBOOK_MAX_STREAMS="1")
    async with EventStream(server.url) as held:
        await held.until("pods")
        named: Any = {"X-Request-ID": "refused"}
        async with EventStream(server.url, **named) as refused:
            assert refused.head.status == 503
    found = await line(server, request_id="refused")
    assert (found["event"], found["path"], found["status"]) == ("request", "/events", 503)


async def test_line_of_a_post_names_its_message(serve: Serve) -> None:
    """The log names the message of a post: JSON, form, repeated, or by the original's interface."""
    server = await serve(GUESTBOOK_LEGACY_API="true")
    async with server.client() as http:
        key = {"Idempotency-Key": "k"}
        for name in ("json", "again"):
            headers = {**key, "X-Request-ID": name}
            answer = await http.post("/messages", json={"text": "x"}, headers=headers)
            assert (await line(server, request_id=name))["message"] == answer.json()["id"]
        await http.post("/messages", data={"text": "form"}, headers={"X-Request-ID": "form"})
        await http.get("/rpush/guestbook/pushed", headers={"X-Request-ID": "rpush"})
        listed = (await http.get("/messages")).json()["messages"]
        for name, message in zip(("rpush", "form"), listed, strict=False):
            assert (await line(server, request_id=name))["message"] == message["id"]
        await http.post("/messages", json={"text": ""}, headers={"X-Request-ID": "refused"})
        assert "message" not in await line(server, request_id="refused")


async def test_invalid_request_is_logged_and_counted_too(
    pod: Server, api: httpx.AsyncClient
) -> None:
    """Its line has the reason, the client's address and the id that the response has."""
    async with connect(pod.port) as (reader, writer):
        writer.write(b"no HTTP at all\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 400 ")
    found = await line(pod, event="rejected a request")
    assert (found["level"], found["status"], found["address"]) == ("info", 400, "127.0.0.1")
    assert found["reason"] == "This is not a request of HTTP/1.1."
    assert f"x-request-id: {found['request_id']}\r\n" in head
    counter = 'guestbook_http_requests_total{method="other",route="none",status="400"} 1.0'
    assert f"\n{counter}\n" in (await api.get("/metrics")).text
