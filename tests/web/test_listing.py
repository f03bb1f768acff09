"""`GET /messages` and `GET /messages/{id}`: pages in both directions, from memory and Redis."""

from __future__ import annotations

import httpx
import pytest

from guestbook.core.messages import EntryId
from tests.conftest import Serve
from tests.support.messages import ADMIN, TOKEN, flat, post, problem, store, walk


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

        for limit in (2, 7, 59, 60, 61, 1000):
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


async def test_list_continues_beyond_memory(serve: Serve, redis_url: str) -> None:
    """Older entries are read from Redis: pages, one message, a deletion."""
    total = 130
    await store(redis_url, *(f"{number} " + "😀" * 9900 for number in range(total)))
    server = await serve(GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with server.client() as client:
        expected = list(range(1, total + 1))

        async def numbers(address: str) -> list[int]:
            pages = await walk(client, address)
            return [EntryId.parse(message["id"]).ms for message in flat(pages)]

        assert await numbers("/messages?limit=100") == expected[::-1]
        assert await numbers("/messages?limit=100&after=0-0") == expected
        assert await numbers("/messages?limit=70&before=120-0") == expected[:119][::-1]
        assert await numbers("/messages?limit=70&after=50-0") == expected[50:]
        old = (await client.get("/messages/7-0")).json()
        assert old["text"].startswith("6 😀")
        for gone in (7, 60, 61, 129):
            answer = await client.delete(f"/messages/{gone}-0", headers=ADMIN)
            assert answer.status_code == 204
            assert (await client.get(f"/messages/{gone}-0")).status_code == 404
            expected.remove(gone)
        assert await numbers("/messages?limit=100") == expected[::-1]
        assert await numbers("/messages?limit=100&after=0-0") == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("limit", value) for value in ("0", "1.5", "many", "", "9" * 5000, "%00", "%FF")),
        *(("before", value) for value in ("x", "1-2-3", "%00", "%ED%A0%80", f"{2**64}-0")),
        *(("after", value) for value in ("x", "-", "%24", "+", "%D9%A1-0", "9" * 5000)),
        ("after", "1-0&before=2-0"),
    ],
    ids=lambda value: value[:20],
)
async def test_invalid_query_is_rejected(api: httpx.AsyncClient, field: str, value: str) -> None:
    """422 that names the parameter."""
    problem(await api.get(f"/messages?{field}={value}"), 422, field)


@pytest.mark.parametrize(
    "message_id",
    ["1-0", "0-0", "1", "x", "-", "+", "1-2-3", "%00", "%FF", "%2F", "9" * 4000, f"{2**64}-0"],
    ids=lambda value: value[:20],
)
async def test_unknown_message(api: httpx.AsyncClient, message_id: str) -> None:
    """404 for any id, also for what is no id: it cannot be read or deleted."""
    problem(await api.get(f"/messages/{message_id}"), 404)
    problem(await api.delete(f"/messages/{message_id}", headers=ADMIN), 404)
