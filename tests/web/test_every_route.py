"""Every route: HEAD, security headers, no server errors.

The headers of all kinds of answers are also in server/test_wire.py and test_asgi.py.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.conftest import Serve
from tests.support.raw import connect
from tests.support.servers import Server
from tests.support.waiting import PATIENCE

GETS = (
    "/",
    "/?before=9-0",
    "/wall",
    "/moderate",
    "/feed.atom",
    "/messages",
    "/messages?limit=1&after=0-0",
    "/healthz",
    "/ready",
    "/env",
    "/metrics",
    "/openapi.json",
    "/static/js/main.js",
    "/static/guestbook.css",
    "/static/icon.svg",
)


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    return await serve_shared("pod-<a>&b")


# HEAD


@pytest.mark.parametrize("path", [*GETS, "/nowhere", "/messages/1-0", "/messages?limit=0"])
async def test_head_is_get_without_a_body(api: httpx.AsyncClient, path: str) -> None:
    """The same status and the same headers, nothing else."""
    get, head = await api.get(path), await api.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    varies = {"date", "x-request-id"}
    if path in ("/metrics", "/env"):
        varies.add("content-length")
    assert {k: v for k, v in head.headers.items() if k not in varies} == {
        k: v for k, v in get.headers.items() if k not in varies
    }


# Security headers


def assert_secure(headers: httpx.Headers | dict[str, str]) -> None:
    """Assert that a response has the security headers."""
    policy = dict(
        part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] in ("'none'", "'self'")
    assert policy["frame-ancestors"] == "'none'"
    assert policy.get("base-uri") == "'none'"
    assert set(" ".join(policy.values()).split()) <= {"'none'", "'self'"}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] in ("same-origin", "no-referrer", "strict-origin")


@pytest.mark.parametrize("path", [*GETS, "/nowhere", "/static/nothing", "/messages/1-0", "/docs"])
async def test_every_answer_has_the_security_headers(api: httpx.AsyncClient, path: str) -> None:
    """Pages, data, files and 404; each header once."""
    answer = await api.get(path)
    assert_secure(answer.headers)
    names = [name.lower() for name, _ in answer.headers.multi_items()]
    assert len(names) == len(set(names))
    assert "server" not in names


async def ask(server: Server, request: bytes) -> tuple[int, dict[str, str]]:
    """Send bytes; return the status and the headers of the response."""
    async with asyncio.timeout(PATIENCE), connect(server.port) as (reader, writer):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in fields}


# Nothing that a client sends causes a 500


LINES = [
    "GET /static/%00 HTTP/1.1",
    "GET /static/../pyproject.toml HTTP/1.1",
    "GET /static/%2e%2e/pyproject.toml HTTP/1.1",
    "GET /static/..%2f..%2fetc%2fpasswd HTTP/1.1",
    "GET /static//etc/passwd HTTP/1.1",
    "GET /static/" + "x" * 5000 + " HTTP/1.1",
    "GET /static/%ff%fe HTTP/1.1",
    "GET /static/ HTTP/1.1",
    "GET /static HTTP/1.1",
    "GET /messages/ HTTP/1.1",
    "POST /messages/ HTTP/1.1",
    "GET //evil.example/ HTTP/1.1",
    "GET /messages/%ed%a0%80 HTTP/1.1",
    "GET /events?after=%00 HTTP/1.1",
    "GET /events?after=%ff&after=x HTTP/1.1",
    "GET /?%ff=%00 HTTP/1.1",
    "GET /wall?before=x HTTP/1.1",
    "GET /feed.atom HTTP/1.1",
    "GET /\xff HTTP/1.1",
    "GET http://evil.example/ HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "OPTIONS / HTTP/1.1",
    "TRACE / HTTP/1.1",
    "PROPFIND /messages HTTP/1.1",
    "DELETE /messages/%00 HTTP/1.1",
    "PATCH /messages/1-0 HTTP/1.1",
]


async def _is_no_error(pod: Server, line: str, host: str) -> None:
    request = f"{line}\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
    status, headers = await ask(pod, request.encode("latin-1"))
    assert status < 500
    assert "evil.example" not in headers.get("location", "")
    if "passwd" in line or "pyproject" in line:
        assert status in (400, 404)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:30])
async def test_odd_address_causes_no_server_error(pod: Server, line: str) -> None:
    """For any path."""
    await _is_no_error(pod, line, "localhost")


@pytest.mark.parametrize("host", ["[", "a b", "\xff", "", "x" * 5000], ids=repr)
async def test_odd_host_causes_no_server_error(pod: Server, host: str) -> None:
    """For any host name, whatever of it is read."""
    for path in ("/", "/wall", "/feed.atom", "/messages/", "//evil.example/", "/static/%00"):
        await _is_no_error(pod, f"GET {path} HTTP/1.1", host)


@pytest.mark.parametrize(
    "header",
    [
        "If-None-Match: \xff\xfe",
        "If-Modified-Since: yesterday",
        "If-Modified-Since: Mon, 99 Foo 99999 99:99:99 GMT",
        "Range: bytes=abc",
        "Range: bytes=999999999-",
        "Range: bytes=-0",
        "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(500)),
        "If-Range: \xff",
        "Cookie: " + "x=\xff;" * 500,
        "Accept: \xff",
        "X-Forwarded-For: \xff, , garbage",
        "X-Forwarded-For: ::ffff:x",
        "X-Forwarded-For: 1:x",
        "X-Forwarded-Proto: \xff",
        "X-Forwarded-Host: [",
        "Origin: http://[",
        "Upgrade: websocket\r\nConnection: Upgrade",
        "Expect: 100-continue",
        "Last-Event-ID: \xff",
        "Transfer-Encoding: chunked\r\nX: y\r\n\r\n0",
    ],
    ids=lambda header: header[:24],
)
async def test_odd_header_causes_no_server_error(pod: Server, header: str) -> None:
    """With any header."""
    for path in ("/", "/wall", "/messages", "/static/js/main.js", "/healthz"):
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n"
        status, _ = await ask(pod, request.encode("latin-1"))
        assert status < 500, path


async def test_nothing_above_left_a_traceback(pod: Server, api: httpx.AsyncClient) -> None:
    """After all these requests the server is alive."""
    assert (await api.get("/healthz")).status_code == 200
    assert "Traceback" not in pod.lines()


async def test_client_that_leaves_amid_its_request_causes_no_error(
    pod: Server, api: httpx.AsyncClient
) -> None:
    """A body that ends early is not an error of the server."""
    head = "POST /messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    async with connect(pod.port) as (_, writer):
        writer.write(f'{head}Content-Length: 100\r\n\r\n{{"text": "ha'.encode())
        await writer.drain()
        await api.get("/healthz")
        writer.close()
        await writer.wait_closed()
    assert (await api.get("/healthz")).status_code == 200
    assert "Traceback" not in pod.lines()
