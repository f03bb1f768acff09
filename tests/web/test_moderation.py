"""Messages that wait for a moderator: held, approved, refused, withdrawn."""

from __future__ import annotations

import asyncio
import signal

import httpx
import pytest

from tests.conftest import Serve, two_pods
from tests.support.messages import ADMIN, TOKEN, Message, texts
from tests.support.metrics import Samples
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import allowed, eventually, eventually_equal

MODERATED = {"GUESTBOOK_ADMIN_TOKEN": TOKEN, "GUESTBOOK_MODERATION": "before"}


@pytest.fixture(scope="module")
async def pods(serve_shared: Serve) -> list[Server]:
    """Two servers on one Redis, with moderation."""
    return await two_pods(serve_shared, **MODERATED)


async def hold(client: httpx.AsyncClient, text: str, key: str | None = None) -> Message:
    """Post a message that has to wait."""
    headers = {"Idempotency-Key": key} if key else {}
    answer = await client.post("/messages", json={"text": text}, headers=headers)
    assert answer.status_code == 202, answer.text
    message: Message = answer.json()
    return message


def queue_of(pod: Server) -> EventStream:
    """Return a moderator's stream of what waits."""
    return EventStream(pod.url, path="/held/events", Authorization=f"Bearer {TOKEN}")


async def approve(client: httpx.AsyncClient, message: Message) -> httpx.Response:
    return await client.post(f"/held/{message['id']}/approve", headers=ADMIN)


async def refuse(client: httpx.AsyncClient, message: Message) -> httpx.Response:
    return await client.delete(f"/held/{message['id']}", headers=ADMIN)


async def waiting(client: httpx.AsyncClient, after: str = "0-0") -> list[Message]:
    answer = await client.get(f"/held?limit=1000&after={after}", headers=ADMIN)
    messages: list[Message] = answer.json()["messages"]
    return messages


async def test_held_message_is_seen_by_moderators_alone(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """A post is answered with 202 and waits, for all pods; approved, it is in the stream once."""
    held = await hold(api, "first")
    assert await waiting(other) == [held]
    assert (await api.get(f"/messages/{held['id']}")).status_code == 404
    assert "first" not in await texts(api)
    approved = await approve(other, held)
    assert approved.status_code == 200
    assert approved.json()["text"] == "first"
    assert approved.json()["id"] != held["id"]
    assert (await other.get(f"/messages/{approved.json()['id']}")).json() == approved.json()
    again = await approve(api, held)
    assert (again.status_code, again.json()) == (200, approved.json())
    assert await waiting(api) == []
    assert (await refuse(api, held)).status_code == 404
    assert (await texts(other)).count("first") == 1


async def test_repeated_post_learns_what_became_of_it(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """The key of a post returns 202 while it waits, then 201 with the message, or 403."""
    headers = {"Idempotency-Key": "one"}
    held = await hold(api, "to approve", "one")
    assert await hold(other, "other words", "one") == held
    approved = (await approve(api, held)).json()
    answer = await other.post("/messages", json={"text": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["id"]) == (201, approved["id"])
    assert answer.json()["text"] == "to approve"

    held = await hold(api, "to refuse", "two")
    assert (await refuse(other, held)).status_code == 204
    assert (await refuse(api, held)).status_code == 404
    assert (await approve(api, held)).status_code == 404
    answer = await api.post("/messages", json={"text": "x"}, headers={"Idempotency-Key": "two"})
    assert (answer.status_code, answer.json()["code"]) == (403, "refused")
    assert "to refuse" not in await texts(api)


async def test_author_withdraws_what_waits(
    pods: list[Server], api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """The key of its post removes a message that waits; another key does not."""
    held = await hold(api, "a mistake", "mine")
    path, mine = f"/messages/{held['id']}", {"Idempotency-Key": "mine"}
    strange = await other.delete(path, headers={"Idempotency-Key": "other"})
    assert (strange.status_code, strange.json()["code"]) == (403, "not_author")
    versioned = await other.delete(path, headers=mine | {"If-Match": '"a"'})
    assert versioned.status_code == 412
    assert (await other.delete(path, headers=mine)).status_code == 204
    for headers in (mine, {"Idempotency-Key": "other"}):
        assert (await api.delete(path, headers=headers)).status_code == 404
    assert held not in await waiting(api)
    again = await api.post("/messages", json={"text": "a mistake"}, headers=mine)
    assert (again.status_code, again.json()["code"]) == (410, "withdrawn")
    decisions = [line for line in pods[1].lines().splitlines() if held["id"] in line]
    assert [line for line in decisions if "withdrew a message" in line]
    assert not [line for line in decisions if "refused a message" in line]


async def test_approval_is_repeated_after_a_deletion(
    pods: list[Server], api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """The answer stays the same, as for a post with a known key, and is logged once."""
    held = await hold(api, "approved, \u201cthen\u201d deleted")
    approved = await approve(api, held)
    path = f"/messages/{approved.json()['id']}"
    assert (await other.delete(path, headers=ADMIN)).status_code == 204
    for client in (api, other):
        again = await approve(client, held)
        assert (again.status_code, again.json()) == (200, approved.json())
    assert (await api.get(path)).status_code == 404
    lines = pods[0].lines().splitlines() + pods[1].lines().splitlines()
    assert len([line for line in lines if "approved a message" in line and held["id"] in line]) == 1


async def test_approved_message_keeps_its_words(api: httpx.AsyncClient) -> None:
    """With moderation authors may take a message back, but not edit it after its approval."""
    held = await hold(api, "harmless", "words")
    message = (await approve(api, held)).json()
    headers = {"Idempotency-Key": "words"}
    path = f"/messages/{message['id']}"
    changed = await api.patch(path, json={"text": "not harmless"}, headers=headers)
    assert (changed.status_code, changed.json()["code"]) == (403, "approved")
    assert (await api.get(path)).json() == message
    assert (await api.delete(path, headers=headers)).status_code == 204
    gone = await api.patch(path, json={"text": "not harmless"}, headers=headers)
    assert gone.status_code == 404


async def test_form_is_sent_to_a_page_that_says_it_waits(api: httpx.AsyncClient) -> None:
    """Without JavaScript too, authors learn in their language that the message waits."""
    answer = await api.post("/messages", data={"text": "by form"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?held")
    page = await api.get("/?held")
    assert ">Thank you! Your message" in page.text
    assert ">Thank you! Your message" not in (await api.get("/")).text
    french = await api.get("/?held", headers={"Accept-Language": "fr"})
    assert ">Merci ! Votre message" in french.text
    await refuse(api, (await waiting(api))[-1])


async def test_only_moderators_may_decide(api: httpx.AsyncClient) -> None:
    """Without the token held messages can neither be read nor decided about."""
    held = await hold(api, "whisper")
    path = f"/held/{held['id']}"
    for method, target in (
        ("GET", "/held"),
        ("GET", "/held/events"),
        ("POST", f"{path}/approve"),
        ("DELETE", path),
    ):
        answer = await api.request(method, target)
        assert answer.status_code == 401, target
        assert "whisper" not in answer.text
    assert (await api.head("/held/events", headers=ADMIN)).status_code == 405
    assert (await refuse(api, held)).status_code == 204


async def test_list_of_what_waits_has_pages(api: httpx.AsyncClient) -> None:
    """The oldest come first, and `next` leads on."""
    held = [await hold(api, f"number {number}") for number in range(3)]
    first = (await api.get("/held?limit=2", headers=ADMIN)).json()
    assert first["messages"] == held[:2]
    second = (await api.get(first["next"], headers=ADMIN)).json()
    assert second == {"messages": held[2:], "next": None}
    beyond = await api.get(f"/held?after={2**64 - 1}-{2**64 - 1}", headers=ADMIN)
    assert beyond.json() == {"messages": [], "next": None}
    for message in held:
        await refuse(api, message)


async def test_moderators_see_each_others_decisions(pods: list[Server]) -> None:
    """On each pod the stream of what waits shows posts and decisions of others soon."""
    async with pods[0].client() as api, queue_of(pods[0]) as one, queue_of(pods[1]) as two:
        for stream in (one, two):
            assert (await stream.until("held")).data == {"messages": [], "waiting": 0}
        held = [await hold(api, "one"), await hold(api, "two")]
        for stream in (one, two):
            event = await stream.until("held", within=3)
            while event.data["waiting"] < 2:
                event = await stream.until("held", within=3)
            assert event.data == {"messages": held, "waiting": 2}
        await approve(api, held[0])
        for stream in (one, two):
            event = await stream.until("held", within=3)
            assert event.data == {"messages": held[1:], "waiting": 1}
        await refuse(api, held[1])
        for stream in (one, two):
            assert (await stream.until("held", within=3)).data["waiting"] == 0


async def test_lost_answer_of_an_approval(serve: Serve, valkey: Valkey) -> None:
    """An approval that is retried on another pod because its answer was lost is stored once."""
    async with Proxy(valkey.port) as proxy:
        one = await serve("pod-a", redis=f"127.0.0.1:{proxy.port}", **MODERATED)
        two = await serve("pod-b", redis=valkey.address, **MODERATED)
        async with one.client() as api, two.client() as other:
            held = await hold(other, "once")
            # Whichever way the script is sent, the id of the message goes along.
            lost = proxy.lose_once(b"approved:" + held["id"].encode())
            answer = await approve(api, held)
            assert lost.is_set()
            found = [await approve(other, held) for _ in range(2)]
            assert [answer.status_code for answer in found] == [200, 200]
            assert found[0].json() == found[1].json()
            assert (await approve(api, held)).json() == answer.json() == found[0].json()
            assert (await texts(other)).count("once") == 1


async def test_moderators_at_the_same_time(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """Of simultaneous decisions about one message, one holds."""
    for _ in range(5):
        held = await hold(api, "contested")
        answers = await asyncio.gather(
            approve(api, held), approve(other, held), refuse(api, held), refuse(other, held)
        )
        statuses = [answer.status_code for answer in answers]
        assert statuses[:2] in ([200, 200], [404, 404])
        assert sorted(statuses[2:]) == ([404, 404] if statuses[0] == 200 else [204, 404])


async def test_full_queue(serve: Serve) -> None:
    """When as many messages wait as may be kept, a post gets 503; what is known still answers."""
    server = await serve(GUESTBOOK_MAX_MESSAGES="2", **MODERATED)
    async with server.client() as api:
        held = [await hold(api, "one", "key"), await hold(api, "two")]
        full = await api.post("/messages", json={"text": "three"})
        assert (full.status_code, full.json()["code"]) == (503, "queue_full")
        assert 30 <= int(full.headers["retry-after"]) <= 90
        assert await hold(api, "one", "key") == held[0]
        assert (await approve(api, held[0])).status_code == 200
        assert (await hold(api, "three"))["text"] == "three"
        metrics = (await api.get("/metrics")).text
        assert 'guestbook_messages_refused_total{reason="queue full"} 1.0' in metrics


async def test_switched_off_while_messages_wait(serve: Serve, redis_url: str) -> None:
    """Held messages stay in the queue, new posts appear at once. Then the setting decides again."""
    server = await serve(**MODERATED)
    async with server.client() as api:
        held = await hold(api, "waits", "key")
        answer = await api.patch("/control", json={"moderation": "off"}, headers=ADMIN)
        assert answer.json()["moderation"] == "off"
        assert (await api.post("/messages", json={"text": "seen"})).status_code == 201
        assert await hold(api, "waits", "key") == held
        assert await waiting(api) == [held]
        headers = {"Idempotency-Key": "key"}
        edit = await api.patch(f"/messages/{held['id']}", json={"text": "new"}, headers=headers)
        assert (edit.status_code, edit.json()["code"]) == (403, "approved")
        assert (await approve(api, held)).status_code == 200
        await api.patch("/control", json={"moderation": None}, headers=ADMIN)
        await hold(api, "waits again")
        async with redis_client(redis_url) as redis:
            assert await redis.hgetall("{guestbook}:control") == {}


async def test_metrics_of_the_queue(serve: Serve) -> None:
    """How many messages wait, and how long the oldest has, are metrics."""
    server = await serve(**MODERATED)
    async with server.client() as api:
        held = await hold(api, "waits")

        async def numbers() -> tuple[float, bool]:
            found = await Samples.read(server)
            oldest = found.of("guestbook_held_oldest_seconds")
            return found.of("guestbook_held_messages"), oldest > 0

        await eventually_equal(numbers, (1, True))
        await refuse(api, held)
        await eventually_equal(numbers, (0, False))
        await server.logged("refused a message")


async def test_moderators_stream_delays_no_stop(serve: Serve) -> None:
    """A pod that stops ends the stream with `bye`, and exits as if there were none."""
    server = await serve(GUESTBOOK_DRAIN_SECONDS="0.2", **MODERATED)
    async with queue_of(server) as stream:
        await stream.until("held")
        server.signal(signal.SIGTERM)
        assert [event.name for event in await stream.rest()] == ["bye"]
        assert stream.is_complete
        await server.ended(within=allowed(2))


async def test_moderator_who_leaves_ends_the_stream(serve: Serve) -> None:
    """The pod notices it at once, and keeps nothing of the stream: a stream counts at its end."""
    server = await serve(**MODERATED)
    async with server.client() as api:

        async def count() -> int:
            lines = (await api.get("/metrics")).text.splitlines()
            return sum('"/held/events"' in line for line in lines)

        async with queue_of(server) as stream:
            await stream.until("held")
            assert await count() == 0

        async def is_counted() -> bool:
            return await count() > 0

        await eventually(is_counted, within=allowed(2))


async def test_messages_of_another_time_expire_in_the_queue(serve: Serve, redis_url: str) -> None:
    """GUESTBOOK_MAX_AGE holds for messages that wait, too."""
    async with redis_client(redis_url) as redis:
        await redis.xadd("{guestbook}:held", {"text": "old", "pod": "p"}, id="1-1000000000")
        await serve(GUESTBOOK_MAX_AGE="1h", **MODERATED)
        assert await redis.xlen("{guestbook}:held") == 0
