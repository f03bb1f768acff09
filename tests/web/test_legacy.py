"""The original application's interface, for its existing clients."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import Serve
from tests.support.servers import Server

PATHS = ("/lrange/guestbook", "/rpush/guestbook/hello", "/info")


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    """A server with the interface of the original application."""
    return await serve_shared(GUESTBOOK_LEGACY_API="true")


async def read(client: httpx.AsyncClient, path: str) -> list[str]:
    """Read a JSON array of strings."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    said = answer.json()
    assert isinstance(said, list)
    assert all(isinstance(text, str) for text in said)
    return said


async def test_it_is_off_by_default(client: httpx.AsyncClient) -> None:
    """404, nothing is stored, and OpenAPI does not describe it."""
    for path in PATHS:
        assert (await client.get(path)).status_code == 404
    assert (await client.get("/messages")).json()["messages"] == []
    description = (await client.get("/openapi.json")).json()["paths"]
    assert not [path for path in description if path.startswith(("/lrange", "/rpush", "/info"))]


async def test_nothing_is_stored_by_caches(api: httpx.AsyncClient) -> None:
    """JSON and problems; pages, feed and files may be kept if they are asked for again."""
    posted = await api.post("/messages", json={"text": "hello"})
    assert posted.headers["cache-control"] == "no-store"
    messages = ("/messages", posted.headers["location"], "/messages/1-1", "/messages?limit=0")
    operation = ("/healthz", "/ready", "/env", "/metrics", "/openapi.json")
    for path in (*PATHS, *messages, *operation, "/nothing", "/?before=x"):
        for method in ("GET", "HEAD", "PUT"):
            answer = await api.request(method, path)
            assert answer.headers.get_list("cache-control") == ["no-store"], (method, path)
    for path in ("/", "/wall", "/feed.atom", "/static/guestbook.css"):
        answer = await api.get(path)
        assert answer.headers.get_list("cache-control") == ["no-cache"], path


async def test_it_is_one_list_oldest_first(serve: Serve) -> None:
    """Pushed or posted, under any key: the same messages, in the order of their ids."""
    server = await serve(GUESTBOOK_LEGACY_API="true")
    async with server.client() as client:
        assert await read(client, "/lrange/guestbook") == []
        assert await read(client, "/rpush/guestbook/one") == ["one"]
        await client.post("/messages", json={"text": "two", "author": "Ada"})
        assert await read(client, "/rpush/other/three") == ["one", "two", "three"]
        assert await read(client, "/lrange/guestbook") == ["one", "two", "three"]
        assert await read(client, "/lrange/whatever") == ["one", "two", "three"]
        newest = (await client.get("/messages")).json()["messages"][0]
        assert (newest["text"], newest["author"]) == ("three", None)
        # The whole list, as in the original, and not only one page.
        said = ["one", "two", "three", *(f"text {number}" for number in range(100))]
        for text in said[3:]:
            await client.post("/messages", json={"text": text})
        assert await read(client, "/lrange/guestbook") == said


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("hello%20world", "hello world"),
        ("a/b/c", "a/b/c"),
        ("a%2Fb", "a/b"),
        ("what%3F", "what?"),
        ("%F0%9F%98%80", "😀"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("one%0D%0Atwo%00", "one\ntwo"),
        ("a+b", "a+b"),
    ],
)
async def test_value_is_the_rest_of_the_address(
    api: httpx.AsyncClient, path: str, text: str
) -> None:
    """Decoded once, and normalised as every text."""
    assert (await read(api, f"/rpush/guestbook/{path}"))[-1] == text


@pytest.mark.parametrize("value", ["%20", "%00", "", "x" * 1001])
async def test_invalid_value_is_rejected(api: httpx.AsyncClient, value: str) -> None:
    """The rules are those of a post; nothing is stored."""
    before = await read(api, "/lrange/guestbook")
    assert (await api.get(f"/rpush/guestbook/{value}")).status_code in (404, 422)
    assert await read(api, "/lrange/guestbook") == before


async def test_other_sites_and_head_push_nothing(api: httpx.AsyncClient) -> None:
    """A GET that stores is protected like a post, and HEAD stores nothing."""
    before = await read(api, "/lrange/guestbook")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        answer = await api.get("/rpush/guestbook/forged", headers=headers)
        assert answer.status_code == 403
    await api.head("/rpush/guestbook/head")
    assert await read(api, "/lrange/guestbook") == before


async def test_rate_counts_pushes(serve: Serve) -> None:
    """Pushes and posts share the posting rate."""
    server = await serve(GUESTBOOK_LEGACY_API="true", GUESTBOOK_POST_RATE="2/h")
    async with server.client() as client:
        statuses = [
            (await client.get("/rpush/guestbook/x")).status_code,
            (await client.post("/messages", json={"text": "x"})).status_code,
        ]
        refused = await client.get("/rpush/guestbook/x")
        assert [*statuses, refused.status_code] == [200, 201, 429]
        assert refused.headers["retry-after"].isdigit()


async def test_info_is_that_of_redis(api: httpx.AsyncClient) -> None:
    """The text of Redis itself, as in the original."""
    answer = await api.get("/info")
    assert answer.status_code == 200
    lines = answer.text.splitlines()
    assert "# Server" in lines
    assert any(line.startswith("redis_version:") for line in lines)


async def test_push_with_a_key_is_stored_once(api: httpx.AsyncClient) -> None:
    """As a post is; a key that cannot be one is refused."""
    headers = {"Idempotency-Key": "once"}
    for _ in range(2):
        answer = await api.get("/rpush/guestbook/pushed%20once", headers=headers)
        assert answer.json().count("pushed once") == 1
    refused = await api.get("/rpush/guestbook/x", headers={"Idempotency-Key": "a b"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
