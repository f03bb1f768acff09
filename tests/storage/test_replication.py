"""A message is acknowledged only when enough replicas have it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from tests.conftest import Serve
from tests.support.messages import ADMIN, TOKEN
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


async def test_acknowledged_message_is_on_replicas(
    valkey: Valkey, serve: Serve, tmp_path: Path
) -> None:
    """While too few replicas answer, 503 with a time to wait; then the same key, the same message.

    A post without a key is repeated inside, and is stored once; a deletion waits as a post does.
    What is not there gets 404 all the same.
    """
    with Valkey(tmp_path / "replica", "--replicaof", "127.0.0.1", str(valkey.port)) as replica:
        server = await serve(
            redis=valkey.address,
            GUESTBOOK_WAIT_REPLICAS="1",
            GUESTBOOK_ADMIN_TOKEN=TOKEN,
            GUESTBOOK_POST_RATE="1000/s",
        )

        await eventually(replica.is_in_step)
        async with server.client() as http:

            async def post(text: str, key: str | None = None) -> httpx.Response:
                headers = {"Idempotency-Key": key} if key else {}
                return await http.post("/messages", json={"text": text}, headers=headers)

            answers = await asyncio.gather(*(post(f"fine {number}") for number in range(20)))
            assert {answer.status_code for answer in answers} == {201}
            async with replica.client() as redis:
                there = {entry_id for entry_id, _ in await redis.xrange("{guestbook}:events")}
            assert there == {answer.json()["id"] for answer in answers}

            replica.freeze()
            target = answers[0].json()["id"]
            refused, deletion = await asyncio.gather(
                post("kept waiting", "once"), http.delete(f"/messages/{target}", headers=ADMIN)
            )
            for answer in (refused, deletion):
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert "0 of 1 replicas have it" in answer.json()["detail"]
            waiting = [asyncio.create_task(post(f"patient {number}")) for number in range(3)]

            async def is_stored() -> bool:
                listed = (await http.get("/messages")).json()["messages"]
                return [m["text"][:7] for m in listed[:4]] == ["patient"] * 3 + ["kept wa"]

            await eventually(is_stored)
            assert not any(task.done() for task in waiting)
            replica.thaw()
            assert {(await task).status_code for task in waiting} == {201}
            again = await post("kept waiting", "once")
            assert again.status_code == 201
            listed = (await http.get("/messages")).json()["messages"]
            assert len(listed) == 23
            assert listed[3] == again.json()
            assert target not in [message["id"] for message in listed]
            answer = await http.delete(f"/messages/{again.json()['id']}", headers=ADMIN)
            assert answer.status_code == 204
            path, key = f"/messages/{again.json()['id']}", {"Idempotency-Key": "once"}
            absent = await asyncio.gather(
                http.patch(path, json={"text": "x"}, headers=key),
                http.post("/held/1-1000000000/approve", headers=ADMIN),
                http.delete("/held/1-1000000000", headers=ADMIN),
            )
            assert {answer.status_code for answer in absent} == {404}
