"""Measure how many pods a Redis carries: many followers and heartbeats, without browsers.

Each simulated pod is what a real one is to Redis: the reader's blocking read and the heartbeat, by
the service's own classes, on connections of their own. The server has one core, all pods the other.
The result is a table, which replaces the one between the marks in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import os
import platform
import re
import resource
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import redis
import structlog

from guestbook.core.event_log import EventLog
from guestbook.core.messages import NewMessage
from guestbook.core.policy import Retention
from guestbook.pod.follower import BLOCK_MS, Follower
from guestbook.pod.presence import Presence
from guestbook.storage.store import Store
from guestbook.storage.topology import create_client
from guestbook.storage.url import RedisURL
from tests.support.valkey import Valkey

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
MARKS = re.compile(r"(<!-- measured: pods -->\n).*?(<!-- end -->)", re.DOTALL)
RETENTION = Retention(1000, 0)
PROCESSES = 4


class Row(NamedTuple):
    """The measurements with one number of pods and of posts a second."""

    pods: int
    posts: int
    cpu: float
    commands: float
    sent: float
    lags: list[float]


class SimulatedPod:
    """A pod as Redis sees it."""

    def __init__(self, address: RedisURL, name: str, lags: list[float]) -> None:
        self._lags = lags
        self._log = EventLog(RETENTION.messages, 2**20)
        self._seen = self._log.end
        reading = Store(create_client(address, timeout=BLOCK_MS / 1000 + 5), RETENTION)
        beating = Store(create_client(address, timeout=5), RETENTION)
        self._reader = Follower(
            reading, self._log, on_entries=self._note, on_break=_ignore, on_lost=_ignore
        )
        self._pods = Presence(
            beating,
            name=name,
            moderation="off",
            count_streams=lambda: int(time.monotonic()),
            on_change=_ignore,
            on_reply=_ignore,
        )

    async def run(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await asyncio.gather(self._reader.run(), self._pods.run())

    def _note(self) -> None:
        now = time.time()
        fresh, self._seen = self._log.end - self._seen, self._log.end
        for message in itertools.islice(self._log.newest(), fresh):
            self._lags.append(now - float(message.text))


def _ignore(*_: object) -> None:
    """A simulated pod has no streams."""


def simulate(port: int, names: list[str], measure: Event, end: Event, out: Queue[Any]) -> None:
    """Run one process's share of the pods."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    async def live() -> None:
        lags: list[float] = []
        address = RedisURL.parse(f"127.0.0.1:{port}")
        pods = [SimulatedPod(address, name, lags) for name in names]
        # Spread the heartbeats over the second, like those of pods that start one by one.
        tasks = [
            asyncio.create_task(pod.run(3 * index / len(pods))) for index, pod in enumerate(pods)
        ]
        while not measure.is_set():
            await asyncio.sleep(0.05)
        lags.clear()
        while not end.is_set():
            await asyncio.sleep(0.05)
        out.put(list(lags))
        for task in tasks:
            task.cancel()

    asyncio.run(live())


@contextlib.contextmanager
def valkey(folder: str) -> Any:
    """Run a server on its own core."""
    options = ["--appendfsync", "everysec", "--maxclients", "20000"]
    server = Valkey(Path(folder), *options).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(server.pid, {min(os.sched_getaffinity(0))})
    try:
        yield server.port, redis.Redis(port=server.port)
    finally:
        server.kill()


def measured(pods: int, posts: int, seconds: float) -> Row:
    """Run a number of pods and post at a rate, for a time."""
    with tempfile.TemporaryDirectory() as folder, valkey(folder) as (port, client):
        measure, end = multiprocessing.Event(), multiprocessing.Event()
        out: Queue[Any] = multiprocessing.Queue()
        names = [f"guestbook-5f4d8c7b9-{number:05}" for number in range(pods)]
        workers = [
            multiprocessing.Process(
                target=simulate,
                args=(port, names[share::PROCESSES], measure, end, out),
                daemon=True,
            )
            for share in range(min(PROCESSES, pods))
        ]
        for worker in workers:
            worker.start()
        deadline = time.monotonic() + 120
        while client.hlen("{guestbook}:pods") < pods:
            if time.monotonic() > deadline:
                for worker in workers:
                    worker.kill()
                raise RuntimeError(f"of {pods} pods not all came up")
            time.sleep(0.2)
        time.sleep(5)
        measure.set()
        before, started = _account(client), time.monotonic()
        asyncio.run(_post(port, posts, seconds))
        took, after = time.monotonic() - started, _account(client)
        end.set()
        lags = [lag for _ in workers for lag in out.get()]
        for worker in workers:
            worker.join()
        cpu, commands, sent = ((b - a) / took for a, b in zip(before, after, strict=True))
        return Row(pods, posts, cpu, commands, sent, lags)


def _account(client: Any) -> tuple[float, float, float]:
    said = client.info()
    cpu = said["used_cpu_user"] + said["used_cpu_sys"]
    return cpu, said["total_commands_processed"], said["total_net_output_bytes"]


async def _post(port: int, posts: int, seconds: float) -> None:
    client = create_client(RedisURL.parse(f"127.0.0.1:{port}"), timeout=10)
    store = Store(client, RETENTION)
    started = time.monotonic()
    for number in range(int(posts * seconds)):
        await asyncio.sleep(started + number / posts - time.monotonic())
        draft = NewMessage.parse(repr(time.time()), "Ada")
        await store.post(draft, "bench", key=f"own:{number}", until_ms=0, address="", rate=None)
    await asyncio.sleep(max(0.0, started + seconds - time.monotonic()))
    await client.aclose()


def table(rows: list[Row]) -> str:
    """Return the rows for docs/scaling.md."""
    lines = [
        "| pods | posts/s | Redis's core | commands/s | Redis sends | to a pod: median, p99 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lags = sorted(row.lags)
        middle, late = statistics.median(lags), lags[int(len(lags) * 0.99)]
        lines.append(
            f"| {row.pods:,} | {row.posts} | {row.cpu:.1%} | {row.commands:,.0f} | "
            f"{row.sent / 2**20:.2f} MiB/s | {middle * 1000:.1f} ms, {late * 1000:.1f} ms |"
        )
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]}"
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    return "\n".join([*lines, "", f"Measured on {when} with `bench/pods.py`, {machine}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", default="3,30,100,300")
    parser.add_argument("--posts", default="1,20", help="posts a second")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    chosen = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    for pods in map(int, chosen.pods.split(",")):
        for posts in map(int, chosen.posts.split(",")):
            try:
                rows.append(measured(pods, posts, chosen.seconds))
            except RuntimeError as error:
                print(error, file=sys.stderr)
                continue
            print(table(rows[-1:]).splitlines()[2], file=sys.stderr)
    text = table(rows)
    print(text)
    if chosen.write:
        page = PAGE.read_text()
        PAGE.write_text(MARKS.sub(lambda m: f"{m[1]}{text}{m[2]}", page))


if __name__ == "__main__":
    main()
