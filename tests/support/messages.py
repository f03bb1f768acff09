"""Messages over HTTP, and checks of answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from tests.support.valkey import redis_client

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
BROWSER = {**FORM, "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
TOKEN = "let-me"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}

Message = dict[str, Any]

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


async def post_all(client: httpx.AsyncClient, *texts: str, author: str | None = None) -> list[str]:
    """Post messages in this order; return their ids."""
    posts = [{"text": text, "author": author} for text in texts]
    answers = [await client.post("/messages", json=each) for each in posts]
    return [answer.json()["id"] for answer in answers]


def names(header: str) -> set[str]:
    """Return what a header lists, in lower case."""
    return {name.strip().lower() for name in header.split(",")}


async def store(url: str, *texts: str, first: int = 1) -> None:
    """Write messages into Redis, past all servers; their ids are `first`-0 and so on."""
    async with redis_client(url) as redis, redis.pipeline(transaction=False) as pipeline:
        for number, text in enumerate(texts, first):
            pipeline.xadd("{guestbook}:events", {"text": text, "pod": "p"}, id=f"{number}-0")
        await pipeline.execute()


def exported(number: int, text: str = "") -> bytes:
    """Return a message as a line of an export; its id is `number`-0."""
    message = {"id": f"{number}-0", "author": None, "text": text or str(number), "pod": "p"}
    return json.dumps(message, ensure_ascii=False).encode() + b"\n"
