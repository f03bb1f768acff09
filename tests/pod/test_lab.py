"""The lab: a pod that is asked passes an order on to the pod that is meant, which obeys once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from guestbook.pod.lab import burn, eat, memory_bound
from tests.conftest import Serve
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

TOKEN = "let-me"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
MIB = 1 << 20


class Course:
    """A pod whose lab asks for a token, one whose lab is open to all, and one without a lab."""

    def __init__(self, valkey: Valkey, folder: Path) -> None:
        self.valkey = valkey
        self.redis = f"redis://ada:secret@{valkey.address}"
        lab = {"GUESTBOOK_LAB": "true"}
        self.guarded, self.open, self.off = (
            Server(folder / f"{name}.log", self.redis, name, **env)
            for name, env in (
                ("pod-a", {**lab, "GUESTBOOK_ADMIN_TOKEN": TOKEN}),
                ("pod-b", lab),
                ("pod-off", {}),
            )
        )
        self.pods = (self.guarded, self.open, self.off)


def _documented_rights() -> list[str]:
    said = Path(__file__).parents[2].joinpath("docs/operations.md").read_text()
    (rights,) = re.findall(r"ACL SETUSER guestbook on >PASSWORD (.*)", said)
    (more,) = re.findall(r"\| `GUESTBOOK_LAB` \| `(.*)` \|", said)
    return [*rights.split(), *more.split()]


@pytest.fixture(scope="module")
async def course(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Course]:
    folder = tmp_path_factory.mktemp("lab")
    # A user who has no other rights than those that the documents list.
    user = ("--user", "ada", "on", ">secret", *_documented_rights())
    course = Course(Valkey(folder / "valkey", *user).start(), folder)
    try:
        for pod in course.pods:
            pod.start()
        await asyncio.gather(*(pod.ready() for pod in course.pods))
        async with EventStream(course.open.url) as one, EventStream(course.guarded.url) as two:
            await asyncio.gather(_told(one, "pod-a", []), _told(two, "pod-b", []))
        yield course
    finally:
        for pod in course.pods:
            pod.stop()
        course.valkey.kill()


async def _order(asked: Server, name: str, action: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10, verify=False) as http:
        return await http.post(f"{asked.url}/lab/{name}/{action}", headers=headers)


async def _told(stream: EventStream, name: str, lab: list[str], *, within: float = 5) -> None:
    """Waits until the stream tells of the pod of this name what was done to it."""
    async with asyncio.timeout(within):
        while True:
            said = (await stream.until("pods", within=within)).data
            if lab in [pod.get("lab") for pod in said["pods"] if pod["name"] == name]:
                return


def _detail(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail


def _memory(pid: int | str) -> int:
    """How many bytes a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _cpu_seconds(pid: int) -> float:
    user = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]
    return int(user) / os.sysconf("SC_CLK_TCK")


async def test_order_reaches_the_pod_that_is_meant(course: Course) -> None:
    """Another pod takes the order; the one that is meant obeys, and all streams are told."""
    async with EventStream(course.guarded.url) as stream, EventStream(course.open.url) as own:
        await _told(stream, "pod-b", [])
        answer = await _order(course.guarded, "pod-b", "not-ready", **ADMIN)
        assert answer.status_code == 202
        assert answer.json() == {"pod": "pod-b", "action": "not-ready"}
        await asyncio.gather(*(_told(each, "pod-b", ["not-ready"]) for each in (stream, own)))
        async with httpx.AsyncClient(timeout=10, verify=False) as http:
            ready = await http.get(f"{course.open.url}/ready")
            assert ready.status_code == 503
            assert ready.json()["reasons"] == ["by hand: POST /lab/pod-b/ready ends it"]
            for healthy in (f"{course.open.url}/healthz", f"{course.guarded.url}/ready"):
                assert (await http.get(healthy)).status_code == 200
        await _order(course.guarded, "pod-b", "ready", **ADMIN)
        await _told(stream, "pod-b", [])
        await course.open.ready()
    for pod, word in ((course.guarded, "an order for the lab"), (course.open, "an order of the")):
        (line,) = (line for line in pod.lines().splitlines() if word in line and '"ready"' in line)
        assert '"level": "warning"' in line


async def test_every_order_is_obeyed_once(course: Course) -> None:
    """However many pods are asked at once, each order is carried out one time."""
    async with EventStream(course.open.url) as stream:
        await stream.until("pods")
        asked = (*(_order(course.open, "pod-b", "cut") for _ in range(4)),)
        asked += (*(_order(course.guarded, "pod-b", "cut", **ADMIN) for _ in range(4)),)
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {202}
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await stream.rest()
        assert not stream.is_complete
    obeyed = '"event": "an order of the lab", "action": "cut"'
    await eventually(lambda: course.open.lines().count(obeyed) >= 8)
    # What is asked later is obeyed later: until then the eighth could have come again.
    await _order(course.open, "pod-b", "ready")
    await eventually(lambda: '"ready"' in course.open.lines().rpartition("of the lab")[2])
    assert course.open.lines().count(obeyed) == 8
    assert obeyed not in course.guarded.lines()


async def test_lab_says_what_it_does_not_know(course: Course) -> None:
    """An unknown pod or action is answered with those that there are."""
    nobody = await _order(course.open, "pod-x", "cut")
    assert nobody.status_code == 404
    assert _detail(nobody).endswith(": pod-a, pod-b.")
    off = await _order(course.open, "pod-off", "cut")
    assert off.status_code == 404
    nothing = await _order(course.open, "pod-b", "tickle")
    assert nothing.status_code == 422
    for action in ("not-ready", "ready", "freeze", "crash", "burn", "eat", "cut"):
        assert f"'{action}'" in _detail(nothing)


async def test_lab_asks_for_the_admin_token(course: Course) -> None:
    """Where a token is configured an order needs it; another site's page can give none."""
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = await _order(course.guarded, "pod-b", "cut", **headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    elsewhere = {"Origin": "https://elsewhere.example", **ADMIN}
    for pod in (course.guarded, course.open):
        assert (await _order(pod, "pod-b", "cut", **elsewhere)).status_code == 403


async def test_lab_that_is_off_is_not_there(course: Course) -> None:
    """Without the setting there is no route, no description of one, and nothing is said of it."""
    async with httpx.AsyncClient(base_url=course.off.url, timeout=10, verify=False) as http:
        for path in ("/lab/pod-b/cut", "/lab/pod-off/crash"):
            assert (await http.post(path)).status_code == 404
        assert "/lab" not in (await http.get("/openapi.json")).text
    async with EventStream(course.off.url) as stream:
        said = (await stream.until("pods")).data["pods"]
    assert ["lab" in pod for pod in said if pod["name"] == "pod-off"] == [False]
    assert "the lab" not in course.off.lines()
    program = (
        "import sys, guestbook.web.app, guestbook.settings as s\n"
        "guestbook.web.app.create_app(s.load())\n"
        "assert 'guestbook.lab' not in sys.modules"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=course.off.env, stderr=subprocess.PIPE
    )
    _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")


async def test_order_needs_redis(course: Course) -> None:
    """While Redis is away nobody can be told anything: 503, and no order is left for later."""
    course.valkey.kill()
    try:
        answer = await _order(course.open, "pod-b", "crash")
        assert answer.status_code == 503
        assert "Redis" in _detail(answer)
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        course.valkey.start()
    await asyncio.gather(*(pod.ready() for pod in course.pods))
    assert '"crash"' not in course.open.lines()


async def test_frozen_pod_hangs_as_a_hung_process_does(course: Course, serve: Serve) -> None:
    """Nothing in it runs any more, so that its liveness fails; it has said so before.

    CommandQueue that it does not take are few, and expire.
    """
    victim = await serve("pod-cold", redis=course.redis, GUESTBOOK_LAB="true")
    async with EventStream(course.open.url) as stream, EventStream(victim.url) as own:
        await _told(stream, "pod-cold", [])
        assert (await _order(course.open, "pod-cold", "freeze")).status_code == 202
        await asyncio.gather(*(_told(each, "pod-cold", ["freeze"]) for each in (stream, own)))
        more = await asyncio.gather(*(_order(course.open, "pod-cold", "cut") for _ in range(12)))
        assert sorted(answer.status_code for answer in more) == [202] * 10 + [429] * 2
        async with course.valkey.client() as redis:
            (waiting,) = await redis.keys("{guestbook}:orders:pod-cold/*")
            assert 0 < await redis.pttl(waiting) <= 10_000
        async with httpx.AsyncClient(timeout=1, verify=False) as http:
            with pytest.raises(httpx.TimeoutException):
                await http.get(f"{victim.url}/healthz")
        assert victim.process is not None
        assert victim.process.poll() is None


@pytest.mark.slow
async def test_busy_pod_serves_on_until_it_crashes_or_stops(course: Course, serve: Serve) -> None:
    """CPU and memory go, the streams flow on; a crash ends it at once, SIGTERM as ever.

    A process that comes after a crash obeys under the same name.
    """
    victim = await serve("pod-hot", redis=course.redis, GUESTBOOK_LAB="true")
    async with EventStream(course.open.url) as stream:
        async with EventStream(victim.url) as own:
            await _told(stream, "pod-hot", [])
            memory, cpu = _memory(victim.pid), _cpu_seconds(victim.pid)
            for action in ("burn", "eat"):
                await _order(course.open, "pod-hot", action)
            await _told(stream, "pod-hot", ["burn", "eat"])
            await eventually(lambda: _cpu_seconds(victim.pid) > cpu + 0.5, within=20)
            await eventually(lambda: _memory(victim.pid) > memory + 40 * MIB, within=20)
            async with httpx.AsyncClient(timeout=10, verify=False) as http:
                answer = await http.post(f"{victim.url}/messages", json={"text": "still here"})
                assert answer.status_code == 201
            assert (await own.messages(1))[0]["text"] == "still here"
        await _order(course.open, "pod-hot", "crash")
        assert await victim.ended() == 1
        last = victim.lines().splitlines()[-1]
        assert "ends at once" in last
        assert '"by": "pod-b"' in last

        victim.start()
        await victim.ready()
        await _told(stream, "pod-hot", [])
        for action in ("burn", "not-ready"):
            assert (await _order(course.open, "pod-hot", action)).status_code == 202
        await _told(stream, "pod-hot", ["burn", "not-ready"])
        victim.signal(signal.SIGTERM)
        assert await victim.ended() == -signal.SIGTERM
    assert "Traceback" not in victim.lines()


async def test_what_is_eaten_is_given_back(tmp_path: Path) -> None:
    """Memory is really taken, up to its bound, and is free again after its time."""
    before = _memory("self")
    eating = asyncio.create_task(eat(128 * MIB, over=0.1, hold=0.5))
    await eventually(lambda: _memory("self") > before + 120 * MIB)
    await eating
    assert _memory("self") < before + 64 * MIB


@pytest.mark.parametrize(
    ("written", "bound"), [(None, 1024), ("max\n", 1024), (f"{256 * MIB}\n", 256 + 64)]
)
def test_memory_has_a_bound(tmp_path: Path, written: str | None, bound: int) -> None:
    """A container's own limit is overstepped; where there is none it stays at 1 GiB."""
    if written is not None:
        (tmp_path / "memory.max").write_text(written)
    assert memory_bound(tmp_path) == bound * MIB


async def test_burning_ends() -> None:
    """Nothing burns on when the time is up."""
    threads = threading.active_count()
    burning = asyncio.create_task(burn(0.1))
    await eventually(lambda: threading.active_count() > threads)
    await burning
    await eventually(lambda: threading.active_count() <= threads)
