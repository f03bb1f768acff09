"""Requests that are malformed, or that another server might read differently (RFC 9112)."""

from __future__ import annotations

import asyncio

import pytest

from guestbook.web.security_headers import SECURITY_HEADERS
from tests.conftest import Serve
from tests.support.raw import exchange, statuses
from tests.support.servers import Server

BODY = b'{"text":"hello"}'
CHUNKS = b"10\r\n" + BODY + b"\r\n0\r\n\r\n"
HOST = b"Host: guestbook\r\n"
POST = b"POST /messages HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
CLOSE = b"Connection: close\r\n"
LAST = GET + CLOSE + b"\r\n"
LENGTH = b"Content-Length: 16\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
UPGRADE = b"Connection: Upgrade\r\n"
SETTINGS = b"Connection: Upgrade, HTTP2-Settings\r\n"
EXPECT = b"Expect: 100-continue\r\n"
H2C = b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    """A server with short time-outs."""
    return await serve_shared(GUESTBOOK_REQUEST_SECONDS="3", GUESTBOOK_KEEP_ALIVE_SECONDS="3")


def post(*fields: bytes, body: bytes = BODY) -> bytes:
    """Return a post with these fields."""
    return POST + b"".join(fields) + b"\r\n" + body


def get(*fields: bytes, target: bytes = b"/healthz", version: bytes = b"1.1") -> bytes:
    """Return a GET that closes the connection."""
    return b"GET %s HTTP/%s\r\n" % (target, version) + b"".join(fields) + CLOSE + b"\r\n"


# If two servers might interpret a request differently, it is rejected and the connection ends.
AMBIGUOUS = {
    "length and chunks": post(LENGTH, CHUNKED, body=CHUNKS),
    "chunks and length": post(CHUNKED, LENGTH, body=CHUNKS),
    "two lengths": post(LENGTH, b"Content-Length: 2\r\n"),
    "one length twice": post(LENGTH, LENGTH),
    "a list of lengths": post(b"Content-Length: 16, 16\r\n"),
    "a length with a sign": post(b"Content-Length: +16\r\n"),
    "a hexadecimal length": post(b"Content-Length: 0x10\r\n"),
    "an overlong length": post(b"Content-Length: 99999999999999999999999\r\n"),
    "chunks that are not last": post(b"Transfer-Encoding: chunked, gzip\r\n", body=CHUNKS),
    "chunks twice": post(CHUNKED, CHUNKED, body=CHUNKS),
    "a control character before chunked": post(b"Transfer-Encoding: \x0bchunked\r\n", body=CHUNKS),
    "a space before the colon": post(b"Transfer-Encoding : chunked\r\n", body=CHUNKS),
    "a folded field": post(b"Transfer-Encoding:\r\n chunked\r\n", body=CHUNKS),
    "a bare LF": LAST.replace(b"\r\n", b"\n"),
    "a bare CR": get(HOST, b"X: a\rTransfer-Encoding: chunked\r\n"),
    "a NUL in a field": get(HOST, b"X: a\x00b\r\n"),
    "a bare LF between chunks": post(CHUNKED, body=CHUNKS.replace(b"\r\n", b"\n")),
    "a chunk without an end": post(CHUNKED, body=CHUNKS.replace(b"}\r\n", b"}XX")),
    "a chunk size with a prefix": post(CHUNKED, body=b"0x" + CHUNKS),
    "an overlong chunk size": post(CHUNKED, body=b"f" * 17 + CHUNKS),
    "a line end in a chunk's extension": post(CHUNKED, body=CHUNKS.replace(b"10", b"10;a\nb")),
    "no host": get(),
    "two hosts": get(HOST, b"Host: another\r\n"),
    "a host with a space": get(b"Host: a b\r\n"),
    "a host with a path": get(b"Host: x/y\r\n"),
    "a host with a user": get(b"Host: user@x\r\n"),
    "a host with half an address": get(b"Host: [::1\r\n"),
    "a host that is markup": get(b"Host: <script>\r\n"),
    "a host beyond ASCII": get("Host: münchen\r\n".encode()),
    "another version": get(HOST, version=b"2.0"),
    "a version of the future": get(HOST, version=b"1.2"),
    "no version": b"GET /\r\n\r\n",
    "no method": b"\x16\x03\x01 / HTTP/1.1\r\n" + HOST + b"\r\n",
    "another protocol's start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an address in UTF-8": get(HOST, target="/é".encode()),
    "an address with NUL": get(HOST, target=b"/\x00"),
}

# Unusual, but unambiguous: answered as any other. A request behind it shows where it ended.
CLEAR = {
    "an absolute address": (get(HOST, target=b"http://elsewhere/healthz"), [200]),
    "an absolute address without a path": (get(HOST, target=b"http://elsewhere"), [200]),
    "an absolute address with a query": (get(HOST, target=b"http://elsewhere?limit=1"), [200]),
    "an address as host": (get(b"Host: [::1]:3000\r\n"), [200]),
    "an empty host": (get(b"Host:\r\n"), [200]),
    "an unknown coding": (post(b"Transfer-Encoding: xchunked\r\n", body=CHUNKS) + LAST, [501]),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked\r\n", body=CHUNKS) + LAST, [501]),
    "an expectation in HTTP/1.0": (
        POST.replace(b"1.1", b"1.0") + LENGTH + EXPECT + b"\r\n" + BODY,
        [201],
    ),
    "an expectation": (post(LENGTH, CLOSE, EXPECT), [100, 201]),
    "an expectation of a long body": (
        POST + b"Content-Length: 20000\r\n" + EXPECT + b"\r\n",
        [413],
    ),
    "a fragment": (get(HOST, target=b"/healthz#fragment"), [200]),
    "a double slash": (get(HOST, target=b"//elsewhere/healthz"), [404]),
    "the options of the server": (b"OPTIONS * HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", [204]),
    "the options of the page": (b"OPTIONS / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", [204]),
    "the options as haproxy asks for them": (b"OPTIONS / HTTP/1.0\r\n\r\n", [204]),
    "a method in lower case": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", [501]),
    "an unknown method": (b"BREW /messages HTTP/1.1\r\n" + HOST + b"\r\n", [501]),
    "a tunnel": (b"CONNECT elsewhere:443 HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, [405]),
    "a tunnel to the page": (b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n" + LAST, [405]),
    "a trace": (b"TRACE / HTTP/1.1\r\n" + HOST + b"Cookie: a\r\n\r\n" + LAST, [405, 200]),
    "HTTP/1.0 without a host": (get(version=b"1.0"), [200]),
    "a GET with a body": (GET + LENGTH + b"\r\n" + b"GET / HTTP/1.1\r\n" + LAST, [200, 200]),
    "an empty post": (post(b"Content-Length: 0\r\n", body=LAST), [422, 200]),
    "a WebSocket": (GET + UPGRADE + b"Upgrade: websocket\r\n\r\n" + LAST, [200, 200]),
    "HTTP/2 for a GET": (GET + UPGRADE + H2C + b"\r\n" + LAST, [200, 200]),
    "HTTP/2 for a post": (post(SETTINGS, H2C, LENGTH) + LAST, [201, 200]),
    "HTTP/2 for chunks": (post(SETTINGS, H2C, CHUNKED, body=CHUNKS) + LAST, [201, 200]),
    "HTTP/2 once": (post(b"Connection: Upgrade, close\r\n", H2C, LENGTH) + LAST, [201]),
    "ranges": (get(HOST, b"Range: bytes=" + b"0-1," * 500 + b"0-1\r\n", target=b"/"), [200]),
    "many fields": (get(HOST, *(b"f%d: x\r\n" % n for n in range(2000))), [200]),
}


def _assert_secure(received: bytes) -> None:
    for answer in received.replace(b"HTTP/1.1 100 Continue\r\n", b"").split(b"HTTP/1.1 ")[1:]:
        head = answer.partition(b"\r\n\r\n")[0].decode().lower()
        for name, value in SECURITY_HEADERS.items():
            assert f"\r\n{name}: {value}".lower() in head
        assert "\r\ndate: " in head
        # A cache must not have to guess, also after an error.
        assert head.count("\r\ncache-control: ") == 1
        if not head.startswith(("200", "304")):
            assert "\r\ncache-control: no-store" in head
        assert "\r\nserver: " not in head


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_ambiguous_request_is_rejected(pod: Server, name: str) -> None:
    """One 400 with a problem and the security headers; what follows is not read."""
    received = await exchange(pod, AMBIGUOUS[name] + LAST)
    assert statuses(received) == [400], received
    assert b"\r\ncontent-type: application/problem+json\r\n" in received
    assert b"\r\nconnection: close\r\n" in received
    _assert_secure(received)


@pytest.mark.parametrize("name", CLEAR)
async def test_unusual_request_is_answered(pod: Server, name: str) -> None:
    """Its end is found to the byte: the request behind it is answered, and no other."""
    request, expected = CLEAR[name]
    whole = await exchange(pod, request)
    assert statuses(whole) == expected, whole
    _assert_secure(whole)
    # And the same when it comes in pieces.
    cut = len(request) * 2 // 3
    pieces = await exchange(pod, request[:cut], request[cut:])
    assert statuses(pieces) == expected, pieces


async def test_host_of_an_absolute_target_wins_over_host(pod: Server) -> None:
    """Proxies send it, and a page has to show the address that the client used."""
    received = await exchange(pod, get(HOST, target=b"http://elsewhere:81/wall"))
    assert statuses(received) == [200]
    assert b"elsewhere:81" in received
    assert b">guestbook<" not in received


async def test_pipelined_requests_are_answered_in_order(pod: Server) -> None:
    """However long each of them takes."""
    paths = ["/healthz", "/messages?limit=1", "/none", "/env", "/healthz"]
    requests = [b"GET %s HTTP/1.1\r\n%s\r\n" % (path.encode(), HOST) for path in paths]
    received = await exchange(pod, b"".join(requests) + POST + LENGTH + CLOSE + b"\r\n" + BODY)
    assert statuses(received) == [200, 200, 404, 200, 200, 201]
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 ")[1:]]
    for body, mark in zip(bodies, (b"alive", b"messages", b"nothing", b"HOSTNAME"), strict=False):
        assert mark in body


async def test_every_response_has_the_security_headers(pod: Server) -> None:
    """Errors, files, streams and responses to HEAD as well."""
    requests = [
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        for method in ("GET", "HEAD", "PUT", "OPTIONS")
        for path in ("/", "/messages", "/env", "/static/guestbook.css", "/static/none", "/none")
    ]
    requests += [get(HOST, target=b"/events?after=none"), get(target=b"/none", version=b"1.0")]
    for received in await asyncio.gather(*(exchange(pod, request) for request in requests)):
        assert len(statuses(received)) == 1
        _assert_secure(received)
    async with pod.client() as client, client.stream("GET", "/events") as stream:
        assert stream.status_code == 200
        for name, value in SECURITY_HEADERS.items():
            assert stream.headers[name] == value
