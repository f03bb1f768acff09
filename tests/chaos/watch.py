"""The probes of all servers during a run, and what the processes use."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import httpx

from tests.chaos.site import Site
from tests.support.servers import Server

TRUTH_SECONDS = 2.0
"""As documented: readiness shows the truth no later than this after it changed."""
_ANSWER_SECONDS = 1.0
_EVERY_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(server: Server) -> float:
    """Return the CPU time that a process has used so far."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_kib(server: Server) -> int:
    """Return the memory of a process, with its share of common pages (PSS)."""
    lines = Path(f"/proc/{server.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


class Watch:
    """Queries the probes of every server all the time."""

    def __init__(self, site: Site, complain: Callable[[str], None]) -> None:
        self._site = site
        self._complain = complain
        self._is_ready: dict[Server, bool | None] = {}
        self.lag = 0.0
        """Seconds in which this process itself could not run, because the machine was busy."""

    async def run(self) -> None:
        """Query the probes until the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._measure_lag())
            for server in self._site.servers:
                group.create_task(self._ask(server))

    async def _measure_lag(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.02)
            self.lag += time.monotonic() - before - 0.02

    async def _ask(self, server: Server) -> None:
        async with server.client() as client:
            while True:
                for path in ("/ready", "/healthz"):
                    status = await self._status(client, server, path)
                    if path == "/ready":
                        self._is_ready[server] = None if status is None else status == 200
                    elif status not in (None, 200):
                        self._complain(f"{server.name}: liveness is {status}")
                await asyncio.sleep(_EVERY_SECONDS)

    async def _status(self, client: httpx.AsyncClient, server: Server, path: str) -> int | None:
        started, lag = time.monotonic(), self.lag
        was_away = server in self._site.away
        try:
            status = (await client.get(path, timeout=5)).status_code
        except httpx.TransportError as error:
            if not was_away and server not in self._site.away:
                self._complain(f"{server.name}: {path} failed: {error!r}")
            return None
        took = time.monotonic() - started - (self.lag - lag)
        if took > _ANSWER_SECONDS and not was_away and server not in self._site.away:
            self._complain(f"{server.name}: {path} took {took:.1f} s")
        return status

    def is_ready(self, server: Server) -> bool | None:
        """Return the last readiness of a server; None if it did not answer."""
        return self._is_ready.get(server)

    async def wait_for(self, servers: Collection[Server], *, ready: bool) -> float:
        """Wait until the servers are ready, or not; return how long that took."""
        started, lag = time.monotonic(), self.lag
        while others := [s for s in servers if self.is_ready(s) is not ready]:
            took = time.monotonic() - started - (self.lag - lag)
            if took > TRUTH_SECONDS:
                names = ", ".join(server.name for server in others)
                self._complain(f"{names}: not {'ready' if ready else 'unready'} in time")
                return took
            await asyncio.sleep(0.02)
        return max(0.0, time.monotonic() - started - (self.lag - lag))
