"""Closing the guestbook and banning networks over HTTP."""

from __future__ import annotations

import asyncio
import collections
from typing import Any

import httpx

from guestbook.storage.moderation import BANS_MAX
from tests.conftest import Serve
from tests.support.messages import ADMIN, TOKEN
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import redis_client
from tests.support.waiting import eventually


async def test_closed_for_all_pods(
    pods: list[Server], api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """A post gets 403 with the words; what its key has stored is returned all the same."""
    async with EventStream(pods[1].url) as stream:
        known: dict[str, Any] = {
            "json": {"text": "before"},
            "headers": {"Idempotency-Key": "known"},
        }
        posted = (await api.post("/messages", **known)).json()
        words = {"closed": " Back at nine. "}
        answer = await api.patch("/control", json=words, headers=ADMIN)
        assert answer.json()["closed"] == "Back at nine."
        refused = await api.post("/messages", json={"text": "x"})
        assert (refused.status_code, refused.json()["code"]) == (403, "closed")
        while "closed" not in (data := (await stream.until("pods", within=5)).data):
            pass
        assert data["closed"] == "Back at nine."
        assert (await other.post("/messages", json={"text": "x"})).status_code == 403
        again = await other.post("/messages", **known)
        assert (again.status_code, again.json()) == (201, posted)
        assert "Back at nine." in (await other.get("/")).text
        for wrong in ({"closed": " "}, {"closed": "x" * 201}, {"moderation": "after"}):
            assert (await api.patch("/control", json=wrong, headers=ADMIN)).status_code == 422
        await api.patch("/control", json={"closed": None}, headers=ADMIN)
        assert (await api.post("/messages", json={"text": "x"})).status_code == 201


async def test_ban_ends_by_itself(api: httpx.AsyncClient) -> None:
    """The author of a message is refused until the time is over."""
    message = (await api.post("/messages", json={"text": "x"})).json()
    wanted = {"message": message["id"], "seconds": 3}
    answer = await api.post("/bans", json=wanted, headers=ADMIN)
    assert (answer.status_code, answer.json()["network"]) == (201, "127.0.0.1/32")
    refused = await api.post("/messages", json={"text": "x"})
    assert (refused.status_code, refused.json()["code"]) == (403, "banned")

    async def may_post() -> bool:
        return (await api.post("/messages", json={"text": "x"})).status_code == 201

    await eventually(may_post)
    metrics = (await api.get("/metrics")).text
    assert 'guestbook_messages_refused_total{reason="banned"}' in metrics
    unknown = await api.post("/bans", json={"message": "1-0", "seconds": 1}, headers=ADMIN)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "no_address")
    both = {"message": message["id"], "network": "192.0.2.1", "seconds": 1}
    answer = await api.post("/bans", json=both, headers=ADMIN)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "network")
    assert (await api.delete("/bans/10.0.0.0/8", headers=ADMIN)).status_code == 404
    assert (await api.get("/bans")).status_code == 401


async def test_ban_of_an_ipv6_network_in_all_pods(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """It covers each address of the network, at once in the pod that is asked, soon in others."""

    async def post(client: httpx.AsyncClient, address: str) -> int:
        headers = {"X-Forwarded-For": address}
        return (await client.post("/messages", json={"text": "x"}, headers=headers)).status_code

    async def is_answered(status: int) -> bool:
        return await post(other, "2001:db8:0:1::7") == status

    wanted = {"network": "2001:db8:0:1::5/64", "seconds": 60}
    answer = await api.post("/bans", json=wanted, headers=ADMIN)
    assert answer.json()["network"] == "2001:db8:0:1::/64"
    assert await post(api, "2001:db8:0:1:ffff::1") == 403
    await eventually(lambda: is_answered(403))
    for address in ("2001:db8:0:2::1", "203.0.113.5"):
        assert [await post(client, address) for client in (api, other)] == [201, 201]
    assert (await other.get("/bans", headers=ADMIN)).json()["bans"] == [answer.json()]
    assert (await other.delete("/bans/2001:db8:0:1::/64", headers=ADMIN)).status_code == 204
    assert await is_answered(201)
    for wrong in ("fe80::1%eth0", "203.0.113.0/33", "here", ""):
        answer = await api.post("/bans", json=wanted | {"network": wrong}, headers=ADMIN)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "network")


async def test_bans_at_the_same_time(serve: Serve, redis_url: str) -> None:
    """There are never more than may be; a ban that is known can be extended all the same."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with server.client(headers=ADMIN) as api, redis_client(redis_url) as redis:
        ends = {f"ban:2001:db8:{number:x}::/48": 2**42 for number in range(BANS_MAX - 1)}
        await redis.hset("{guestbook}:control", mapping=ends)
        wanted = [{"network": f"192.0.2.{number}", "seconds": 60} for number in range(20)]
        answers = await asyncio.gather(*(api.post("/bans", json=each) for each in wanted))
        statuses = collections.Counter(answer.status_code for answer in answers)
        assert statuses == {201: 1, 422: 19}
        assert await redis.hlen("{guestbook}:control") == BANS_MAX
        again = {"network": "2001:db8:1::/48", "seconds": 60}
        assert (await api.post("/bans", json=again)).status_code == 201


async def test_body_of_an_operator(api: httpx.AsyncClient) -> None:
    """It is read as that of a post is, and not at all without the token."""
    json = {"Content-Type": "application/json"}
    for method, path in (("PATCH", "/control"), ("POST", "/bans")):
        for status, body in (
            (422, b"{"),
            (422, b"\xff"),
            (422, b"null"),
            (422, b"[" * 16_000),
            (413, b" " * 17_000),
            (422, b'{"closed": "\\ud800", "network": "\\ud800", "seconds": 60}'),
            (422, b'{"closed": true, "network": "192.0.2.1", "seconds": true}'),
        ):
            answer = await api.request(method, path, content=body, headers=ADMIN | json)
            assert answer.status_code == status, (path, body[:50])
            assert answer.headers["content-type"] == "application/problem+json"
            answer = await api.request(method, path, content=body, headers=json)
            assert answer.status_code == 401, (path, body[:50])
        text = ADMIN | {"Content-Type": "text/plain"}
        answer = await api.request(method, path, content=b"{}", headers=text)
        assert answer.status_code == 415
    # Measured, as a post, without the white space around it.
    words = {"closed": f" {'x' * 200} "}
    assert (await api.patch("/control", json=words, headers=ADMIN)).status_code == 200
    await api.patch("/control", json={"closed": None}, headers=ADMIN)
