"""Redis away, in every way: what still works, what is reported, what is kept.

The scenarios run side by side, each with a Valkey and a server of its own; each test awaits one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.proxy import BlackHole, Proxy
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import Scenario, Scenarios, allowed, eventually, run_together

_EVENTS = "{guestbook}:events"
_TOKEN = "let me delete"
# As documented: readiness is right within 2 s of a change, and answers within 1 s.
_TRUTH_SECONDS = 2.0
_READY_SECONDS = 1.0
# A request waits this long for Redis.
_REQUEST_SECONDS = 3.0
# How many scenarios may run at once, so that none is late because of the others.
_SLOTS = asyncio.Semaphore(6)


class Place:
    """A server, the Valkey that it is to use, and a client of each."""

    def __init__(
        self, folder: Path, valkey: Valkey, address: str | None = None, *, is_counting: bool = True
    ) -> None:
        self.valkey = valkey
        self.server = Server(
            folder / "server.log",
            address or valkey.address,
            GUESTBOOK_ADMIN_TOKEN=_TOKEN,
            # Where posts are counted, counting them is the first that fails.
            GUESTBOOK_POST_RATE="1000/10s" if is_counting else "off",
        )
        self.http = self.server.client()
        self._posting: list[asyncio.Task[httpx.Response]] = []

    def begin_post(self, text: str) -> asyncio.Task[httpx.Response]:
        """Post while other things happen. It is given up at the end."""
        self._posting.append(asyncio.create_task(self.post(text)))
        return self._posting[-1]

    async def post(self, text: str, **headers: str) -> httpx.Response:
        return await self.http.post("/messages", json={"text": text}, headers=headers)

    async def ready(self) -> httpx.Response:
        """Get /ready; fail when that takes too long."""
        return await self.http.get("/ready", timeout=allowed(_READY_SECONDS))

    async def is_ready(self) -> bool:
        return (await self.ready()).status_code == 200

    async def is_not_ready(self) -> bool:
        answer = await self.ready()
        assert answer.status_code in (200, 503)
        return answer.status_code == 503

    async def stored(self) -> list[str]:
        """Return the texts of all messages in Redis."""
        async with self.valkey.client() as redis:
            entries = await redis.xrange(_EVENTS)
        return [fields["text"] for _, fields in entries if "text" in fields]

    async def ids(self) -> list[str]:
        async with self.valkey.client() as redis:
            return [entry_id for entry_id, _ in await redis.xrange(_EVENTS)]

    async def watch_liveness(self) -> None:
        """Fail as soon as /healthz does. Never returns."""
        while True:
            answer = await self.http.get("/healthz", timeout=allowed(_READY_SECONDS))
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(0.25)

    async def __aenter__(self) -> Self:
        self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._posting:
            task.cancel()
        await asyncio.gather(*self._posting, return_exceptions=True)
        self.server.stop()
        self.valkey.kill()
        await self.http.aclose()


async def _begin(place: Place, begin: asyncio.Barrier, path: str = "/ready") -> None:
    """Wait until all servers answer: starting takes the processor."""
    await place.server.until(path, 200)
    await begin.wait()


async def _while_alive(place: Place, scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario; fail at once when /healthz does, and when the log has a traceback."""
    # Closed, because one that is cancelled while it waits for its turn was never awaited.
    with contextlib.closing(scenario):
        async with _SLOTS:
            running = asyncio.ensure_future(scenario)
            watching = asyncio.create_task(place.watch_liveness())
            try:
                await asyncio.wait((running, watching), return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    await watching
                await running
            finally:
                for task in (running, watching):
                    task.cancel()
                await asyncio.gather(running, watching, return_exceptions=True)
    assert "Traceback" not in place.server.lines()


async def _refused(place: Place) -> None:
    """A post, a form's post and a deletion wait for Redis, then get 503 with a Retry-After."""

    async def form() -> httpx.Response:
        return await place.http.post(
            "/messages", data={"text": "typed & lost?"}, headers={"Accept": "text/html"}
        )

    async def delete() -> httpx.Response:
        return await place.http.delete(
            "/messages/1-1", headers={"Authorization": f"Bearer {_TOKEN}"}
        )

    started = time.monotonic()
    posted, typed, deleted = await asyncio.gather(place.post("refused"), form(), delete())
    took = time.monotonic() - started
    assert _REQUEST_SECONDS - 0.5 < took < allowed(1.5 * _REQUEST_SECONDS)
    for answer in (posted, typed, deleted):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
    assert posted.headers["content-type"] == "application/problem+json"
    assert "typed &amp; lost?" in typed.text


async def _is_reported(place: Place) -> None:
    """/ready answers 503 in time, with the reasons."""
    await eventually(place.is_not_ready, within=_TRUTH_SECONDS, every=0.05)
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


async def _outage(
    place: Place, fail: Callable[[], Awaitable[None]], recover: Callable[[], Awaitable[None]]
) -> None:
    """An outage while the server runs, from its begin to after its end."""
    ids = [(await place.post(f"before {number}")).json()["id"] for number in range(3)]
    async with EventStream(place.server.url, last_event_id=ids[-1]) as stream:
        await stream.until("pods")
        # Some posts are on their way at the moment at which it happens.
        texts = [f"amid {number}" for number in range(10)]
        burst = [place.begin_post(text) for text in texts]
        await asyncio.wait(burst, return_when=asyncio.FIRST_COMPLETED)
        await fail()
        await _is_reported(place)
        await asyncio.gather(_refused(place), _readable(place, ids))
        assert await place.is_not_ready()

        in_time = place.begin_post("in time")
        await asyncio.sleep(1)
        await recover()
        back_at = time.monotonic()
        await eventually(place.is_ready, within=_TRUTH_SECONDS, every=0.05)
        assert time.monotonic() - back_at < allowed(_TRUTH_SECONDS)
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


async def _missing_from_the_start(place: Place, recover: Callable[[], Awaitable[None]]) -> None:
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
        await recover()
        await eventually(place.is_ready, within=_TRUTH_SECONDS, every=0.05)
        message = (await in_time).json()
        assert message["text"] == "in time"
        last = (await place.post("last")).json()
        # Whether it had missed something it could not know, so that a `reset` may come first.
        events = await stream.entries(1)
        while events[-1].data != last:
            events += await stream.entries(1)
        assert [event.data for event in events if event.name == "message"] in (
            [message, last],
            [last],
        )
    assert await place.stored() == ["in time", "last"]


# The scenarios


async def _killed(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with Place(folder, valkey) as place:

        async def kill() -> None:
            valkey.kill()

        async def restart() -> None:
            await asyncio.to_thread(valkey.start)

        await _begin(place, begin)
        await _while_alive(place, _outage(place, kill, restart))


async def _frozen(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with Place(folder, valkey, is_counting=False) as place:

        async def freeze() -> None:
            valkey.freeze()

        async def thaw() -> None:
            valkey.thaw()

        await _begin(place, begin)
        await _while_alive(place, _outage(place, freeze, thaw))
        await _while_alive(place, _refused_for_good(place))


async def _refused_for_good(place: Place) -> None:
    """Commands that Redis had got before they were given up do nothing when it goes on."""
    # So many connections are open and idle that each command is on its way at once.
    await asyncio.gather(*(place.post(f"warm {number}") for number in range(8)))
    place.valkey.freeze()
    answers = await asyncio.gather(*(place.post(f"never {number}") for number in range(8)))
    assert {answer.status_code for answer in answers} == {503}
    place.valkey.thaw()
    await eventually(place.is_ready, within=_TRUTH_SECONDS, every=0.05)
    assert (await place.post("afterwards")).status_code == 201
    assert not [text for text in await place.stored() if "never" in text]


async def _silent(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with (
        Proxy(valkey.port) as proxy,
        Place(folder, valkey, proxy.address, is_counting=False) as place,
    ):

        async def swallow() -> None:
            proxy.swallow()

        async def let_pass() -> None:
            proxy.let_pass()

        await _begin(place, begin)
        await _while_alive(place, _outage(place, swallow, let_pass))


async def _cut_off(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with Proxy(valkey.port) as proxy, Place(folder, valkey, proxy.address) as place:

        async def swallow() -> None:
            proxy.swallow()

        async def let_new_pass() -> None:
            proxy.let_new_pass()

        await _begin(place, begin)
        await _while_alive(place, _outage(place, swallow, let_new_pass))


async def _vanished(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    hole = BlackHole(valkey.port)
    async with Place(folder, valkey) as place:

        async def vanish() -> None:
            valkey.kill()
            await asyncio.to_thread(hole.__enter__)

        async def restart() -> None:
            hole.__exit__()
            await asyncio.to_thread(valkey.start)

        await _begin(place, begin)
        try:
            await _while_alive(place, _outage(place, vanish, restart))
        finally:
            hole.__exit__()


async def _refusing_at_start(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey")
    async with Place(folder, valkey) as place:

        async def start() -> None:
            await asyncio.to_thread(valkey.start)

        await _begin(place, begin, "/healthz")
        await _while_alive(place, _missing_from_the_start(place, start))


async def _unanswering_at_start(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey")
    with BlackHole(valkey.port) as hole:
        async with Place(folder, valkey) as place:

            async def start() -> None:
                hole.__exit__()
                await asyncio.to_thread(valkey.start)

            await _begin(place, begin, "/healthz")
            await _while_alive(place, _missing_from_the_start(place, start))


async def _lost_replies(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with Proxy(valkey.port) as proxy, Place(folder, valkey, proxy.address) as place:
        await _begin(place, begin)
        await _while_alive(place, _lose_replies(place, proxy))


async def _lose_replies(place: Place, proxy: Proxy) -> None:
    async with EventStream(place.server.url) as stream:
        await stream.until("pods")
        posted = []
        # The reply never comes; the connection ends without it; it ends amid the reply.
        for cut_after in (None, 0, 5):
            for number, headers in enumerate(({}, {"Idempotency-Key": f"key-{cut_after}"})):
                text = f"lost {cut_after} {number}"
                proxy.cut_after = cut_after
                lost = proxy.lose_once(text.encode())
                answer = await place.post(text, **headers)
                assert answer.status_code == 201
                assert lost.is_set()
                posted.append(answer.json())
        events = await stream.entries(len(posted))
        assert [event.data for event in events] == posted
        assert await place.stored() == [message["text"] for message in posted]

        # A deletion whose reply is lost has deleted, and is answered 204.
        proxy.cut_after = 0
        target = posted[0]["id"]
        lost = proxy.lose_once(target.encode())
        answer = await place.http.delete(
            f"/messages/{target}", headers={"Authorization": f"Bearer {_TOKEN}"}
        )
        assert lost.is_set()
        assert answer.status_code == 204
        assert (await stream.entries(1))[0].name == "deleted"

        # Even when every reply is lost and the post is refused, the client's key makes it one.
        proxy.loses = lambda request: b"always lost" in request
        refused = await place.post("always lost", **{"Idempotency-Key": "always"})
        assert refused.status_code == 503
        proxy.loses = lambda _request: False
        answer = await place.post("always lost", **{"Idempotency-Key": "always"})
        assert answer.status_code == 201
        assert (await stream.entries(1))[0].data == answer.json()
        assert Counter(await place.stored())["always lost"] == 1

        # Cut again and again, everything that was acknowledged is there, once and in order.
        async def cut() -> None:
            while True:
                # On a busy machine later: between two cuts something has to be possible.
                await asyncio.sleep(allowed(0.01))
                await proxy.cut()

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
    await eventually(place.is_ready, within=_TRUTH_SECONDS, every=0.05)


async def _delayed(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with Proxy(valkey.port) as proxy, Place(folder, valkey, proxy.address) as place:
        await _begin(place, begin)
        await _while_alive(place, _delay(place, proxy))


async def _delay(place: Place, proxy: Proxy) -> None:
    proxy.delay = 0.05
    assert (await place.post("a little late")).status_code == 201
    assert await place.is_ready()
    proxy.delay = 2.5
    await _is_reported(place)
    started = time.monotonic()
    answers = await asyncio.gather(*(place.post(f"too late {number}") for number in range(5)))
    assert time.monotonic() - started < allowed(1.5 * _REQUEST_SECONDS)
    assert {answer.status_code for answer in answers} <= {201, 503}
    proxy.delay = 0
    await eventually(place.is_ready, within=_TRUTH_SECONDS, every=0.05)
    assert (await place.post("in time")).status_code == 201
    counts = Counter(await place.stored())
    assert max(counts.values()) == 1
    assert {answer.json()["text"] for answer in answers if answer.is_success} <= set(counts)


async def _refusing_writes(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with Place(folder, valkey) as place:
        await _begin(place, begin)
        await _while_alive(place, _refuse_writes(place))


async def _refuse_writes(place: Place) -> None:
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
            await eventually(place.is_ready, within=_TRUTH_SECONDS, every=0.05)
            answer = await waiting
            assert answer.status_code == 201
            posted.append(answer.json())
        events = await stream.entries(5)
    assert [event.data for event in events][3:] == posted
    assert [event.id for event in events] == await place.ids()


async def _forgetting(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with Place(folder, valkey) as place:
        await _begin(place, begin)
        await _while_alive(place, _forget(place))


async def _forget(place: Place) -> None:
    async with place.valkey.client() as redis, EventStream(place.server.url) as stream:
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
        await eventually(place.is_ready, within=_TRUTH_SECONDS, every=0.05)


async def _failed_over(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    spare = Valkey(folder / "spare").start()
    try:
        async with Proxy(valkey.port) as proxy, Place(folder, valkey, proxy.address) as place:
            await _begin(place, begin)
            await _while_alive(place, _fail_over(place, proxy, spare))
    finally:
        spare.kill()


async def _fail_over(place: Place, proxy: Proxy, spare: Valkey) -> None:
    async with (
        EventStream(place.server.url) as stream,
        place.valkey.client() as old,
        spare.client() as new,
    ):
        await stream.until("pods")
        assert (await place.post("before")).status_code == 201
        await new.replicaof("127.0.0.1", place.valkey.port)

        async def is_in_step() -> bool:
            return bool((await new.info("replication"))["master_link_status"] == "up")

        async def has_changed() -> bool:
            return bool((await new.role())[0] == "master")

        await eventually(is_in_step)
        await old.execute_command("FAILOVER", "TO", "127.0.0.1", spare.port)
        await eventually(has_changed)
        proxy.target = spare.port
        assert (await place.post("after")).status_code == 201
        await asyncio.sleep(_TRUTH_SECONDS)
        await eventually(place.is_ready)
        assert (await place.post("later")).status_code == 201
        # A reader of the old one would get nothing more.
        await old.replicaof("127.0.0.1", free_port())
        assert (await place.post("still read?")).status_code == 201
        events = await stream.entries(4)
        texts = ["before", "after", "later", "still read?"]
        assert [event.data["text"] for event in events] == texts
        assert [fields["text"] for _, fields in await new.xrange(_EVENTS)] == [
            event.data["text"] for event in events
        ]


async def _last_deleted(folder: Path, begin: asyncio.Barrier) -> None:
    valkey = Valkey(folder / "valkey").start()
    async with Proxy(valkey.port) as proxy, Place(folder, valkey, proxy.address) as place:
        await _begin(place, begin)
        await _while_alive(place, _delete_last(place, proxy))


async def _delete_last(place: Place, proxy: Proxy) -> None:
    async with EventStream(place.server.url) as stream, place.valkey.client() as redis:
        seen = (await place.post("seen, then deleted")).json()["id"]
        assert (await stream.entries(1))[0].id == seen
        await proxy.refuse()
        await proxy.cut()
        pipeline = redis.pipeline(transaction=False)
        for number in range(1200):
            pipeline.xadd(_EVENTS, {"text": str(number), "pod": "elsewhere"})
        pipeline.xdel(_EVENTS, seen)
        pipeline.xadd(_EVENTS, {"deleted": seen})
        await pipeline.execute()
        await proxy.listen()
        events = await stream.entries(1201)
        assert [event.id for event in events] == await place.ids()
        assert {event.name for event in events[:-1]} == {"message"}
        assert events[-1].data == {"id": seen}


Command = tuple[str, ...]
_ALL: tuple[Scenario, ...] = (
    _killed,
    _frozen,
    _silent,
    _cut_off,
    _vanished,
    _refusing_at_start,
    _unanswering_at_start,
    _lost_replies,
    _delayed,
    _refusing_writes,
    _forgetting,
    _failed_over,
    _last_deleted,
)


@pytest.fixture(scope="module")
async def scenarios(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scenarios]:
    async with run_together(_ALL, tmp_path_factory.mktemp) as tasks:
        yield tasks


async def test_redis_is_killed_and_restarted(scenarios: Scenarios) -> None:
    """Killed and started again on its files: no acknowledged message is lost or doubled."""
    await scenarios[_killed]


async def test_redis_hangs(scenarios: Scenarios) -> None:
    """Stopped (SIGSTOP): what was refused meanwhile is not stored when it goes on."""
    await scenarios[_frozen]


async def test_redis_does_not_answer(scenarios: Scenarios) -> None:
    """A network that takes everything and returns nothing is noticed, and so is its end."""
    await scenarios[_silent]


async def test_connections_to_redis_die_silently(scenarios: Scenarios) -> None:
    """Open connections stay silent for good, and are given up once a new one would work."""
    await scenarios[_cut_off]


async def test_redis_vanishes(scenarios: Scenarios) -> None:
    """Its host is gone: a new connection is neither made nor refused."""
    await scenarios[_vanished]


async def test_redis_refuses_at_the_start(scenarios: Scenarios) -> None:
    """The server starts without its Redis, reports that, and is ready when it comes."""
    await scenarios[_refusing_at_start]


async def test_redis_does_not_answer_at_the_start(scenarios: Scenarios) -> None:
    """The server starts while connections are neither made nor refused, and is ready later."""
    await scenarios[_unanswering_at_start]


async def test_replies_are_lost(scenarios: Scenarios) -> None:
    """A lost or cut reply stores no message twice, and acknowledged messages are there."""
    await scenarios[_lost_replies]


async def test_replies_are_late(scenarios: Scenarios) -> None:
    """Delays are short enough or reported; no request waits longer than it may."""
    await scenarios[_delayed]


async def test_redis_refuses_writes(scenarios: Scenarios) -> None:
    """Out of memory, or turned a replica: posts are refused, and taken when it is over."""
    await scenarios[_refusing_writes]


async def test_redis_forgets_scripts_and_connections(scenarios: Scenarios) -> None:
    """After SCRIPT FLUSH and CLIENT KILL no post fails, and no stream lacks an event."""
    await scenarios[_forgetting]


async def test_a_service_leads_to_another_master(scenarios: Scenarios) -> None:
    """After a fail-over, connections to the server that is a replica now are replaced."""
    await scenarios[_failed_over]


async def test_what_was_read_last_is_deleted_meanwhile(scenarios: Scenarios) -> None:
    """That is no loss of data: streams get what came since, and no `reset`."""
    await scenarios[_last_deleted]
