"""Hostile input over HTTP is stored as data or rejected, and forges no line of the log."""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import quote, urlencode

import httpx
import pytest

from guestbook.core.messages import AUTHOR_MAX, TEXT_MAX, normalise
from tests.conftest import Serve
from tests.support import hostile
from tests.support.raw import exchange, statuses
from tests.support.servers import Server

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
CURSORS = ("/messages?before={}", "/messages?after={}", "/messages?limit={}", "/?before={}")
PATHS = ("/{}", "/messages/{}", "/static/{}", "/lrange/{}", "/rpush/x/{}", "/?{}")
FIELDS = (
    *("Host", "Idempotency-Key", "X-Request-ID", "traceparent", "X-Forwarded-For", "Origin"),
    *("X-Forwarded-Host", "X-Forwarded-Proto", "Sec-Fetch-Site", "Last-Event-ID", "Authorization"),
    *("Accept", "Accept-Language", "Accept-Encoding", "If-None-Match", "If-Modified-Since"),
    *("Range", "Cookie", "User-Agent", "Referer", "Content-Type", "Expect", "Upgrade"),
)


@pytest.fixture(scope="module")
async def pods(serve_shared: Serve) -> list[Server]:
    """Two servers at the most detailed log level: one logs JSON, one text."""
    env = {"GUESTBOOK_LOG_LEVEL": "debug", "GUESTBOOK_LEGACY_API": "true"}
    env |= {"GUESTBOOK_KEEP_ALIVE_SECONDS": "2", "GUESTBOOK_REQUEST_SECONDS": "2"}
    forms = ("json", "text")
    return [await serve_shared(f"pod-{form}", **env, GUESTBOOK_LOG_FORMAT=form) for form in forms]


def _assert_log_is_its_own(servers: list[Server]) -> None:
    """Assert that the program wrote every line, and that none controls a terminal."""
    # Without a line that is just being written.
    in_json, as_text = ("".join(server.lines().rpartition("\n")[:2]) for server in servers)
    for said in (in_json, as_text):
        assert "Traceback" not in said
        assert not re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", said)
        assert len(said.splitlines()) == said.count("\n") > 2
    for line in in_json.splitlines():
        record = json.loads(line)
        assert list(record)[:3] == ["timestamp", "level", "event"]
        assert "forged" not in record["event"]
    for line in as_text.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d[T ][\d:.]{8,}Z? \[(debug|info|warning) *\]", line), line


def _stored(text: str, longest: int) -> str | None:
    """Return the text as it is stored, or None if it is rejected."""
    clean = normalise(text)
    return clean if len(clean) <= longest else None


async def test_every_text_is_stored_as_it_was_meant(pods: list[Server]) -> None:
    """Text and author, by JSON and by form: normalised, and otherwise as they were sent."""
    slots = asyncio.Semaphore(8)
    async with pods[0].client() as client:

        async def post(text: str, author: str, *, is_form: bool) -> None:
            fields = {"text": text, "author": author}
            body = urlencode(fields) if is_form else json.dumps(fields)
            async with slots:
                answer = await client.post(
                    "/messages", content=body, headers=FORM if is_form else JSON
                )
            kept, name = _stored(text, TEXT_MAX), _stored(author, AUTHOR_MAX)
            if not kept or name is None:
                assert answer.status_code == 422, (text, answer.text)
                return
            assert answer.status_code == (303 if is_form else 201), (text, answer.text)
            if not is_form:
                assert (answer.json()["text"], answer.json()["author"]) == (kept, name or None)
                again = (await client.get(answer.headers["location"])).json()
                assert again == answer.json()

        posts = [(text, "", is_form) for text in hostile.TEXTS for is_form in (False, True)]
        posts += [("x", text[:AUTHOR_MAX], False) for text in hostile.TEXTS]
        await asyncio.gather(*(post(t, a, is_form=form) for t, a, form in posts))
        listed = (await client.get("/messages?limit=1000")).json()["messages"]
        kept = {_stored(text, TEXT_MAX) for text in hostile.TEXTS} - {None, ""}
        assert kept <= {message["text"] for message in listed}
        for path in ("/", "/feed", "/lrange/x", "/metrics"):
            assert (await client.get(path)).status_code < 500
    _assert_log_is_its_own(pods)


@pytest.mark.slow
async def test_no_body_breaks_the_server(pods: list[Server]) -> None:
    """Deep, huge and incomplete bodies, other encodings: stored or rejected."""
    async with pods[1].client() as client:
        for body in hostile.JSON_BODIES:
            for headers in (JSON, FORM, {"Content-Type": "application/json; charset=utf-16"}):
                answer = await client.post("/messages", content=body, headers=headers)
                assert answer.status_code in (201, 303, 413, 415, 422), (body[:50], answer.text)
    _assert_log_is_its_own(pods)


@pytest.mark.slow
async def test_no_address_breaks_the_server(pods: list[Server]) -> None:
    """Cursors, keys and paths of all kinds: a status below 500, on both pods."""
    slots = asyncio.Semaphore(8)
    async with httpx.AsyncClient(timeout=60) as client:

        async def get(pod: Server, path: str) -> None:
            async with slots:
                answer = await client.get(pod.url + path)
            assert answer.status_code < 500, path
            assert "hacked" not in answer.headers

        paths = [
            path.format(quote(text, safe=""))
            for text in hostile.TEXTS
            for path in (*CURSORS, *PATHS)
        ]
        await asyncio.gather(*(get(pods[n % 2], path) for n, path in enumerate(paths)))
    _assert_log_is_its_own(pods)


@pytest.mark.slow
async def test_no_header_breaks_the_server_or_gets_into_an_answer(pods: list[Server]) -> None:
    """Line ends, control characters and other bytes in every header that is read: none of them
    becomes a header of the response.
    """
    slots = asyncio.Semaphore(16)

    async def send(pod: Server, line: bytes, field: str, value: bytes) -> None:
        body = b'{"text":"hello"}'
        fields = {"Host": b"guestbook", "Content-Type": b"application/json", field: value}
        head = b"".join(b"%s: %s\r\n" % (k.encode(), v) for k, v in fields.items())
        length = b"Content-Length: %d\r\n" % len(body) if line[:4] == b"POST" else b""
        close = b"Connection: close\r\n\r\n" + (body if length else b"")
        async with slots:
            said = await exchange(pod, line + b" HTTP/1.1\r\n" + head + length + close)
        assert statuses(said), (field, value)
        assert all(status < 500 for status in statuses(said)), (field, value, said)
        for answer in said.split(b"HTTP/1.1 ")[1:]:
            head = answer.partition(b"\r\n\r\n")[0].lower()
            assert b"hacked" not in head
            assert b"\r\nx-forged" not in head
            assert b"elsewhere" not in head

    lines = (b"GET /", b"POST /messages", b"DELETE /messages/1-1", b"GET /events?after=x")
    requests = [
        send(pods[n % 2], line, field, value)
        for n, value in enumerate(hostile.HEADER_VALUES)
        for field in FIELDS
        for line in lines
    ]
    await asyncio.gather(*requests)
    _assert_log_is_its_own(pods)
