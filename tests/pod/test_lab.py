"""The lab: any pod queues a command for another, which runs it once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from guestbook.pod.lab import cpu_load, memory_limit, memory_load
from tests.conftest import Serve
from tests.support.messages import ADMIN, TOKEN, post
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.valkey import Valkey, documented_rights
from tests.support.waiting import eventually

MIB = 1 << 20


@dataclass
class Course:
    """A pod whose lab needs a token, one whose lab is open to all, and one without a lab."""

    valkey: Valkey
    guarded: Server
    open: Server
    off: Server

    @property
    def redis(self) -> str:
        return self.open.env["REDIS_URL"]


@pytest.fixture(scope="module")
async def course(
    tmp_path_factory: pytest.TempPathFactory, serve_shared: Serve
) -> AsyncIterator[Course]:
    # A user with no other rights than those in the documents.
    user = ("--user", "ada", "on", ">secret", *documented_rights("GUESTBOOK_LAB"))
    with Valkey(tmp_path_factory.mktemp("lab"), *user) as valkey:
        redis = f"redis://ada:secret@{valkey.address}"
        lab = {"redis": redis, "GUESTBOOK_LAB": "true"}
        guarded, open_to_all, off = await asyncio.gather(
            serve_shared("pod-a", GUESTBOOK_ADMIN_TOKEN=TOKEN, **lab),
            serve_shared("pod-b", **lab),
            serve_shared("pod-off", redis=redis),
        )
        async with EventStream(open_to_all.url) as one, EventStream(guarded.url) as two:
            await asyncio.gather(_shows(one, "pod-a", []), _shows(two, "pod-b", []))
        yield Course(valkey, guarded, open_to_all, off)


async def _send(via: Server, name: str, action: str, **headers: str) -> httpx.Response:
    async with via.client() as http:
        return await http.post(f"/lab/{name}/{action}", headers=headers)


async def _shows(stream: EventStream, name: str, lab: list[str]) -> None:
    """Wait until the stream shows exactly these faults of the pod of this name."""
    while True:
        event = await stream.until("pods")
        if lab in [pod.get("lab") for pod in event.data["pods"] if pod["name"] == name]:
            return


def _detail(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail


def _memory(pid: int | str) -> int:
    """Return how many bytes of memory a process uses."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _cpu_seconds(pid: int) -> float:
    user = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]
    return int(user) / os.sysconf("SC_CLK_TCK")


async def test_command_reaches_its_pod_through_another(course: Course) -> None:
    """The pod in the path runs it, and all streams show the fault."""
    async with EventStream(course.guarded.url) as stream, EventStream(course.open.url) as own:
        await _shows(stream, "pod-b", [])
        answer = await _send(course.guarded, "pod-b", "not-ready", **ADMIN)
        assert answer.status_code == 202
        assert answer.json() == {"pod": "pod-b", "action": "not-ready"}
        await asyncio.gather(*(_shows(each, "pod-b", ["not-ready"]) for each in (stream, own)))
        async with course.open.client() as http:
            ready = await http.get("/ready")
            assert ready.status_code == 503
            assert ready.json()["reasons"] == ["by hand: POST /lab/pod-b/ready ends it"]
        await course.open.until("/healthz", 200)
        await course.guarded.ready()
        await _send(course.guarded, "pod-b", "ready", **ADMIN)
        await _shows(stream, "pod-b", [])
        await course.open.ready()
    for pod, word in (
        (course.guarded, "lab command queued"),
        (course.open, "lab command received"),
    ):
        (line,) = (line for line in pod.lines().splitlines() if word in line and '"ready"' in line)
        assert '"level": "warning"' in line


async def test_each_command_runs_once(course: Course) -> None:
    """Each command runs once, even if many are sent at once through several pods."""
    async with EventStream(course.open.url) as stream:
        await stream.until("pods")
        sent = (*(_send(course.open, "pod-b", "cut") for _ in range(4)),)
        sent += (*(_send(course.guarded, "pod-b", "cut", **ADMIN) for _ in range(4)),)
        assert {answer.status_code for answer in await asyncio.gather(*sent)} == {202}
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await stream.rest()
        assert not stream.is_complete
    line = '"event": "lab command received", "action": "cut"'
    await eventually(lambda: course.open.lines().count(line) >= 8)
    # Commands run in order: after this one no earlier one can run again.
    await _send(course.open, "pod-b", "ready")
    await eventually(lambda: '"ready"' in course.open.lines().rpartition("of the lab")[2])
    assert course.open.lines().count(line) == 8
    assert line not in course.guarded.lines()


async def test_unknown_pod_or_action_is_answered_with_the_known_ones(course: Course) -> None:
    """404 lists the pods that take commands, 422 the actions."""
    unknown = await _send(course.open, "pod-x", "cut")
    assert unknown.status_code == 404
    assert _detail(unknown).endswith(": pod-a, pod-b.")
    off = await _send(course.open, "pod-off", "cut")
    assert off.status_code == 404
    nothing = await _send(course.open, "pod-b", "tickle")
    assert nothing.status_code == 422
    for action in ("not-ready", "ready", "freeze", "crash", "burn", "eat", "cut"):
        assert f"'{action}'" in _detail(nothing)


async def test_command_needs_the_admin_token(course: Course) -> None:
    """With an admin token the lab demands it; pages of other sites are refused in any case."""
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = await _send(course.guarded, "pod-b", "cut", **headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    elsewhere = {"Origin": "https://elsewhere.example", **ADMIN}
    for pod in (course.guarded, course.open):
        assert (await _send(pod, "pod-b", "cut", **elsewhere)).status_code == 403


async def test_lab_that_is_off_leaves_no_trace(course: Course) -> None:
    """No route, no description, no field in the `pods` event, no log line, no module."""
    async with course.off.client() as http:
        for path in ("/lab/pod-b/cut", "/lab/pod-off/crash"):
            assert (await http.post(path)).status_code == 404
        assert "/lab" not in (await http.get("/openapi.json")).text
    async with EventStream(course.off.url) as stream:
        pods = (await stream.until("pods")).data["pods"]
    assert ["lab" in pod for pod in pods if pod["name"] == "pod-off"] == [False]
    assert "the lab" not in course.off.lines()
    program = (
        "import sys, guestbook.web.app, guestbook.settings as s\n"
        "guestbook.web.app.create_app(s.load())\n"
        "assert 'guestbook.pod.lab' not in sys.modules"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=course.off.env, stderr=subprocess.PIPE
    )
    _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")


async def test_command_needs_redis(course: Course) -> None:
    """While Redis is away the answer is 503, and no command is left for later."""
    course.valkey.kill()
    try:
        answer = await _send(course.open, "pod-b", "crash")
        assert answer.status_code == 503
        assert "Redis" in _detail(answer)
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        course.valkey.start()
    await asyncio.gather(*(pod.ready() for pod in (course.guarded, course.open, course.off)))
    assert '"crash"' not in course.open.lines()


async def test_frozen_pod_hangs(course: Course, serve: Serve) -> None:
    """It announces the fault, then nothing in it runs, so that the liveness probe fails.

    A bounded number of commands waits for it, and expires.
    """
    victim = await serve("pod-cold", redis=course.redis, GUESTBOOK_LAB="true")
    async with EventStream(course.open.url) as stream, EventStream(victim.url) as own:
        await _shows(stream, "pod-cold", [])
        assert (await _send(course.open, "pod-cold", "freeze")).status_code == 202
        await asyncio.gather(*(_shows(each, "pod-cold", ["freeze"]) for each in (stream, own)))
        more = await asyncio.gather(*(_send(course.open, "pod-cold", "cut") for _ in range(12)))
        assert sorted(answer.status_code for answer in more) == [202] * 10 + [429] * 2
        async with course.valkey.client() as redis:
            (waiting,) = await redis.keys("{guestbook}:orders:pod-cold/*")
            assert 0 < await redis.pttl(waiting) <= 10_000
        async with victim.client(timeout=1) as http:
            with pytest.raises(httpx.TimeoutException):
                await http.get("/healthz")
        assert victim.process is not None
        assert victim.process.poll() is None


@pytest.mark.slow
async def test_busy_pod_serves_until_it_crashes_or_stops(course: Course, serve: Serve) -> None:
    """Load on CPU and memory leaves the streams alive; `crash` and SIGTERM work as ever.

    The process that replaces a crashed one runs commands under the same name.
    """
    victim = await serve("pod-hot", redis=course.redis, GUESTBOOK_LAB="true")
    async with EventStream(course.open.url) as stream:
        async with EventStream(victim.url) as own:
            await _shows(stream, "pod-hot", [])
            memory, cpu = _memory(victim.pid), _cpu_seconds(victim.pid)
            for action in ("burn", "eat"):
                await _send(course.open, "pod-hot", action)
            await _shows(stream, "pod-hot", ["burn", "eat"])
            await eventually(lambda: _cpu_seconds(victim.pid) > cpu + 0.5)
            await eventually(lambda: _memory(victim.pid) > memory + 40 * MIB)
            async with victim.client() as http:
                await post(http, "still here")
            assert (await own.messages(1))[0]["text"] == "still here"
        await _send(course.open, "pod-hot", "crash")
        assert await victim.ended() == 1
        last = victim.lines().splitlines()[-1]
        assert "crashing on purpose" in last
        assert '"by": "pod-b"' in last

        victim.start()
        await victim.ready()
        await _shows(stream, "pod-hot", [])
        for action in ("burn", "not-ready"):
            assert (await _send(course.open, "pod-hot", action)).status_code == 202
        await _shows(stream, "pod-hot", ["burn", "not-ready"])
        victim.signal(signal.SIGTERM)
        assert await victim.ended() == -signal.SIGTERM
    assert "Traceback" not in victim.lines()


async def test_memory_load_ends() -> None:
    """The memory is really used, and freed after its time."""
    before = _memory("self")
    load = asyncio.create_task(memory_load(128 * MIB, over=0.1, hold=0.5))
    await eventually(lambda: _memory("self") > before + 120 * MIB)
    await load
    assert _memory("self") < before + 64 * MIB


@pytest.mark.parametrize(
    ("written", "expected"), [(None, 1024), ("max\n", 1024), (f"{256 * MIB}\n", 256 + 64)]
)
def test_memory_load_exceeds_the_limit(tmp_path: Path, written: str | None, expected: int) -> None:
    """More than the container may use; 1 GiB where there is no limit."""
    if written is not None:
        (tmp_path / "memory.max").write_text(written)
    assert memory_limit(tmp_path) == expected * MIB


async def test_cpu_load_ends() -> None:
    """No thread is left when the time is up."""
    threads = threading.active_count()
    load = asyncio.create_task(cpu_load(0.1))
    await eventually(lambda: threading.active_count() > threads)
    await load
    await eventually(lambda: threading.active_count() <= threads)
