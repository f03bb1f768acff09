"""Posts that are refused: 403, 413, 415 and 422, as a problem or in the page with the input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.messages import BROWSER, FORM, JSON, as_bytes, fresh, problem, texts
from tests.support.page import Document
from tests.support.raw import connect
from tests.support.servers import Server
from tests.support.waiting import PATIENCE

MAX_BODY = 16 * 1024


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": None}, "text"),
        ({"text": " \r\n\t\0 "}, "text"),
        ({"text": True}, "text"),
        ({"text": {"x": "y"}}, "text"),
        ({"text": "😀" * 1001}, "text"),
        ({"text": "x", "author": "y" * 61}, "author"),
        ({"text": "x", "author": 17}, "author"),
        ({"text": "x", "author": ["y"]}, "author"),
    ],
)
async def test_invalid_message_is_rejected(
    api: httpx.AsyncClient, body: object, field: str
) -> None:
    """422 that names the field and the reason."""
    problem(await api.post("/messages", json=body), 422, field)


NOT_JSON = [
    *(b"", b"{", b'{"text": "x"} trailing', b"{'text': 'x'}", b"null", b"17", b"[]"),
    *(b'{"text": "\xff"}', b'{"text": "\xed\xa0\x80"}', b'{"text": "\0"}', b'{"text": "\\u0000"}'),
    *(b'{"text": "\\ud800"}', b'{"text": "x", "author": "\\ud83d"}', b'{"\\ud800": 1}'),
    *(b"[" * 16000, b'{"text":' * 2000, b'{"text":' + b"[" * 3000 + b"]" * 3000 + b"}"),
    *(b'{"text": 1e999999999}', b'{"text": ' + b"9" * 15000 + b"}", b'{"text": NaN}'),
    *('{"text": "x"}'.encode("utf-16"), '{"text": "x"}'.encode("utf-32")),
]


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:24]))
async def test_invalid_json_is_rejected(api: httpx.AsyncClient, body: bytes) -> None:
    """Surrogates, NUL, invalid UTF-8, depth, huge numbers, wrong types: 422, never 500."""
    problem(await api.post("/messages", content=body, headers=JSON), 422)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"&&&", b"text", b"text=+%0D%0A%09", b"text=%00", b"text=%FF", b"text=\xff"),
        *(b"text=%ED%A0%80", b"text=" + b"x" * 1001, b"text=x&author=" + b"y" * 61, b"author=x"),
        *(b"&".join(b"f%d=1" % n for n in range(1500)), b'{"text": "x"}'),
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_invalid_form_is_rejected(api: httpx.AsyncClient, body: bytes) -> None:
    """422 and the page again, whatever the form contains."""
    answer = await api.post("/messages", content=body, headers=BROWSER)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert Document(answer.text).problems.strip()


@settings(max_examples=40, deadline=None)
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["text", "author", "x"]), inner, max_size=3)
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    kind=st.sampled_from([FORM, JSON, BROWSER]),
)
async def test_no_body_causes_a_server_error(
    api: httpx.AsyncClient, body: bytes, kind: dict[str, str]
) -> None:
    """Any bytes are either a message or a client error."""
    answer = await api.post("/messages", content=body, headers=kind)
    assert answer.status_code in (201, 303, 422)


async def test_invalid_input_leaves_no_traceback(pod: Server, api: httpx.AsyncClient) -> None:
    """The log has one line for a rejected request, and nothing that looks like a failure."""
    assert (await api.get("/healthz")).status_code == 200
    assert "Traceback" not in pod.lines()
    assert '"level": "error"' not in pod.lines()


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("", "Ada"),
        ("fine", "n" * 61),
        ("</textarea><script>alert(1)</script>" + "x" * 1000, "Ada"),
        ("fine", '"><script>alert(1)</script>' + "n" * 60),
        ("\nfirst line empty\n  indented & <b>\u2028😀" + "x" * 1000, "'Ö' & \"Ü\""),
    ],
)
async def test_rejected_form_shows_the_page_with_the_input(
    api: httpx.AsyncClient, text: str, author: str
) -> None:
    """The visitor loses nothing and sees the reason; the input is not interpreted as HTML."""
    clean = Document((await api.get("/")).text)
    body = urlencode({"text": text, "author": author})
    answer = await api.post("/messages", content=body, headers=BROWSER)
    assert answer.status_code == 422
    shown = Document(answer.text)
    assert shown.typed == {"text": text, "author": author}
    assert shown.problems.strip()
    assert shown.messages == clean.messages
    assert len(shown.all("script")) == len(clean.all("script"))
    assert "no-store" in answer.headers["cache-control"]
    assert Document((await api.get("/")).text).typed == {"text": "", "author": ""}


# 413, 415


def padded(size: int) -> bytes:
    """Return a valid message of exactly this many bytes."""
    body = b'{"text": "x"'
    return body + b" " * (size - len(body) - 1) + b"}"


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body in pieces, so that its length is not announced."""
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


async def test_body_of_16_kib_is_read(api: httpx.AsyncClient) -> None:
    """Exactly 16 KiB are allowed, announced or in chunks."""
    for content in (padded(MAX_BODY), in_pieces(padded(MAX_BODY))):
        answer = await api.post("/messages", content=content, headers=JSON)
        assert answer.status_code == 201


@pytest.mark.parametrize("size", [MAX_BODY + 1, 10 * MAX_BODY])
async def test_body_over_16_kib_is_rejected(api: httpx.AsyncClient, size: int) -> None:
    """413, announced or in chunks, and nothing is stored."""
    before = await texts(api)
    for content in (padded(size), in_pieces(padded(size))):
        problem(await api.post("/messages", content=content, headers=JSON), 413)
    form = b"text=" + b"x" * (size - 5)
    for content in (form, in_pieces(form)):
        answer = await api.post("/messages", content=content, headers=BROWSER)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert await texts(api) == before


@pytest.mark.parametrize(
    "framing",
    ["Content-Length: 999999999999", f"Content-Length: {10**17}", "Transfer-Encoding: chunked"],
)
async def test_long_body_is_rejected_before_it_has_arrived(pod: Server, framing: str) -> None:
    """413 as soon as it is known to be too long: the server neither waits nor stores it."""
    head = f"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n"
    chunk = b"4001\r\n" + b" " * 0x4001 + b"\r\n"
    async with asyncio.timeout(PATIENCE), connect(pod.port) as (reader, writer):
        writer.write(head.encode() + b"\r\n" + (chunk if "chunked" in framing else b" "))
        assert (await reader.readline()).split()[1] == b"413"


@pytest.mark.parametrize(
    "content_type",
    [
        *(None, "", "text/json", "application/json-seq", "application/x-www-form-urlencoded2"),
        *("multipart/form-data; boundary=x", "*/*", "\u00ff"),
    ],
)
async def test_other_content_type_is_rejected(
    api: httpx.AsyncClient, content_type: str | None
) -> None:
    """415, and the detail names the accepted types."""
    headers = as_bytes({} if content_type is None else {"Content-Type": content_type})
    answer = await api.post("/messages", content=b'{"text": "x"}', headers=headers)
    assert "application/json" in problem(answer, 415)


# 403: cross-site posts of browsers. How an origin is compared is in test_public_url.py.


@pytest.mark.parametrize("kind", [JSON, FORM], ids=["json", "form"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "\u00ff\u00fe"},
        {"Origin": ""},
    ],
    ids=repr,
)
async def test_cross_site_post_is_rejected(
    pod: Server, api: httpx.AsyncClient, headers: dict[str, str], kind: dict[str, str]
) -> None:
    """403 when the browser's headers show that another site's page posts; nothing is stored."""
    host = pod.url.removeprefix("http://")
    given = as_bytes({k: v.replace("{host}", host) for k, v in {**kind, **headers}.items()})
    text = fresh("forged")
    body = json.dumps({"text": text}) if kind is JSON else urlencode({"text": text})
    answer = await api.post("/messages", content=body, headers=given)
    assert answer.status_code == 403
    assert text not in await texts(api)


@pytest.mark.parametrize("kind", [JSON, FORM], ids=["json", "form"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://{host}"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://{host}"},
        # Behind a proxy that terminates TLS and requests another host.
        {"Origin": "https://book.example", "X-Forwarded-Host": "Book.Example, inner"},
        {"Origin": "https://book.example", "Host": "book.example:443"},
    ],
    ids=repr,
)
async def test_same_origin_post_is_accepted(
    pod: Server, api: httpx.AsyncClient, headers: dict[str, str], kind: dict[str, str]
) -> None:
    """Posts of the page itself, and of programs, which send no such headers."""
    host = pod.url.removeprefix("http://")
    given = {k: v.replace("{host}", host) for k, v in headers.items()}
    body = '{"text": "x"}' if kind is JSON else "text=x"
    answer = await api.post("/messages", content=body, headers={**kind, **given})
    assert answer.status_code in (201, 303)
