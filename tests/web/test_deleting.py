"""`DELETE /messages/{id}` by the administrator, and what leaves by number and by age."""

from __future__ import annotations

import asyncio
import functools

import httpx
import pytest

from guestbook.storage.keys import EVENTS
from tests.conftest import Serve, two_pods
from tests.support.messages import (
    ADMIN,
    TOKEN,
    as_bytes,
    flat,
    fresh,
    post,
    problem,
    store,
    texts,
    walk,
)
from tests.support.page import Document
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import redis_client
from tests.support.waiting import eventually, eventually_equal


async def test_deletion_is_not_a_message(api: httpx.AsyncClient, pods: list[Server]) -> None:
    """The id of a deletion cannot be read or deleted."""
    first = await post(api, fresh())
    second = await post(api, fresh())
    await api.delete(f"/messages/{first['id']}", headers=ADMIN)
    async with redis_client(pods[0].env["REDIS_URL"]) as redis:
        ((raw, fields),) = await redis.xrevrange(EVENTS, count=1)
    assert fields == {"deleted": first["id"]}
    problem(await api.get(f"/messages/{raw}"), 404)
    problem(await api.delete(f"/messages/{raw}", headers=ADMIN), 404)
    assert (await api.get("/messages?limit=1")).json()["messages"] == [second]


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


async def test_deleting_is_off_without_a_configured_token(serve: Serve) -> None:
    """403 with any token, and with none: an empty setting counts as unset."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN="")
    async with server.client() as client:
        message = await post(client, "stays")
        for authorization in (None, "Bearer", "Bearer None", f"Bearer {TOKEN}"):
            headers = {} if authorization is None else {"Authorization": authorization}
            answer = await client.delete(f"/messages/{message['id']}", headers=headers)
            problem(answer, 403)
        assert (await client.get(f"/messages/{message['id']}")).json() == message


# Retention


async def test_number_of_messages_is_bounded(serve: Serve, redis_url: str) -> None:
    """The newest GUESTBOOK_MAX_MESSAGES of many posts on two pods are kept.

    Also if more were kept before, by pods with a larger number.
    """
    await store(redis_url, *map(str, range(2500)))
    pods = await two_pods(serve, GUESTBOOK_MAX_MESSAGES="5", GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with redis_client(redis_url) as redis, pods[0].client() as one, pods[1].client() as two:
        await asyncio.gather(*(post(client, str(n)) for n in range(10) for client in (one, two)))
        assert await redis.xlen(EVENTS) == 5
        last = [await post(one, f"last-{n}") for n in range(5)]
        assert await redis.xlen(EVENTS) == 5
        said = [message["text"] for message in last[::-1]]
        assert await texts(one) == said
        assert [m["text"] for m in Document((await one.get("/")).text).messages] == said
        assert flat(await walk(one, "/messages?after=0-0&limit=2")) == last
        await eventually_equal(lambda: texts(two), said)
        await post(one, "newest")
        problem(await one.get(f"/messages/{last[0]['id']}"), 404)
        problem(await one.delete(f"/messages/{last[0]['id']}", headers=ADMIN), 404)
        # Deletions count as well, so they are no way around the limit.
        for message in last[2:]:
            await one.delete(f"/messages/{message['id']}", headers=ADMIN)
        await asyncio.gather(*(post(one, f"more-{n}") for n in range(8)))
        assert await redis.xlen(EVENTS) == 5
        assert len(await texts(one)) == 5


async def test_old_messages_expire(serve: Serve, redis_url: str) -> None:
    """Messages older than GUESTBOOK_MAX_AGE leave Redis and memory, without any new post.

    A stream with a cursor before the oldest kept entry gets `reset`, one with a later cursor
    misses nothing, and an open one is not affected. This includes a pod with another setting.
    """
    await store(redis_url, "1", "2", "3")
    strict, lax = await asyncio.gather(
        serve("pod-a", GUESTBOOK_MAX_AGE="4s", GUESTBOOK_ADMIN_TOKEN=TOKEN), serve("pod-b")
    )
    async with (
        redis_client(redis_url) as redis,
        strict.client() as one,
        lax.client() as two,
        EventStream(lax.url) as stream,
    ):
        await stream.until("pods")

        async def show(said: list[str]) -> None:
            for client in (one, two):
                await eventually_equal(functools.partial(texts, client), said)
                page = Document((await client.get("/")).text)
                assert [message["text"] for message in page.messages] == said

        # Expired before any process started.
        await show([])
        old = await post(two, "old")
        gone = await post(two, "deleted")
        await one.delete(f"/messages/{gone['id']}", headers=ADMIN)
        await show([])
        await eventually_equal(lambda: redis.xlen(EVENTS), 0)
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
