"""One run: writers post, readers follow, and one fault comes after another."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

from tests.chaos.actions import FAULTS, Fault
from tests.chaos.readers import Reader
from tests.chaos.site import Site
from tests.chaos.verdict import Entries, Period, Verdict, judge
from tests.chaos.watch import TRUTH_SECONDS, Watch, cpu_seconds, memory_kib
from tests.chaos.writers import Writers

_QUIET = "no fault"
# Servers do little at this load: one that uses so much of a core is in an endless loop.
_SPINNING = 0.6
_REST_SECONDS = (0.3, 1.2)
_BRIEF_SECONDS = (0.1, 1.5)
# Longer than any timeout: that of the follower is 2 s, that of a request 3 s.
_LONG_SECONDS = (4.0, 6.0)
_END_SECONDS = 120.0
# Parts of the log lines with which a server loads everything again: no fault here loses data.
_RELOADS = ("loading it again", "loading them", "trimmed past the reader")


@dataclass
class Bounds:
    """The longest times until readiness reported a fault, and the recovery from it."""

    unready: float = 0.0
    ready: float = 0.0


@dataclass
class Report:
    """The findings of a run."""

    verdict: Verdict = field(default_factory=Verdict)
    complaints: Counter[str] = field(default_factory=Counter)
    times: Counter[str] = field(default_factory=Counter)
    bounds: dict[str, Bounds] = field(default_factory=dict)
    memory_kib: list[int] = field(default_factory=list)
    """The memory of the server that was never restarted: in the first minute, and at the end."""
    approved: int = 0
    refused: int = 0
    visits: int = 0
    lag: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (
            self.complaints
            or self.verdict.violations
            or self.verdict.resets
            or not self.verdict.total.is_clean
        )


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    readers: int = 100
    writers: int = 8
    pause: float = 0.15
    """Seconds between two messages of a writer, on average."""
    earlier: int = 9000
    """How many messages are stored before the start."""
    long: float = 0.5
    """The share of faults that last longer than any timeout."""


class Harness:
    """Runs a site through faults. `seed` determines all random choices made here."""

    def __init__(self, site: Site, seed: int, size: Size) -> None:
        self._site = site
        self._size = size
        self._rng = Random(seed)
        self._report = Report()
        self._periods: list[Period] = []
        self._watch = Watch(site, self._complain)
        # A seed of their own each, so that they do not change the order of the faults.
        self._writers = Writers(site, Random(self._rng.random()), self._complain, pause=size.pause)
        self._readers: list[Reader] = []
        self._reading: list[asyncio.Task[None]] = []
        self._common: dict[str, bytes] = {}
        self._during = _QUIET

    def _complain(self, what: str) -> None:
        self._report.complaints[f"{self._during}: {what}"] += 1

    async def run(self, seconds: float, faults: tuple[Fault, ...] = FAULTS) -> Report:
        """Cause one fault after another for `seconds`, each kind equally often."""
        before = await self._site.fill(self._size.earlier)
        await self._site.start()
        background = [asyncio.create_task(self._watch.run())]
        writing = asyncio.create_task(self._writers.write(self._size.writers))
        self._periods.append(Period(0, _QUIET))
        try:
            self._send_readers(before, self._size.readers)
            await self._inflict_all(seconds, faults)
            self._writers.finish()
            async with asyncio.timeout(_END_SECONDS):
                await writing
            await self._await_readers()
        finally:
            for task in (*background, writing, *self._reading):
                task.cancel()
            ended = await asyncio.gather(*background, return_exceptions=True)
            await asyncio.gather(writing, *self._reading, return_exceptions=True)
        self._note_failures(ended)
        stream = await self._site.stream()
        await self._compare_lists(stream)
        self._report.verdict = judge(stream, before, self._writers, self._readers, self._periods)
        self._report.approved = len(self._writers.approved)
        self._report.refused = len(self._writers.refused)
        self._report.visits = sum(reader.visits for reader in self._readers)
        self._report.lag = self._watch.lag
        return self._report

    def _send_readers(self, cursor: str, count: int) -> None:
        for _ in range(count):
            reader = Reader(cursor, self._common, self._complain)
            self._readers.append(reader)
            task = reader.read(self._site.servers, Random(self._rng.random()))
            self._reading.append(asyncio.create_task(task))

    async def _inflict_all(self, seconds: float, faults: tuple[Fault, ...]) -> None:
        started = time.monotonic()
        first_minute = min(60.0, seconds / 4)
        memory = [0]
        queue: list[Fault] = []
        while (passed := time.monotonic() - started) < seconds:
            if passed < first_minute or not memory[0]:
                memory[0] = memory_kib(self._site.witness)
            if not queue:
                queue = self._rng.sample(faults, len(faults))
                # A reader that wants everything from the beginning.
                self._send_readers("0-0", 1)
            await self._inflict(queue.pop())
            self._note(_QUIET)
            await asyncio.sleep(self._rng.uniform(*_REST_SECONDS))
        self._report.memory_kib = [*memory, memory_kib(self._site.witness)]

    def _note(self, name: str) -> None:
        self._during = name
        self._periods.append(Period(time.time_ns() // 1_000_000, name))

    async def _inflict(self, fault: Fault) -> None:
        name = fault.__name__.replace("_", " ")
        self._note(name)
        self._report.times[name] += 1
        bounds = self._report.bounds.setdefault(name, Bounds())
        is_long = self._rng.random() < self._size.long
        seconds = self._rng.uniform(*(_LONG_SECONDS if is_long else _BRIEF_SECONDS))
        rng = Random(self._rng.random())
        witness = self._site.witness
        started, spent = time.monotonic(), cpu_seconds(witness)
        async with fault(self._site, rng) as effect:
            started_at = time.monotonic()
            connected = [
                server
                for server in self._site.servers
                if server not in (*effect.cut_off, *effect.uncertain, *self._site.away)
            ]
            if effect.cut_off and seconds > TRUTH_SECONDS:
                unready = await self._watch.wait_for(effect.cut_off, ready=False)
                bounds.unready = max(bounds.unready, unready)
            await asyncio.sleep(max(0.0, started_at + seconds - time.monotonic()))
            await self._watch.wait_for(connected, ready=True)
        ready = await self._watch.wait_for(self._site.servers, ready=True)
        bounds.ready = max(bounds.ready, ready)
        share = (cpu_seconds(witness) - spent) / (time.monotonic() - started)
        if share > _SPINNING:
            self._complain(f"a server used {share:.0%} of a core")

    async def _await_readers(self) -> None:
        last = (await self._site.stream())[-1][0]
        for reader in self._readers:
            reader.read_up_to(last)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await asyncio.gather(*self._reading)

    async def _compare_lists(self, stream: Entries) -> None:
        """Compare what each server lists with the newest words in Redis."""
        deleted = {fields["deleted"] for _, fields in stream if "deleted" in fields}
        words = {i: f["text"] for i, f in stream if "text" in f}
        words |= {f["edited"]: f["body"] for _, f in stream if "edited" in f}
        async with httpx.AsyncClient(timeout=30, verify=False) as http:
            for server in self._site.servers:
                answer = await http.get(f"{server.url}/messages?limit=1000")
                for message in answer.json()["messages"]:
                    if message["id"] in deleted or message["text"] != words[message["id"]]:
                        self._complain(f"{server.name} lists {message}")

    def _note_failures(self, ended: list[BaseException | None]) -> None:
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome
        for server in self._site.servers:
            lines = server.lines()
            if "Traceback" in lines:
                self._complain(f"{server.name} has logged a traceback")
            for line in lines.splitlines():
                if any(part in line for part in _RELOADS):
                    self._complain(f"{server.name} has logged {line}")


async def run(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    binary: Path | None = None,
    size: Size | None = None,
    faults: tuple[Fault, ...] = FAULTS,
) -> Report:
    """Run on a new site in `folder`; `binary` is the server to use instead of Valkey."""
    async with Site(folder, binary) as site:
        return await Harness(site, seed, size or Size()).run(seconds, faults)
