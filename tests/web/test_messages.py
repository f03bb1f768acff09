"""Messages over HTTP: post, read, page through, delete, and everything that is rejected."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import redis.asyncio as redis
from hypothesis import given, settings
from hypothesis import strategies as st

from guestbook.core.messages import EntryId, InvalidMessageError, NewMessage
from tests.conftest import Serve, two_pods
from tests.support.raw import connect
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import PATIENCE, allowed, eventually

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
BROWSER = {**FORM, "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
TOKEN = "let-me"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
MAX_BODY = 16 * 1024
EVENTS = "{guestbook}:events"

Message = dict[str, Any]


# Two pods on one Redis, for all tests that tolerate other messages.


@pytest.fixture(scope="module")
async def pods(serve_shared: Serve) -> list[Server]:
    """Two servers on one Redis, without a posting rate."""
    return await two_pods(serve_shared, GUESTBOOK_ADMIN_TOKEN=TOKEN)


@pytest.fixture(scope="module")
async def api(pods: list[Server]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the first pod."""
    async with pods[0].client() as client:
        yield client


@pytest.fixture(scope="module")
async def other(pods: list[Server]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the second pod."""
    async with pods[1].client() as client:
        yield client


@pytest.fixture(scope="module")
async def limited(serve_shared: Serve, shared_valkey: Valkey) -> list[str]:
    """The addresses of two pods with a posting rate and an empty admin token."""
    env = {"GUESTBOOK_POST_RATE": "4/h", "GUESTBOOK_ADMIN_TOKEN": ""}
    pods = await two_pods(serve_shared, redis=shared_valkey.new_database(), **env)
    return [pod.url for pod in pods]


_numbers = itertools.count()


def fresh(prefix: str = "text") -> str:
    """Return a text, or a key, that was not used before."""
    return f"{prefix}-{next(_numbers)}"


async def post(client: httpx.AsyncClient, text: str, **headers: str) -> Message:
    """Post a text that must be accepted."""
    answer = await client.post("/messages", json={"text": text}, headers=headers)
    assert answer.status_code == 201, answer.text
    message: Message = answer.json()
    return message


async def texts(client: httpx.AsyncClient) -> list[str]:
    """Return the texts of the newest messages, newest first."""
    listing = (await client.get("/messages?limit=1000")).json()
    return [message["text"] for message in listing["messages"]]


def as_bytes(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers with values that are not ASCII, as a careless client sends them."""
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def problem(answer: httpx.Response, status: int, field: str | None = None) -> str:
    """Assert an RFC 9457 problem with this status; return its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    said = answer.json()
    assert said["status"] == status
    assert isinstance(said["title"], str)
    assert said.get("type", "about:blank")
    detail: str = said["detail"]
    assert detail
    if field is not None:
        assert [error["field"] for error in said["errors"]] == [field]
        assert all(error["reason"] for error in said["errors"])
        assert field in detail
    return detail


class Shown(HTMLParser):
    """What a browser shows of the page: the messages, and the contents of the form."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.messages: list[dict[str, str]] = []
        self.typed = {"text": "", "author": ""}
        self.problems = ""
        self.tags: list[str] = []
        self._into = ""
        self._in_template = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        classes = given.get("class", "").split()
        self.tags.append(tag)
        self._in_template = self._in_template or tag == "template"
        self._into = ""
        if self._in_template:
            return
        if given.get("data-id"):
            self.messages.append({"id": given["data-id"], "text": "", "author": ""})
        elif {"text", "author"} & set(classes) and self.messages:
            self._into = classes[0]
        elif given.get("role") == "alert":
            self._into = "problem"
        elif tag == "textarea":
            self._into = "typed"
        elif given.get("name") == "author":
            self.typed["author"] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._into = ""
        if tag == "template":
            self._in_template = False
        elif tag == "textarea":
            # The HTML standard drops one line end after the start tag.
            self.typed["text"] = self.typed["text"].removeprefix("\n")

    def handle_data(self, data: str) -> None:
        if self._into == "typed":
            self.typed["text"] += data
        elif self._into == "problem":
            self.problems += data
        elif self._into:
            self.messages[-1][self._into] += data


# Posting


async def test_json_post_is_created(api: httpx.AsyncClient) -> None:
    """201, the message in the documented form, and a Location from which it can be read."""
    answer = await api.post("/messages", json={"text": " hello\r\nthere ", "author": " Ada "})
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    message = answer.json()
    assert list(message) == ["id", "author", "text", "posted_at", "pod"]
    assert (message["text"], message["author"]) == ("hello\nthere", "Ada")
    assert message["pod"] == "pod-a"
    assert str(EntryId.parse(message["id"])) == message["id"]
    posted_at = datetime.fromisoformat(message["posted_at"])
    assert round(posted_at.timestamp() * 1000) == EntryId.parse(message["id"]).ms
    assert abs(posted_at.timestamp() - time.time()) < 10
    assert answer.headers["location"] == f"/messages/{message['id']}"
    assert (await api.get(answer.headers["location"])).json() == message


@pytest.mark.parametrize("author", [{}, {"author": None}, {"author": ""}, {"author": "  "}])
async def test_json_post_without_a_name(api: httpx.AsyncClient, author: dict[str, str]) -> None:
    """The author is null, in whatever way it is missing."""
    answer = await api.post("/messages", json={"text": "x", **author})
    assert (answer.status_code, answer.json()["author"]) == (201, None)


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
async def test_json_may_have_a_charset(api: httpx.AsyncClient, content_type: str) -> None:
    """Parameters and the case of the media type are ignored."""
    headers = {"Content-Type": content_type}
    answer = await api.post("/messages", content='{"text":"é"}'.encode(), headers=headers)
    assert (answer.status_code, answer.json()["text"]) == (201, "é")


async def test_unknown_members_are_ignored(api: httpx.AsyncClient) -> None:
    """A client of a later version may send more; it cannot set what the server decides."""
    forged = {"text": "x", "id": "1-0", "pod": "evil", "posted_at": "never", "more": [1]}
    answer = await api.post("/messages", json=forged)
    assert answer.status_code == 201
    assert answer.json()["pod"] == "pod-a"
    assert answer.json()["id"] != "1-0"


@pytest.mark.parametrize("headers", [FORM, BROWSER])
async def test_form_post_is_redirected_to_the_page(
    api: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    """303 to `/`, which shows the message: this is how it works without JavaScript."""
    text = fresh("form & <b>")
    body = urlencode({"text": text, "author": "Zoë"})
    answer = await api.post("/messages", content=body, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    newest = Shown((await api.get("/")).text).messages[0]
    assert (newest["text"], newest["author"]) == (text, "Zoë")


async def test_form_is_read_as_browsers_write_it(api: httpx.AsyncClient) -> None:
    """A plus sign is a space, a line ends in CR LF, and an empty name is no name."""
    await api.post("/messages", content="text=a+b%2Bc%0D%0Ad%26&author=", headers=FORM)
    newest = (await api.get("/messages?limit=1")).json()["messages"][0]
    assert (newest["text"], newest["author"]) == ("a b+c\nd&", None)


async def test_every_read_on_the_same_pod_shows_a_post_at_once(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """List, message and page show it without a delay while another pod posts, too."""

    async def disturb() -> None:
        while True:
            await post(other, fresh("noise"))

    noise = asyncio.create_task(disturb())
    try:
        for _ in range(20):
            message = await post(api, fresh())
            listing, one, page, since = await asyncio.gather(
                api.get("/messages"),
                api.get(f"/messages/{message['id']}"),
                api.get("/"),
                api.get(f"/messages?after={EntryId.parse(message['id']).before()}"),
            )
            assert message in listing.json()["messages"]
            assert one.json() == message
            assert message["id"] in [shown["id"] for shown in Shown(page.text).messages]
            assert since.json()["messages"][0] == message
    finally:
        noise.cancel()
        with pytest.raises(asyncio.CancelledError):
            await noise


awkward = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("<>&\"'`{}%\\/\r\n\t\0\x0b\x1b\x7f\x85\u2028\u202e\ufeff\ufffe a"),
    ),
    max_size=200,
)


@settings(max_examples=40, deadline=None)
@given(text=awkward, author=st.none() | awkward)
async def test_any_text_comes_back_the_same_everywhere(
    api: httpx.AsyncClient, text: str, author: str | None
) -> None:
    """Normalised once, the text is the same in the answer, the message, the list and the page."""
    answer = await api.post("/messages", json={"text": text, "author": author})
    try:
        draft = NewMessage.parse(text, author)
    except InvalidMessageError as refused:
        problem(answer, 422, refused.field)
        return
    assert answer.status_code == 201
    message = answer.json()
    assert (message["text"], message["author"]) == (draft.text, draft.author)
    assert (await api.get(f"/messages/{message['id']}")).json() == message
    assert (await api.get("/messages?limit=1")).json()["messages"] == [message]
    shown = Shown((await api.get("/")).text).messages[0]
    assert (shown["id"], shown["text"]) == (message["id"], draft.text)
    if draft.author:
        assert shown["author"] == draft.author


# Invalid messages


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": None}, "text"),
        ({"text": ""}, "text"),
        ({"text": " \r\n\t\0 "}, "text"),
        ({"text": 17}, "text"),
        ({"text": True}, "text"),
        ({"text": ["x"]}, "text"),
        ({"text": {"x": "y"}}, "text"),
        ({"text": "x" * 1001}, "text"),
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


async def test_longest_message_is_accepted(api: httpx.AsyncClient) -> None:
    """1000 and 60 characters, each four bytes long, however they are escaped."""
    longest = {"text": "😀" * 1000, "author": "😀" * 60}
    for content in (json.dumps(longest), json.dumps(longest, ensure_ascii=False)):
        answer = await api.post("/messages", content=content.encode(), headers=JSON)
        assert answer.status_code == 201
        assert answer.json()["text"] == longest["text"]
    answer = await api.post("/messages", data=longest)
    assert answer.status_code == 303


NOT_JSON = [
    b"",
    b" ",
    b"{",
    b"text=hello",
    b'{"text": "x"',
    b'{"text": "x"} trailing',
    b"{'text': 'x'}",
    b"null",
    b"17",
    b'"text"',
    b"[]",
    b'[{"text": "x"}]',
    b'{"text": "\xff"}',
    b'{"text": "\xed\xa0\x80"}',
    b'{"text": "\\ud800"}',
    b'{"text": "\\udc00\\ud800"}',
    b'{"text": "x", "author": "\\ud83d"}',
    b'{"text": "\\u0000"}',
    b'{"text": "\0"}',
    b'{"\\ud800": 1}',
    b"[" * 16000,
    b'{"text":' * 2000,
    b'{"text":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"text": 1e999999999}',
    b'{"text": -1e-999999999}',
    b'{"text": ' + b"9" * 15000 + b"}",
    b'{"text": NaN}',
    b'{"text": Infinity}',
    '{"text": "x"}'.encode("utf-16"),
    '{"text": "x"}'.encode("utf-32"),
]


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:24]))
async def test_invalid_json_is_rejected(api: httpx.AsyncClient, body: bytes) -> None:
    """Surrogates, NUL, invalid UTF-8, depth, huge numbers, wrong types: 422, never 500."""
    problem(await api.post("/messages", content=body, headers=JSON), 422)


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "x", "n": ' + b"9" * 15000 + b"}",
        b'{"text": "x", "n": 1e999999999}',
        b'{"text": "x", "n": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"text": "y", "text": "x"}',
        b"\xef\xbb\xbf" + b'{"text": "x"}',
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_odd_json_is_accepted_or_rejected(api: httpx.AsyncClient, body: bytes) -> None:
    """The design leaves it open: either the text is stored, or a 422 states the reason."""
    answer = await api.post("/messages", content=body, headers=JSON)
    if answer.status_code == 201:
        assert answer.json()["text"] == "x"
    else:
        problem(answer, 422)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"&&&",
        b"text",
        b"text=",
        b"text=+%0D%0A%09",
        b"text=%00",
        b"text=%FF",
        b"text=\xff",
        b"text=%ED%A0%80",
        b"text=" + b"x" * 1001,
        b"text=x&author=" + b"y" * 61,
        b"author=x",
        b"&".join(b"f%d=1" % n for n in range(1500)),
        b'{"text": "x"}',
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_invalid_form_is_rejected(api: httpx.AsyncClient, body: bytes) -> None:
    """422 and the page again, whatever the form contains."""
    answer = await api.post("/messages", content=body, headers=BROWSER)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert Shown(answer.text).problems.strip()


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


async def test_invalid_input_leaves_no_traceback(
    pods: list[Server], api: httpx.AsyncClient
) -> None:
    """The log has one line for a rejected request, and nothing that looks like a failure."""
    for body in NOT_JSON:
        await api.post("/messages", content=body, headers=JSON)
    said = pods[0].lines()
    assert "Traceback" not in said
    assert '"level": "error"' not in said
    assert (await api.get("/healthz")).status_code == 200


# Errors of the form


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("", "Ada"),
        ("x" * 1001, "Ada Lovelace"),
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
    clean = Shown((await api.get("/")).text)
    body = urlencode({"text": text, "author": author})
    answer = await api.post("/messages", content=body, headers=BROWSER)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    shown = Shown(answer.text)
    assert shown.typed == {"text": text, "author": author}
    assert shown.problems.strip()
    assert shown.messages == clean.messages
    assert shown.tags.count("script") == clean.tags.count("script")
    assert "no-store" in answer.headers["cache-control"]
    assert Shown((await api.get("/")).text).typed == {"text": "", "author": ""}


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
    whole = await api.post("/messages", content=padded(MAX_BODY), headers=JSON)
    pieces = await api.post("/messages", content=in_pieces(padded(MAX_BODY)), headers=JSON)
    assert (whole.status_code, pieces.status_code) == (201, 201)


@pytest.mark.parametrize("size", [MAX_BODY + 1, 10 * MAX_BODY])
async def test_body_over_16_kib_is_rejected(api: httpx.AsyncClient, size: int) -> None:
    """413, announced or in chunks, and nothing is stored."""
    before = await texts(api)
    problem(await api.post("/messages", content=padded(size), headers=JSON), 413)
    problem(await api.post("/messages", content=in_pieces(padded(size)), headers=JSON), 413)
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
async def test_long_body_is_rejected_before_it_has_arrived(
    pods: list[Server], framing: str
) -> None:
    """413 as soon as it is known to be too long: the server neither waits nor stores it."""
    head = f"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n"
    chunk = b"4001\r\n" + b" " * 0x4001 + b"\r\n"
    async with asyncio.timeout(PATIENCE), connect(pods[0].port) as (reader, writer):
        writer.write(head.encode() + b"\r\n" + (chunk if "chunked" in framing else b" "))
        assert (await reader.readline()).split()[1] == b"413"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/json-seq",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded2",
        "*/*",
        "\u00ff",
    ],
)
async def test_other_content_type_is_rejected(
    api: httpx.AsyncClient, content_type: str | None
) -> None:
    """415, and the detail names the accepted types."""
    headers = as_bytes({} if content_type is None else {"Content-Type": content_type})
    answer = await api.post("/messages", content=b'{"text": "x"}', headers=headers)
    assert "application/json" in problem(answer, 415)


# 403: cross-site posts of browsers


@pytest.mark.parametrize("kind", [JSON, FORM])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://{host}.evil.example"},
        {"Origin": "http://evil.example/{host}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://{host}@evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "\u00ff\u00fe"},
        {"Origin": ""},
    ],
    ids=repr,
)
async def test_cross_site_post_is_rejected(
    pods: list[Server], api: httpx.AsyncClient, headers: dict[str, str], kind: dict[str, str]
) -> None:
    """403 when the browser's headers show that another site's page posts; nothing is stored."""
    host = pods[0].url.removeprefix("http://")
    given = as_bytes({k: v.replace("{host}", host) for k, v in {**kind, **headers}.items()})
    text = fresh("forged")
    body = json.dumps({"text": text}) if kind is JSON else urlencode({"text": text})
    answer = await api.post("/messages", content=body, headers=given)
    assert answer.status_code == 403
    assert text not in await texts(api)


@pytest.mark.parametrize("kind", [JSON, FORM])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://{host}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://{host}"},
        # Behind a proxy that terminates TLS and requests another host.
        {"Origin": "https://book.example", "Host": "book.example"},
        {"Origin": "https://book.example", "X-Forwarded-Host": "book.example"},
        {"Origin": "https://book.example", "X-Forwarded-Host": "Book.Example, inner"},
        {"Origin": "http://book.example", "Host": "book.example:80"},
        {"Origin": "https://book.example", "Host": "book.example:443"},
    ],
    ids=repr,
)
async def test_same_origin_post_is_accepted(
    pods: list[Server], api: httpx.AsyncClient, headers: dict[str, str], kind: dict[str, str]
) -> None:
    """Posts of the page itself, and of programs, which send no such headers."""
    host = pods[0].url.removeprefix("http://")
    given = {k: v.replace("{host}", host) for k, v in headers.items()}
    body = '{"text": "x"}' if kind is JSON else "text=x"
    answer = await api.post("/messages", content=body, headers={**kind, **given})
    assert answer.status_code in (201, 303)


# 429: the posting rate


def whole_seconds(answer: httpx.Response) -> int:
    """Return `Retry-After`, which must be in whole seconds."""
    value = answer.headers["retry-after"]
    assert value.isdigit()
    return int(value)


async def test_rate_is_counted_across_pods(limited: list[str]) -> None:
    """Two posts on each pod are four; another address is counted separately."""
    one, two = limited

    async def say(client: httpx.AsyncClient, pod: str, **headers: str) -> httpx.Response:
        return await client.post(f"{pod}/messages", json={"text": fresh()}, headers=headers)

    async with httpx.AsyncClient() as client:
        statuses = [(await say(client, pod)).status_code for pod in (one, two, one, two)]
        assert statuses == [201, 201, 201, 201]
        for pod in (one, two):
            refused = await say(client, pod)
            problem(refused, 429)
            assert 1 <= whole_seconds(refused) <= 3600
        typed = {"text": "not <lost>", "author": "Ada"}
        answer = await client.post(f"{two}/messages", data=typed, headers=BROWSER)
        assert answer.status_code == 429
        assert 1 <= whole_seconds(answer) <= 3600
        assert Shown(answer.text).typed == typed
        # A proxy on this machine is trusted.
        for address in ("10.0.0.7", "::ffff:10.0.0.8", "::ffff:10.0.0.9", "2001:db8::1"):
            statuses = [
                (await say(client, pod, **{"X-Forwarded-For": address})).status_code
                for pod in (one, two, one, two, one)
            ]
            assert statuses == [201, 201, 201, 201, 429]
        for pod in (one, two):
            assert (await client.get(f"{pod}/messages")).status_code == 200
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await say(client, one)).status_code == 201


async def test_retry_after_is_correct(serve: Serve) -> None:
    """A post succeeds after that time, and not before."""
    server = await serve(GUESTBOOK_POST_RATE="1/2s")
    async with server.client() as client:
        await post(client, "first")
        refused = await client.post("/messages", json={"text": "second"})
        assert refused.status_code == 429
        told = whole_seconds(refused)
        assert told in (1, 2)

        async def is_taken() -> bool:
            answer = await client.post("/messages", json={"text": "second"})
            return answer.status_code == 201

        await eventually(is_taken, within=told, every=0.05)
        assert await texts(client) == ["second", "first"]


# Idempotency-Key


async def test_same_key_returns_the_same_message(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """On any pod, any number of times, and whatever the text is then."""
    key, text = fresh("key"), fresh()
    first = await post(api, text, **{"Idempotency-Key": key})
    for client, again in itertools.product((other, api), (text, "something else")):
        assert await post(client, again, **{"Idempotency-Key": key}) == first
    body = urlencode({"text": text})
    answer = await other.post("/messages", content=body, headers={**FORM, "Idempotency-Key": key})
    assert answer.status_code == 303
    assert (await texts(api)).count(text) == 1
    assert "something else" not in await texts(api)


async def test_same_key_at_the_same_time_stores_one_message(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """Twenty simultaneous posts on two pods store one message, and all return it."""
    key = fresh("key")
    said = [fresh("at once") for _ in range(20)]
    clients = itertools.cycle((api, other))
    messages = await asyncio.gather(
        *(post(next(clients), text, **{"Idempotency-Key": key}) for text in said)
    )
    assert all(message == messages[0] for message in messages)
    kept = await texts(api)
    assert [text for text in said if text in kept] == [messages[0]["text"]]


async def test_other_keys_are_other_messages(api: httpx.AsyncClient) -> None:
    """Keys are compared literally: case, length and braces matter; 128 characters fit."""
    base = fresh("Key")
    keys = [base, base.lower(), base + "!", "{" + base + "}", base + "~" * (128 - len(base)), "!"]
    messages = [await post(api, "x", **{"Idempotency-Key": key}) for key in keys]
    assert len({message["id"] for message in messages}) == len(keys)
    again = [await post(api, "x", **{"Idempotency-Key": key}) for key in keys]
    assert again == messages


@pytest.mark.parametrize(
    "key", ["", "two words", "a\tb", "x" * 129, "x" * 5000, "\u00ff", "Ã©"], ids=lambda key: key[:9]
)
async def test_invalid_key_is_rejected(api: httpx.AsyncClient, key: str) -> None:
    """422 that names the header: a client that sends a key relies on it."""
    text = fresh()
    headers = as_bytes({**JSON, "Idempotency-Key": key})
    answer = await api.post("/messages", content=json.dumps({"text": text}), headers=headers)
    problem(answer, 422, "Idempotency-Key")
    assert text not in await texts(api)


async def test_known_key_is_answered_above_the_rate(limited: list[str]) -> None:
    """A repeated post is answered on every pod; a new one is rejected."""
    async with httpx.AsyncClient(headers={"X-Forwarded-For": "10.0.0.1"}) as client:

        async def say(pod: str, key: str) -> httpx.Response:
            headers = {"Idempotency-Key": key}
            return await client.post(f"{pod}/messages", json={"text": key}, headers=headers)

        answers = [await say(pod, "one") for pod in limited * 5]
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        others = [await say(pod, fresh("other")) for pod in limited * 3]
        assert others[-1].status_code == 429
        assert (await say(limited[0], "one")).json() == answers[0].json()


async def test_key_does_not_restore_a_deleted_message(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """After a deletion the same key still returns the message, and stores nothing."""
    key, text = fresh("key"), fresh()
    first = await post(api, text, **{"Idempotency-Key": key})
    assert (await api.delete(f"/messages/{first['id']}", headers=ADMIN)).status_code == 204
    assert (await post(other, text, **{"Idempotency-Key": key}))["id"] == first["id"]
    assert text not in await texts(api)


# Reading


async def walk(client: httpx.AsyncClient, address: str) -> list[list[Message]]:
    """Return all pages from an address on, following `next`."""
    pages = []
    following: str | None = address
    while following is not None:
        answer = await client.get(following)
        assert answer.status_code == 200, answer.text
        listing = answer.json()
        assert list(listing) == ["messages", "next"]
        pages.append(listing["messages"])
        following = listing["next"]
        assert len(pages) < 3000
    return pages


def flat(pages: Iterable[list[Message]]) -> list[Message]:
    """Return the messages of all pages."""
    return [message for page in pages for message in page]


def sizes(total: int, limit: int) -> list[int]:
    """Return how many messages each page must have."""
    full = [limit] * (total // limit)
    return full + ([total % limit] if total % limit or not total else [])


async def test_pages_cover_the_list_in_both_directions(serve: Serve) -> None:
    """Every message once and in order on full pages, for any limit; deleted ones never."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with server.client() as client:
        assert await walk(client, "/messages") == [[]]
        assert await walk(client, "/messages?after=0-0") == [[]]
        posted = [await post(client, str(number)) for number in range(63)]
        for message in posted[10:13]:
            gone = await client.delete(f"/messages/{message['id']}", headers=ADMIN)
            assert gone.status_code == 204
        posted[10:13] = []
        ids = [EntryId.parse(message["id"]) for message in posted]
        assert ids == sorted(set(ids))

        for limit in (1, 7, 59, 60, 61, 1000):
            pages = await walk(client, f"/messages?limit={limit}")
            assert flat(pages) == posted[::-1]
            assert [len(page) for page in pages] == sizes(60, limit)
            pages = await walk(client, f"/messages?after=0-0&limit={limit}")
            assert flat(pages) == posted
            assert [len(page) for page in pages] == sizes(60, limit)

        newest = (await client.get("/messages")).json()
        assert newest["messages"] == posted[::-1][:50]
        assert newest["next"] == f"/messages?limit=50&before={posted[10]['id']}"
        middle, name = ids[30], posted[30]["id"]
        assert flat(await walk(client, f"/messages?before={name}")) == posted[29::-1]
        assert flat(await walk(client, f"/messages?after={name}")) == posted[31:]
        between = EntryId(middle.ms, middle.seq + 1)
        assert flat(await walk(client, f"/messages?before={between}")) == posted[30::-1]
        assert flat(await walk(client, f"/messages?before={middle.before()}")) == posted[29::-1]
        largest = f"{2**64 - 1}-{2**64 - 1}"
        assert flat(await walk(client, f"/messages?before={largest}")) == posted[::-1]
        assert await walk(client, "/messages?before=0-0") == [[]]
        assert await walk(client, f"/messages?before={posted[0]['id']}") == [[]]
        assert await walk(client, f"/messages?after={posted[-1]['id']}") == [[]]
        assert await walk(client, f"/messages?after={largest}") == [[]]


async def test_polling_returns_every_message_once(api: httpx.AsyncClient) -> None:
    """A client that continues after the last id that it has seen misses nothing."""
    start = (await post(api, "start"))["id"]
    said = [fresh("polled") for _ in range(40)]

    async def speak() -> None:
        for text in said:
            await post(api, text)

    speaking = asyncio.create_task(speak())
    heard: list[Message] = []

    async def has_heard_all() -> bool:
        after = heard[-1]["id"] if heard else start
        heard.extend((await api.get(f"/messages?after={after}&limit=3")).json()["messages"])
        return len(heard) >= len(said)

    await eventually(has_heard_all, every=0.002)
    await speaking
    assert [message["text"] for message in heard] == said


async def test_list_continues_beyond_memory(
    serve: Serve, redis_url: str, shared_valkey: Valkey
) -> None:
    """What is not in memory is read from Redis: pages, one message, a deletion."""
    total = 2300
    async with redis.Redis.from_url(redis_url) as store:
        pipeline = store.pipeline(transaction=False)
        for number in range(total):
            text = f"{number} " + "😀" * 990
            pipeline.xadd(EVENTS, {"text": text, "pod": "pod-x"}, id=f"{number + 1}-0")
        await pipeline.execute()
    server = await serve(GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with server.client() as client:
        expected = list(range(1, total + 1))

        async def numbers(address: str) -> list[int]:
            pages = await walk(client, address)
            return [EntryId.parse(message["id"]).ms for message in flat(pages)]

        assert await numbers("/messages?limit=1000") == expected[::-1]
        assert await numbers("/messages?limit=1000&after=0-0") == expected
        assert await numbers("/messages?limit=700&before=2000-0") == expected[:1999][::-1]
        assert await numbers("/messages?limit=700&after=500-0") == expected[500:]
        old = (await client.get("/messages/7-0")).json()
        assert old["text"].startswith("6 😀")
        for gone in (7, 600, 601, 2299):
            answer = await client.delete(f"/messages/{gone}-0", headers=ADMIN)
            assert answer.status_code == 204
            assert (await client.get(f"/messages/{gone}-0")).status_code == 404
            expected.remove(gone)
        assert await numbers("/messages?limit=1000") == expected[::-1]
        assert await numbers("/messages?limit=1000&after=0-0") == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=many", "limit"),
        ("limit=", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=%00", "limit"),
        ("limit=%FF", "limit"),
        ("before=x", "before"),
        ("before=1-2-3", "before"),
        ("before=%00", "before"),
        ("before=%ED%A0%80", "before"),
        (f"before={2**64}-0", "before"),
        ("before=" + "9" * 5000, "before"),
        ("after=x", "after"),
        ("after=-", "after"),
        ("after=%24", "after"),
        ("after=+", "after"),
        ("after=%C2%B2-0", "after"),
        ("after=%D9%A1-0", "after"),
    ],
    ids=lambda value: value[:20],
)
async def test_invalid_query_is_rejected(api: httpx.AsyncClient, query: str, field: str) -> None:
    """422 that names the parameter."""
    problem(await api.get(f"/messages?{query}"), 422, field)


@pytest.mark.parametrize(
    "message_id",
    ["1-0", "0-0", "1", "x", "-", "+", "1-2-3", "%00", "%FF", "%2F", "9" * 4000, f"{2**64}-0"],
    ids=lambda value: value[:20],
)
async def test_unknown_message(api: httpx.AsyncClient, message_id: str) -> None:
    """404 for any id, also for what is no id."""
    problem(await api.get(f"/messages/{message_id}"), 404)


async def test_deletion_is_not_a_message(api: httpx.AsyncClient, pods: list[Server]) -> None:
    """The id of a deletion cannot be read or deleted."""
    first = await post(api, fresh())
    second = await post(api, fresh())
    await api.delete(f"/messages/{first['id']}", headers=ADMIN)
    async with redis.Redis.from_url(pods[0].env["REDIS_URL"]) as store:
        newest: Any = await store.xrevrange(EVENTS, count=1)
    ((raw, fields),) = newest
    assert fields == {b"deleted": first["id"].encode()}
    problem(await api.get(f"/messages/{raw.decode()}"), 404)
    problem(await api.delete(f"/messages/{raw.decode()}", headers=ADMIN), 404)
    assert (await api.get("/messages?limit=1")).json()["messages"] == [second]


# Deleting


async def test_deleted_message_is_gone_everywhere_at_once(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """204; no read on the same pod shows it, soon none on other pods; 404 the second time."""
    kept, gone = await post(api, fresh("kept")), await post(api, fresh("gone"))
    answer = await api.delete(f"/messages/{gone['id']}", headers=ADMIN)
    assert (answer.status_code, answer.content) == (204, b"")
    one, listing, since, page = await asyncio.gather(
        api.get(f"/messages/{gone['id']}"),
        api.get("/messages"),
        api.get(f"/messages?after={kept['id']}"),
        api.get("/"),
    )
    problem(one, 404)
    assert listing.json()["messages"][0] == kept
    assert since.json() == {"messages": [], "next": None}
    assert gone["text"] not in page.text
    assert kept["text"] in page.text

    async def is_gone_there() -> bool:
        answers = await asyncio.gather(other.get("/messages"), other.get("/"))
        return all(gone["text"] not in answer.text for answer in answers)

    await eventually(is_gone_there)
    problem(await api.delete(f"/messages/{gone['id']}", headers=ADMIN), 404)
    problem(await other.delete(f"/messages/{gone['id']}", headers=ADMIN), 404)


async def test_message_of_another_pod_can_be_deleted(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """Of simultaneous deletions one gets 204 and the others 404."""
    message = await post(other, fresh())
    answers = await asyncio.gather(
        *(c.delete(f"/messages/{message['id']}", headers=ADMIN) for c in (api, other) * 4)
    )
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 7


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \u00ff\u00fe",
    ],
)
async def test_wrong_token_deletes_nothing(
    api: httpx.AsyncClient, authorization: str | None
) -> None:
    """401 that names the scheme, whether or not the message exists."""
    message = await post(api, fresh())
    headers = as_bytes({} if authorization is None else {"Authorization": authorization})
    for message_id in (message["id"], "1-0", "x"):
        answer = await api.delete(f"/messages/{message_id}", headers=headers)
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await api.get(f"/messages/{message['id']}")).json() == message


async def test_scheme_is_not_case_sensitive(api: httpx.AsyncClient) -> None:
    """RFC 9110, section 11.1."""
    message = await post(api, fresh())
    headers = {"Authorization": f"bearer {TOKEN}"}
    answer = await api.delete(f"/messages/{message['id']}", headers=headers)
    assert answer.status_code == 204


async def test_deleting_is_off_without_a_configured_token(limited: list[str]) -> None:
    """403 with any token, and with none: an empty setting counts as unset."""
    address = {"X-Forwarded-For": "10.0.0.2"}
    async with httpx.AsyncClient(base_url=limited[0], headers=address) as client:
        message = await post(client, "stays")
        for authorization in (None, "Bearer", "Bearer None", f"Bearer {TOKEN}"):
            headers = {} if authorization is None else {"Authorization": authorization}
            answer = await client.delete(f"/messages/{message['id']}", headers=headers)
            problem(answer, 403)
        assert (await client.get(f"/messages/{message['id']}")).json() == message


@pytest.mark.parametrize("message_id", ["1-0", "x", "0-0", "%00", f"{2**64}-0", "9" * 4000])
async def test_deleting_an_unknown_message(api: httpx.AsyncClient, message_id: str) -> None:
    """404."""
    problem(await api.delete(f"/messages/{message_id}", headers=ADMIN), 404)


# Retention


async def test_number_of_messages_is_bounded(serve: Serve, redis_url: str) -> None:
    """Of many posts on two pods the newest GUESTBOOK_MAX_MESSAGES are kept.

    Also if more were kept before, by pods with a larger number.
    """
    async with redis.Redis.from_url(redis_url) as store:
        pipeline = store.pipeline(transaction=False)
        for number in range(2500):
            pipeline.xadd(EVENTS, {"text": str(number), "pod": "pod-x"})
        await pipeline.execute()
    limits = {"GUESTBOOK_MAX_MESSAGES": "5", "GUESTBOOK_ADMIN_TOKEN": TOKEN}
    pods = await asyncio.gather(serve("pod-a", **limits), serve("pod-b", **limits))
    async with (
        redis.Redis.from_url(redis_url) as store,
        pods[0].client() as one,
        pods[1].client() as two,
    ):
        await asyncio.gather(*(post(client, str(n)) for n in range(10) for client in (one, two)))
        assert await store.xlen(EVENTS) == 5
        last = [await post(one, f"last-{n}") for n in range(5)]
        assert await store.xlen(EVENTS) == 5
        said = [message["text"] for message in last[::-1]]
        assert await texts(one) == said
        assert [m["text"] for m in Shown((await one.get("/")).text).messages] == said
        assert flat(await walk(one, "/messages?after=0-0&limit=2")) == last

        async def is_true_there() -> bool:
            return await texts(two) == said

        await eventually(is_true_there)
        await post(one, "newest")
        problem(await one.get(f"/messages/{last[0]['id']}"), 404)
        problem(await one.delete(f"/messages/{last[0]['id']}", headers=ADMIN), 404)
        # Deletions count as well, so they are no way around the limit.
        for message in last[2:]:
            await one.delete(f"/messages/{message['id']}", headers=ADMIN)
        await asyncio.gather(*(post(one, f"more-{n}") for n in range(8)))
        assert await store.xlen(EVENTS) == 5
        assert len(await texts(one)) == 5


async def test_old_messages_expire(serve: Serve, redis_url: str) -> None:
    """Messages older than GUESTBOOK_MAX_AGE leave Redis and memory, without any new post.

    A stream with a cursor before the oldest kept entry gets `reset`, one with a later cursor
    misses nothing, and an open one is not affected. This includes a pod with another setting.
    """
    async with redis.Redis.from_url(redis_url) as store:
        for number in range(3):
            await store.xadd(EVENTS, {"text": str(number), "pod": "p"}, id=f"{number + 1}-0")
    strict, lax = await asyncio.gather(
        serve("pod-a", GUESTBOOK_MAX_AGE="4s", GUESTBOOK_ADMIN_TOKEN=TOKEN), serve("pod-b")
    )
    async with (
        redis.Redis.from_url(redis_url) as store,
        strict.client() as one,
        lax.client() as two,
        EventStream(lax.url) as stream,
    ):
        await stream.until("pods")

        async def show(said: list[str]) -> None:
            for client in (one, two):

                async def is_true_there(client: httpx.AsyncClient = client) -> bool:
                    return await texts(client) == said

                await eventually(is_true_there)
                page = Shown((await client.get("/")).text)
                assert [message["text"] for message in page.messages] == said

        # Expired before any process started.
        await show([])
        old = await post(two, "old")
        gone = await post(two, "deleted")
        await one.delete(f"/messages/{gone['id']}", headers=ADMIN)
        await show([])

        async def is_empty() -> bool:
            return await store.xlen(EVENTS) == 0

        await eventually(is_empty)
        problem(await two.get(f"/messages/{old['id']}"), 404)
        assert flat(await walk(two, "/messages?after=0-0&limit=2")) == []
        late = await serve("pod-c")
        new = await post(one, "new")
        seen = await stream.entries(4)
        assert [event.name for event in seen] == ["message", "message", "deleted", "message"]
        for url in (strict.url, lax.url, late.url):
            async with EventStream(url, last_event_id=str(seen[2].id)) as back:
                assert [event.data for event in await back.entries(1)] == [new]
        for url in (strict.url, lax.url, late.url):
            for lost in ("0-0", old["id"], gone["id"]):
                async with EventStream(url, last_event_id=lost) as cut_off:
                    (reset,) = await cut_off.entries(1)
                    assert (reset.name, reset.id) == ("reset", new["id"])


# Redis is unavailable


async def test_post_waits_for_redis_and_then_returns_retry_after(
    valkey: Valkey, serve: Serve
) -> None:
    """503 with whole seconds after about 3 s; reads still work; nothing is stored later."""
    server = await serve(redis=valkey.address, GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with server.client() as client:
        kept = await post(client, "kept")
        valkey.kill()
        typed = {"text": "not <lost>", "author": "Ada"}
        started = time.monotonic()
        refused, form, deletion = await asyncio.gather(
            client.post("/messages", json={"text": "lost"}),
            client.post("/messages", data=typed, headers=BROWSER),
            client.delete(f"/messages/{kept['id']}", headers=ADMIN),
        )
        assert 2 < time.monotonic() - started < allowed(5)
        problem(refused, 503)
        problem(deletion, 503)
        assert form.status_code == 503
        assert Shown(form.text).typed == typed
        for answer in (refused, form, deletion):
            assert whole_seconds(answer) >= 1
        assert await texts(client) == ["kept"]
        assert [m["text"] for m in Shown((await client.get("/")).text).messages] == ["kept"]

        waiting = asyncio.create_task(client.post("/messages", json={"text": "patient"}))
        await asyncio.to_thread(valkey.start)
        assert (await waiting).status_code == 201
        assert await texts(client) == ["patient", "kept"]
