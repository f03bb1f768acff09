"""Redis away, in every way: what still works, what is reported, what is kept.

The scenarios run side by side, each with a Valkey and a server of its own; each test awaits one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.messages import ADMIN
from tests.support.ports import free_port
from tests.support.proxy import BlackHole
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import Scenario, Scenarios, allowed, eventually
from tests.system.place import EVENTS, REQUEST_SECONDS, TRUTH_SECONDS, Place


async def _refused(place: Place) -> None:
    """A post, a form's post and a deletion wait for Redis, then get 503 with a Retry-After."""
    form: Any = {"data": {"text": "typed & lost?"}, "headers": {"Accept": "text/html"}}
    started = time.monotonic()
    posted, typed, deleted = await asyncio.gather(
        place.post("refused"),
        place.http.post("/messages", **form),
        place.http.delete("/messages/1-1", headers=ADMIN),
    )
    took = time.monotonic() - started
    assert REQUEST_SECONDS - 0.5 < took < allowed(1.5 * REQUEST_SECONDS)
    for answer in (posted, typed, deleted):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
    assert posted.headers["content-type"] == "application/problem+json"
    assert "typed &amp; lost?" in typed.text


async def _is_reported(place: Place) -> None:
    """/ready answers 503 in time, with the reasons."""
    await eventually(place.is_not_ready, within=TRUTH_SECONDS, every=0.05)
    reasons = (await place.ready()).json()["reasons"]
    assert reasons
    assert all(isinstance(reason, str) and reason for reason in reasons)


async def _readable(place: Place, ids: list[str]) -> None:
    """The page, the list, a message and a new stream come from memory."""
    page = await place.http.get("/", timeout=allowed(1))
    assert page.status_code == 200
    assert "before 2" in page.text
    listed = (await place.http.get("/messages", timeout=allowed(1))).json()["messages"]
    assert [message["id"] for message in listed[::-1]][: len(ids)] == ids
    assert (await place.http.get(f"/messages/{ids[0]}", timeout=allowed(1))).json()["id"] == ids[0]
    async with EventStream(place.server.url, last_event_id=ids[0]) as stream:
        events = await stream.entries(2, within=1)
        assert [event.id for event in events] == ids[1:3]


Action = Callable[[], Awaitable[None] | None]


async def _do(action: Action) -> None:
    done = action()
    if done is not None:
        await done


async def _outage(place: Place, fail: Action, recover: Action) -> None:
    """An outage while the server runs, from its begin to after its end."""
    ids = [(await place.post(f"before {number}")).json()["id"] for number in range(3)]
    async with EventStream(place.server.url, last_event_id=ids[-1]) as stream:
        await stream.until("pods")
        # Some posts are on their way at the moment at which it happens.
        texts = [f"amid {number}" for number in range(10)]
        burst = [place.begin_post(text) for text in texts]
        await asyncio.wait(burst, return_when=asyncio.FIRST_COMPLETED)
        await _do(fail)
        await _is_reported(place)
        await asyncio.gather(_refused(place), _readable(place, ids))
        assert await place.is_not_ready()

        in_time = place.begin_post("in time")
        await asyncio.sleep(1)
        await _do(recover)
        back_at = time.monotonic()
        await eventually(place.is_ready, within=TRUTH_SECONDS, every=0.05)
        assert time.monotonic() - back_at < allowed(TRUTH_SECONDS)
        assert (await in_time).status_code == 201
        last = (await place.post("last")).json()

        stored, counts = await place.ids(), Counter(await place.stored())
        events = await stream.entries(len(stored) - 3)
        assert [event.id for event in events] == stored[3:]
        assert {event.name for event in events} == {"message"}
        assert events[-1].data == last
    assert max(counts.values()) == 1
    acknowledged = [t for t, post in zip(texts, burst, strict=True) if (await post).is_success]
    assert acknowledged
    assert set(acknowledged) <= set(counts)
    assert {"before 0", "before 1", "before 2", "in time", "last"} <= set(counts)
    # They were answered 503 long before Redis could have had them.
    assert "refused" not in counts
    assert "typed & lost?" not in counts


async def _missing_from_the_start(place: Place, recover: Action) -> None:
    """A server that was started before its Redis."""
    await _is_reported(place)
    assert (await place.http.get("/", timeout=allowed(1))).status_code == 200
    async with EventStream(place.server.url) as stream:
        first = await stream.next(within=1)
        assert first is not None
        assert first.name == "pods"
        assert [pod["name"] for pod in first.data["pods"]] == ["pod-a"]
        await _refused(place)
        in_time = place.begin_post("in time")
        await asyncio.sleep(1)
        await _do(recover)
        await eventually(place.is_ready, within=TRUTH_SECONDS, every=0.05)
        message = (await in_time).json()
        assert message["text"] == "in time"
        last = (await place.post("last")).json()
        # It could not know whether it had missed something, so a `reset` may come first.
        events = await stream.entries(1)
        while events[-1].data != last:
            events += await stream.entries(1)
        assert [event.data for event in events if event.name == "message"] in (
            [message, last],
            [last],
        )
    assert await place.stored() == ["in time", "last"]


# The scenarios


async def killed(folder: Path, begin: asyncio.Barrier) -> None:
    """Killed and started again on its files: no acknowledged message is lost or doubled."""
    async with Place(folder, begin) as place:
        await _outage(place, place.valkey.kill, place.restart)


async def hangs(folder: Path, begin: asyncio.Barrier) -> None:
    """Stopped (SIGSTOP): what was refused meanwhile is not stored when it goes on."""
    async with Place(folder, begin, is_counting=False) as place:
        await _outage(place, place.valkey.freeze, place.valkey.thaw)
        # So many connections are open and idle that each command is on its way at once.
        await asyncio.gather(*(place.post(f"warm {number}") for number in range(8)))
        place.valkey.freeze()
        answers = await asyncio.gather(*(place.post(f"never {number}") for number in range(8)))
        assert {answer.status_code for answer in answers} == {503}
        place.valkey.thaw()
        await eventually(place.is_ready, within=TRUTH_SECONDS, every=0.05)
        assert (await place.post("afterwards")).status_code == 201
        assert not [text for text in await place.stored() if "never" in text]


async def does_not_answer(folder: Path, begin: asyncio.Barrier) -> None:
    """A network that takes everything and returns nothing is noticed, and so is its end."""
    async with Place(folder, begin, by_proxy=True, is_counting=False) as place:
        await _outage(place, place.proxy.swallow, place.proxy.let_pass)


async def connections_die_silently(folder: Path, begin: asyncio.Barrier) -> None:
    """Open connections stay silent for good, and are given up once a new one would work."""
    async with Place(folder, begin, by_proxy=True) as place:
        await _outage(place, place.proxy.swallow, place.proxy.let_new_pass)


async def vanishes(folder: Path, begin: asyncio.Barrier) -> None:
    """Its host is gone: a new connection is neither made nor refused."""
    async with Place(folder, begin) as place:
        hole = BlackHole(place.valkey.port)

        async def vanish() -> None:
            place.valkey.kill()
            await asyncio.to_thread(hole.__enter__)

        async def restart() -> None:
            hole.__exit__()
            await place.restart()

        try:
            await _outage(place, vanish, restart)
        finally:
            hole.__exit__()


async def refuses_at_the_start(folder: Path, begin: asyncio.Barrier) -> None:
    """The server starts without its Redis, reports that, and is ready when it comes."""
    async with Place(folder, begin, is_started=False) as place:
        await _missing_from_the_start(place, place.restart)


async def does_not_answer_at_the_start(folder: Path, begin: asyncio.Barrier) -> None:
    """The server starts while connections are neither made nor refused, and is ready later."""
    place = Place(folder, begin, is_started=False)
    with BlackHole(place.valkey.port) as hole:

        async def start() -> None:
            hole.__exit__()
            await place.restart()

        async with place:
            await _missing_from_the_start(place, start)


async def replies_are_lost(folder: Path, begin: asyncio.Barrier) -> None:
    """A lost or cut reply stores no message twice, and acknowledged messages are there."""
    async with Place(folder, begin, by_proxy=True) as place:
        async with EventStream(place.server.url) as stream:
            await stream.until("pods")
            posted = []
            # The reply never comes; the connection ends without it; it ends amid the reply.
            for cut_after in (None, 0, 5):
                for number, headers in enumerate(({}, {"Idempotency-Key": f"key-{cut_after}"})):
                    text = f"lost {cut_after} {number}"
                    place.proxy.cut_after = cut_after
                    lost = place.proxy.lose_once(text.encode())
                    answer = await place.post(text, **headers)
                    assert answer.status_code == 201
                    assert lost.is_set()
                    posted.append(answer.json())
            events = await stream.entries(len(posted))
            assert [event.data for event in events] == posted
            assert await place.stored() == [message["text"] for message in posted]

            # A deletion whose reply is lost has deleted, and is answered 204.
            place.proxy.cut_after = 0
            target = posted[0]["id"]
            lost = place.proxy.lose_once(target.encode())
            answer = await place.http.delete(f"/messages/{target}", headers=ADMIN)
            assert lost.is_set()
            assert answer.status_code == 204
            assert (await stream.entries(1))[0].name == "deleted"

            # Even when every reply is lost and the post is refused, the client's key makes it one.
            place.proxy.loses = lambda request: b"always lost" in request
            refused = await place.post("always lost", **{"Idempotency-Key": "always"})
            assert refused.status_code == 503
            place.proxy.loses = lambda _request: False
            answer = await place.post("always lost", **{"Idempotency-Key": "always"})
            assert answer.status_code == 201
            assert (await stream.entries(1))[0].data == answer.json()
            assert Counter(await place.stored())["always lost"] == 1

            # Cut again and again, everything that was acknowledged is there, once and in order.
            async def cut() -> None:
                while True:
                    # On a busy machine later: between two cuts something has to be possible.
                    await asyncio.sleep(allowed(0.01))
                    await place.proxy.cut()

            cutting = asyncio.create_task(cut())
            acknowledged = []
            for number in range(40):
                answer = await place.post(f"cut {number}")
                if answer.is_success:
                    acknowledged.append(answer.json())
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
            assert len(acknowledged) > 10
            acknowledged.append((await place.post("uncut")).json())
            stored = [text for text in await place.stored() if "cut" in text]
            assert max(Counter(stored).values()) == 1
            events = await stream.entries(len(stored))
            assert [event.data["text"] for event in events] == stored
            data = [event.data for event in events]
            assert [message for message in data if message in acknowledged] == acknowledged
        await eventually(place.is_ready, within=TRUTH_SECONDS, every=0.05)


async def replies_are_late(folder: Path, begin: asyncio.Barrier) -> None:
    """Delays are short enough or reported; no request waits longer than it may."""
    async with Place(folder, begin, by_proxy=True) as place:
        place.proxy.delay = 0.05
        assert (await place.post("a little late")).status_code == 201
        assert await place.is_ready()
        place.proxy.delay = 2.5
        await _is_reported(place)
        started = time.monotonic()
        answers = await asyncio.gather(*(place.post(f"too late {number}") for number in range(5)))
        assert time.monotonic() - started < allowed(1.5 * REQUEST_SECONDS)
        assert {answer.status_code for answer in answers} <= {201, 503}
        place.proxy.delay = 0
        await eventually(place.is_ready, within=TRUTH_SECONDS, every=0.05)
        assert (await place.post("in time")).status_code == 201
        counts = Counter(await place.stored())
        assert max(counts.values()) == 1
        assert {answer.json()["text"] for answer in answers if answer.is_success} <= set(counts)


async def refuses_writes(folder: Path, begin: asyncio.Barrier) -> None:
    """Out of memory, or turned a replica: posts are refused, and taken when it is over."""
    async with Place(folder, begin) as place:
        faults: list[tuple[Command, Command]] = [
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
            (("REPLICAOF", "127.0.0.1", str(free_port())), ("REPLICAOF", "NO", "ONE")),
        ]
        posted = []
        async with place.valkey.client() as redis, EventStream(place.server.url) as stream:
            await stream.until("pods")
            ids = [(await place.post(f"before {number}")).json()["id"] for number in range(3)]
            for fault, cure in faults:
                await redis.execute_command(*fault)
                await asyncio.gather(_is_reported(place), _refused(place), _readable(place, ids))
                waiting = place.begin_post(f"in time after {fault[0]}")
                await asyncio.sleep(0.5)
                await redis.execute_command(*cure)
                await eventually(place.is_ready, within=TRUTH_SECONDS, every=0.05)
                answer = await waiting
                assert answer.status_code == 201
                posted.append(answer.json())
            events = await stream.entries(5)
        assert [event.data for event in events][3:] == posted
        assert [event.id for event in events] == await place.ids()


async def forgets_scripts_and_connections(folder: Path, begin: asyncio.Barrier) -> None:
    """After SCRIPT FLUSH and CLIENT KILL no post fails, and no stream lacks an event."""
    async with (
        Place(folder, begin) as place,
        place.valkey.client() as redis,
        EventStream(place.server.url) as stream,
    ):
        await stream.until("pods")
        posted = []
        for number in range(3):
            for command in (("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal")):
                await redis.execute_command(*command)
                answers = await asyncio.gather(
                    *(place.post(f"{number} {command[0]} {each}") for each in range(3))
                )
                assert {answer.status_code for answer in answers} == {201}
                posted += [answer.json() for answer in answers]
        events = await stream.entries(len(posted))
        assert [event.id for event in events] == await place.ids()
        assert sorted(event.data["text"] for event in events) == sorted(m["text"] for m in posted)
        await eventually(place.is_ready, within=TRUTH_SECONDS, every=0.05)


async def another_master(folder: Path, begin: asyncio.Barrier) -> None:
    """After a fail-over, connections to the server that is a replica now are replaced."""
    with Valkey(folder / "spare") as spare:
        async with (
            Place(folder, begin, by_proxy=True) as place,
            EventStream(place.server.url) as stream,
            place.valkey.client() as old,
            spare.client() as new,
        ):
            await stream.until("pods")
            assert (await place.post("before")).status_code == 201
            await new.replicaof("127.0.0.1", place.valkey.port)
            await eventually(spare.is_in_step)
            await old.execute_command("FAILOVER", "TO", "127.0.0.1", spare.port)
            await eventually(spare.is_master)
            place.proxy.target = spare.port
            assert (await place.post("after")).status_code == 201
            await asyncio.sleep(TRUTH_SECONDS)
            await eventually(place.is_ready)
            assert (await place.post("later")).status_code == 201
            # A reader of the old one would get nothing more.
            await old.replicaof("127.0.0.1", free_port())
            assert (await place.post("still read?")).status_code == 201
            events = await stream.entries(4)
            texts = ["before", "after", "later", "still read?"]
            assert [event.data["text"] for event in events] == texts
            assert [fields["text"] for _, fields in await new.xrange(EVENTS)] == [
                event.data["text"] for event in events
            ]


async def last_entry_is_deleted(folder: Path, begin: asyncio.Barrier) -> None:
    """If the last entry is deleted in an outage, nothing is lost: streams get the later ones."""
    async with (
        Place(folder, begin, by_proxy=True) as place,
        EventStream(place.server.url) as stream,
        place.valkey.client() as redis,
    ):
        seen = (await place.post("seen, then deleted")).json()["id"]
        assert (await stream.entries(1))[0].id == seen
        await place.proxy.refuse()
        await place.proxy.cut()
        pipeline = redis.pipeline(transaction=False)
        for number in range(1200):
            pipeline.xadd(EVENTS, {"text": str(number), "pod": "elsewhere"})
        pipeline.xdel(EVENTS, seen)
        pipeline.xadd(EVENTS, {"deleted": seen})
        await pipeline.execute()
        await place.proxy.listen()
        events = await stream.entries(1201)
        assert [event.id for event in events] == await place.ids()
        assert {event.name for event in events[:-1]} == {"message"}
        assert events[-1].data == {"id": seen}


Command = tuple[str, ...]
SCENARIOS: tuple[Scenario, ...] = (
    killed,
    hangs,
    does_not_answer,
    connections_die_silently,
    vanishes,
    refuses_at_the_start,
    does_not_answer_at_the_start,
    replies_are_lost,
    replies_are_late,
    refuses_writes,
    forgets_scripts_and_connections,
    another_master,
    last_entry_is_deleted,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_redis(scenarios: Scenarios, scenario: Scenario) -> None:
    """Each scenario states what holds in it."""
    await scenarios[scenario]
