"""`GET /messages?after=ID&changes=true`: a client that polls has what a stream would have shown."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx

from tests.conftest import Serve, two_pods
from tests.support.messages import ADMIN, TOKEN, exported, problem, store
from tests.support.proxy import Proxy
from tests.support.servers import guestbook
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import eventually

EVENTS = "{guestbook}:events"


class Poller:
    """A client that follows `next`, as in docs/api.md."""

    def __init__(self, http: httpx.AsyncClient, cursor: str = "0-0", limit: int = 50) -> None:
        self._http = http
        self.next = f"/messages?limit={limit}&changes=true&after={cursor}"
        self.messages: dict[str, dict[str, Any]] = {}
        self.resets = 0

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.messages.values()]

    async def sees(self, texts: list[str]) -> bool:
        await self.poll()
        return self.texts == texts

    async def poll(self) -> None:
        more = True
        while more:
            answer = (await self._http.get(self.next)).raise_for_status().json()
            assert answer.keys() == {"messages", "next", "edited", "deleted", "more", "reset"}
            if answer["reset"]:
                self.resets += 1
                self.messages.clear()
            self.messages |= {message["id"]: message for message in answer["messages"]}
            for message in answer["edited"]:
                if message["id"] in self.messages:
                    self.messages[message["id"]] = message
            for gone in answer["deleted"]:
                self.messages.pop(gone, None)
            self.next, more = answer["next"], answer["more"]


async def test_poller_learns_of_all_that_happens(serve: Serve) -> None:
    """New messages, edits and deletions, each on any pod, on pages of any size."""
    pods = await two_pods(serve, GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with pods[0].client() as http, pods[1].client() as other:
        pollers = [Poller(http, limit=limit) for limit in (1, 2, 50)]
        ids = []
        for number in range(5):
            key = {"Idempotency-Key": f"key-{number}"}
            posted = await http.post("/messages", json={"text": str(number)}, headers=key)
            ids.append(posted.json()["id"])
        for poller in pollers:
            await poller.poll()
            assert poller.texts == ["0", "1", "2", "3", "4"]
        await http.delete(f"/messages/{ids[0]}", headers=ADMIN)
        key = {"Idempotency-Key": "key-1"}
        for text in ("once", "twice"):
            await http.patch(f"/messages/{ids[1]}", json={"text": text}, headers=key)
        last = (await http.post("/messages", json={"text": "5"})).json()["id"]
        await http.delete(f"/messages/{last}", headers=ADMIN)
        late = Poller(other)
        for poller in (*pollers, late):
            await eventually(partial(poller.sees, ["twice", "2", "3", "4"]))
            assert poller.resets == 0
            before = poller.next
            await poller.poll()
            assert poller.next == before


async def test_poller_reads_what_memory_has_not(serve: Serve, redis_url: str) -> None:
    """Entries that are only in Redis come from there, changes too."""
    await store(redis_url, *map(str, range(1, 31)))
    async with redis_client(redis_url) as redis:
        await redis.xdel(EVENTS, "5-0")
        await redis.xadd(EVENTS, {"deleted": "5-0"}, id="31-0")
    await store(redis_url, *map(str, range(32, 72)), first=32)
    # A pod's memory holds as many entries as it would keep; it trims only when it posts.
    pod = await serve(GUESTBOOK_MAX_MESSAGES="10")
    async with pod.client() as http:
        poller = Poller(http, "4-0", limit=7)
        poller.messages = {"5-0": {"text": "5"}}
        await poller.poll()
        assert poller.texts == [str(n) for n in range(6, 72) if n != 31]
        assert poller.resets == 0


async def test_poller_learns_of_gaps(serve: Serve, redis_url: str) -> None:
    """Entries that were trimmed, messages that were replaced, a cursor of lost data: `reset`."""
    pod = await serve(GUESTBOOK_MAX_MESSAGES="3")
    async with pod.client() as http:
        poller = Poller(http)
        await http.post("/messages", json={"text": "first"})
        await poller.poll()
        for number in range(5):
            await http.post("/messages", json={"text": str(number)})
        await poller.poll()
        assert (poller.texts, poller.resets) == (["2", "3", "4"], 1)
        line = exported(5, "old")
        assert guestbook("import", "--replace", "-", redis=redis_url, given=line).returncode == 0
        await eventually(lambda: poller.sees(["old"]))
        assert poller.resets == 2
        await poller.poll()
        assert poller.resets == 2
        ahead = Poller(http, f"{2**63}-0")
        await ahead.poll()
        assert (ahead.texts, ahead.resets) == (["old"], 1)
        await ahead.poll()
        assert ahead.resets == 1


async def test_replaced_messages_come_in_pages(serve: Serve, redis_url: str) -> None:
    """A poller reads imported messages page by page to their end, from any pod, after one reset."""
    pods = await two_pods(serve)
    async with pods[0].client() as http, pods[1].client() as other:
        poller, beginner = Poller(http, limit=2), Poller(other, limit=2)
        await http.post("/messages", json={"text": "replaced"})
        await poller.poll()
        lines = b"".join(map(exported, range(1, 6)))
        for resets in (1, 2):
            importing = guestbook("import", "--replace", "-", redis=redis_url, given=lines)
            assert importing.returncode == 0

            async def is_reset(resets: int = resets) -> bool:
                await poller.poll()
                return poller.resets == resets

            await eventually(is_reset)
            assert poller.texts == ["1", "2", "3", "4", "5"]
        await poller.poll()
        assert poller.resets == 2
        await eventually(lambda: beginner.sees(poller.texts))
        assert beginner.resets == 0
        await other.post("/messages", json={"text": "new"})
        await eventually(lambda: poller.sees(["1", "2", "3", "4", "5", "new"]))
        assert poller.resets == 2


async def test_pod_lags(shared_valkey: Valkey, redis_url: str, serve: Serve) -> None:
    """A poller that comes from a pod that is further ahead misses nothing."""
    async with Proxy(shared_valkey.port) as proxy:
        path = redis_url.replace(shared_valkey.address, proxy.address)
        pods = [await serve("ahead"), await serve("behind", redis=path)]
        proxy.loses = lambda request: b"XREAD\r\n" in request
        await eventually(lambda: proxy.lost > 0)
        async with pods[0].client() as ahead, pods[1].client() as behind:
            first = (await ahead.post("/messages", json={"text": "first"})).json()["id"]
            listed = await ahead.get("/messages")
            assert listed.headers["Guestbook-Cursor"] == first
            await ahead.post("/messages", json={"text": "second"})
            listed = await behind.get("/messages")
            assert (listed.json()["messages"], listed.headers["Guestbook-Cursor"]) == ([], "0-0")
            poller = Poller(behind, first)
            await poller.poll()
            assert (poller.texts, poller.resets) == ([], 0)
            proxy.loses = lambda _request: False
            await eventually(lambda: poller.sees(["second"]))
            assert poller.resets == 0


async def test_changes_go_with_after(client: httpx.AsyncClient) -> None:
    """There is no other direction in which changes would make sense."""
    for query in ("", "&before=1-0", "&before=1-0&after=1-0"):
        problem(await client.get(f"/messages?changes=true{query}"), 422, "changes")
