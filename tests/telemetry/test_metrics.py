"""The values of the metrics, and their table in docs/operations.md."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.support.metrics import Samples, families, sample
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import eventually, eventually_equal

_DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
# Their labels are their own.
_BUCKETS = {"le", "quantile"}


class Since:
    """How much the samples have grown since then."""

    def __init__(self, pod: Server, before: Samples) -> None:
        self._pod = pod
        self._before = before

    async def __call__(self, name: str, **labels: str) -> float:
        return await sample(self._pod, name, **labels) - self._before.of(name, **labels)

    async def becomes(self, number: float, name: str, **labels: str) -> None:
        await eventually_equal(functools.partial(self, name, **labels), number)


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    return await serve_shared(
        GUESTBOOK_MAX_STREAMS="4",
        GUESTBOOK_MAX_MESSAGES="50",
        GUESTBOOK_MAX_STREAMS_PER_ADDRESS="3",
        GUESTBOOK_POST_RATE="30/1h",
    )


@pytest.fixture
async def since(pod: Server) -> Since:
    return Since(pod, await Samples.read(pod))


async def test_lag_counts_from_redis_clock(pod: Server, since: Since) -> None:
    """An entry that has the id of a minute ago is a minute late."""
    async with redis_client(pod.env["REDIS_URL"]) as redis, EventStream(pod.url) as stream:
        await stream.until("pods")
        # The first entry of this stream: its id may be any.
        await redis.xadd(
            "{guestbook}:events", {"text": "late"}, id=f"{(await redis.time())[0] - 60}000-0"
        )
        await stream.entries(1)
        await since.becomes(1, "guestbook_delivery_lag_seconds_count")
        assert 59 < await since("guestbook_delivery_lag_seconds_sum") < 90


async def test_documents_name_every_metric(pod: Server, api: httpx.AsyncClient) -> None:
    """The table in docs/operations.md has the exported names, types and labels."""
    await api.get("/messages")
    rows = re.findall(
        r"^\| `(guestbook_\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", _DOCS.read_text(), re.MULTILINE
    )
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    exported = {
        family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - _BUCKETS,
        )
        for family in await families(pod)
        if not family.name.startswith("process_")
    }
    assert told == exported


async def test_documents_name_every_reason(pod: Server) -> None:
    """Each reason of a counter is in docs/operations.md."""
    words = set(re.findall(r"`([\w ]+)`", _DOCS.read_text()))
    found = [sample for family in await families(pod) for sample in family.samples]
    reasons = {sample.labels["reason"] for sample in found if "reason" in sample.labels}
    assert {"slow", "limit", "rate"} <= reasons <= words


async def test_event_is_counted_for_each_stream_and_its_lag_once(
    pod: Server, api: httpx.AsyncClient, since: Since
) -> None:
    """A message that two streams receive counts as two deliveries and one lag."""
    async with EventStream(pod.url) as one, EventStream(pod.url) as two:
        for stream in (one, two):
            await stream.until("pods")
        for number in range(3):
            await api.post("/messages", json={"text": str(number)})
        await asyncio.gather(one.entries(3), two.entries(3))
        await since.becomes(6, "guestbook_events_delivered_total")
        await since.becomes(3, "guestbook_delivery_lag_seconds_count")
        # Generous, because the machine may be busy; an id taken for seconds would be far beyond.
        assert 0 <= await since("guestbook_delivery_lag_seconds_sum") < 30


async def test_idle_pod_has_no_lag(api: httpx.AsyncClient, since: Since) -> None:
    """Without streams nothing is delivered, and so nothing is late."""
    await api.post("/messages", json={"text": "unseen"})
    await asyncio.sleep(0.05)
    assert await since("guestbook_delivery_lag_seconds_count") == 0
    assert await since("guestbook_events_delivered_total") == 0


async def test_replays_count_by_their_source(pod: Server, since: Since) -> None:
    """Entries that a stream missed count as from memory if they are in it, else as from Redis."""
    async with redis_client(pod.env["REDIS_URL"]) as redis:
        ids = [await redis.xadd("{guestbook}:events", {"text": str(n)}) for n in range(70)]
    async with EventStream(pod.url, after=ids[0]) as stream:
        await stream.entries(69)
    async with EventStream(pod.url, after=ids[-1]) as stream:
        await stream.until("pods")
    sums = [await since("guestbook_replay_events_sum", source=s) for s in ("memory", "redis")]
    counts = [await since("guestbook_replay_events_count", source=s) for s in ("memory", "redis")]
    assert sum(sums) == 69
    assert sums[1] >= 19
    assert counts == [bool(sums[0]), 1]


async def test_posts_count_by_their_outcome(api: httpx.AsyncClient, since: Since) -> None:
    """Posts by form, JSON, or with a key count as stored, replayed, or refused by reason."""
    key = {"Idempotency-Key": "the-same"}
    for _ in range(3):
        assert (await api.post("/messages", json={"text": "once"}, headers=key)).status_code == 201
    await api.post("/messages", data={"text": "by form"})
    assert await since("guestbook_messages_accepted_total") == 2
    assert await since("guestbook_messages_replayed_total") == 2
    assert await since("guestbook_redis_command_seconds_count", command="post") == 4
    await api.post("/messages", data={"text": ""})
    await api.post("/messages", json={"text": ""})
    await api.post("/messages", content=b"<xml/>", headers={"Content-Type": "text/xml"})
    await api.post("/messages", json={"text": "x" * 20_000})
    await api.post("/messages", json={"text": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
    while (await api.post("/messages", json={"text": "more"})).status_code == 201:
        pass
    reasons = {"invalid": 2, "media type": 1, "too large": 1, "cross site": 1, "rate": 1}
    for reason, number in reasons.items():
        assert await since("guestbook_messages_refused_total", reason=reason) == number, reason


async def test_entries_count_by_their_kind(serve: Serve) -> None:
    """A deleted message counts no more, its deletion does; the bytes are those of the stream."""
    pod = await serve(GUESTBOOK_ADMIN_TOKEN="token-of-entries")
    token = {"Authorization": "Bearer token-of-entries"}
    async with pod.client() as http:
        for text in ("one", "two", "three"):
            last = (await http.post("/messages", json={"text": text})).json()
        await http.delete(f"/messages/{last['id']}", headers=token)
        said = (await http.get("/metrics")).text
        async with EventStream(pod.url, after="0-0") as stream:
            events = await stream.entries(3)
    for kind, number in (("message", 2), ("edit", 0), ("deletion", 1)):
        assert f'\nguestbook_entries{{kind="{kind}"}} {number}.0\n' in said
    data = sum(len(json.dumps(event.data, separators=(",", ":"))) for event in events)
    (size,) = re.findall(r"\nguestbook_entries_bytes (\S+)\n", said)
    assert data < float(size) < data + 3 * 60


async def test_streams_count_by_their_end_and_refusals(pod: Server, since: Since) -> None:
    """Streams over the limit of an address or of the pod are refused; closed ones are counted."""
    async with contextlib.AsyncExitStack() as stack:
        for source in ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"):
            stream = EventStream(pod.url, source=source)
            await (await stack.enter_async_context(stream)).until("pods")
            if await since("guestbook_streams_opened_total") == 3:
                async with EventStream(pod.url) as refused:
                    assert refused.head.status == 503
        async with EventStream(pod.url, source="127.0.0.3") as refused:
            assert refused.head.status == 503
        assert await since("guestbook_streams") == 4
    for reason in ("limit", "address limit"):
        assert await since("guestbook_streams_refused_total", reason=reason) == 1
    await since.becomes(4, "guestbook_streams_closed_total", reason="client gone")
    labels = {"method": "GET", "route": "/events"}
    assert await since("guestbook_http_requests_total", **labels, status="200") == 4
    assert await since("guestbook_http_requests_total", **labels, status="503") == 2


async def test_redis_that_goes_and_comes_back(valkey: Valkey, serve: Serve) -> None:
    """A gauge shows that it is away, a counter that it came back; lost data resets streams."""
    server = await serve(redis=f"redis://{valkey.address}")
    before = await Samples.read(server)
    assert (before.of("guestbook_redis_up"), before.of("guestbook_ready")) == (1, 1)
    since = Since(server, before)
    async with EventStream(server.url) as stream:
        async with server.client() as http:
            await http.post("/messages", json={"text": "to be lost"})
        await stream.entries(1)
        valkey.kill()
        await since.becomes(-1, "guestbook_redis_up")
        await since.becomes(-1, "guestbook_ready")
        (valkey.folder / "appendonlydir").rename(valkey.folder / "lost")
        valkey.start()
        await since.becomes(1, "guestbook_redis_reconnects_total")
        await stream.until("reset")
        await since.becomes(1, "guestbook_streams_reset_total")
    assert await sample(server, "guestbook_redis_up") == 1


async def test_clock_of_redis_that_was_ahead(serve: Serve, redis_url: str) -> None:
    """A gauge shows how far the newest id is ahead of it, and one line of the log."""
    server = await serve()
    assert await sample(server, "guestbook_redis_clock_ahead_seconds") == 0
    async with redis_client(redis_url) as redis:
        now = (await redis.time())[0]
        await redis.xadd("{guestbook}:events", {"text": "early"}, id=f"{now + 3600}000-0")

    async def is_noticed() -> bool:
        return 3500 < await sample(server, "guestbook_redis_clock_ahead_seconds") <= 3600

    await eventually(is_noticed)
    await asyncio.sleep(2)  # further heartbeats
    assert server.lines().count("Redis's clock was once ahead") == 1


async def test_head_counts_by_its_route(api: httpx.AsyncClient, since: Since) -> None:
    """A HEAD has its own method and the route of the GET that answers it."""
    for path in ("/", "/env", "/messages/1-0"):
        await api.head(path)
    for route, status in (("/", "200"), ("/env", "200"), ("/messages/{message_id}", "404")):
        labels = {"method": "HEAD", "route": route, "status": status}
        assert await since("guestbook_http_requests_total", **labels) == 1


async def test_clients_make_no_series(pod: Server, api: httpx.AsyncClient) -> None:
    """Unknown addresses and methods share one series each."""
    for path in ("/nowhere", "/messages/1-0", "/static/nothing"):
        await api.get(path)
    before = set(await Samples.read(pod))
    for number in range(20):
        for path in (f"/nowhere-{number}", f"/messages/{number}-0", f"/static/nothing-{number}"):
            await api.get(path)
    for method in ("PROPFIND", "MKCOL", "LOCK"):
        await api.request(method, "/")
    new = [dict(labels) for _, labels in set(await Samples.read(pod)) - before]
    assert {labels["method"] for labels in new if labels["route"] != "/metrics"} == {"other"}


async def test_process_is_measured(pod: Server) -> None:
    """Prometheus's usual names, and the state of the pod."""
    found = await Samples.read(pod)
    assert found.of("guestbook_ready") == found.of("guestbook_redis_up") == 1
    names = {name for name, _ in found}
    assert names >= {"process_cpu_seconds_total", "process_open_fds", "guestbook_build_info"}
