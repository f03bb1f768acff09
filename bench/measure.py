"""Values from the kernel, and the two uses of the load client."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from bench.services import CLIENT_CORE, SERVER_CORE, Service, pinned, put_first

_PROCESS_CLOCK = 2


def cpu_ns(pids: list[int]) -> int:
    """Return the CPU time that processes have used, user and system."""
    return sum(time.clock_gettime_ns((~pid << 3) | _PROCESS_CLOCK) for pid in pids)


def pss_kib(pids: list[int]) -> int:
    """Return the memory of processes; shared memory is counted proportionally."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def kernel_kib() -> int:
    """Return the kernel's memory for objects and socket buffers, of the whole machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    slab = next(int(line.split()[1]) for line in lines if line.startswith("Slab:"))
    sockets = Path("/proc/net/sockstat").read_text().splitlines()
    pages = next(int(line.split()[-1]) for line in sockets if line.startswith("TCP:"))
    return slab + pages * 4


def _core_busy_seconds(core: int) -> float:
    lines = Path("/proc/stat").read_text().splitlines()
    ticks = next(line.split()[1:] for line in lines if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, ticks[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Meter:
    """The resources that a server used within the context."""

    seconds = cpu = 0.0

    def __init__(self, service: Service) -> None:
        self._pids = service.pids

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._busy = _core_busy_seconds(SERVER_CORE)
        self._cpu = cpu_ns(self._pids)
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu = (cpu_ns(self._pids) - self._cpu) / 1e9
        self.seconds = time.monotonic() - self._started
        others = _core_busy_seconds(SERVER_CORE) - self._busy - self.cpu
        Disturbance.seconds += self.seconds
        Disturbance.others += max(0.0, others)


class Disturbance:
    """Return the share of the servers' core that other processes used."""

    seconds = 0.0
    others = 0.0

    @classmethod
    def share(cls) -> float:
        return cls.others / cls.seconds if cls.seconds else 0.0


class Streams:
    """The load client with many streams open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.count = 0

    def _do(self, command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the load client gave up at {command!r}"
        return json.loads(answer)

    def open(self, count: int) -> float:
        """Open more streams; return the seconds it took."""
        answer = self._do(f"open {count}")
        assert not answer["failed"], f"{answer['failed']} streams could not be opened"
        self.count += count
        return float(answer["seconds"])

    def clear(self) -> None:
        self._do("clear")

    def wait(self, delivered: int, seconds: float = 30) -> int:
        return int(self._do(f"wait {delivered} {int(seconds * 1000)}")["delivered"])

    def ended(self, seconds: float) -> int:
        """Wait until all streams have ended; return how many have not."""
        return int(self._do(f"ended {int(seconds * 1000)}")["open"])

    def stats(self, first: int, last: int) -> dict[str, Any]:
        answer: dict[str, Any] = self._do(f"stats {first} {last}")
        return answer


@contextlib.contextmanager
def streams(build: Path, service: Service, *headers: str, window: int = 64) -> Iterator[Streams]:
    """Start the load client, without open streams."""
    command = [str(build / "client"), "stream", "127.0.0.1", str(service.port), service.path]
    options = [option for header in headers for option in ("--header", header)]
    process = subprocess.Popen(
        pinned(CLIENT_CORE, [*command, "--window", str(window), *options]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Streams(process)
    finally:
        process.kill()
        process.wait()
        time.sleep(0.2)


def start_requests(
    build: Path, port: int, method: str, path: str, *options: str, is_probe: bool = False
) -> subprocess.Popen[str]:
    """Start the load client with requests; a probe has priority on the core."""
    command = [str(build / "client"), "request", "127.0.0.1", str(port), method, path, *options]
    process = subprocess.Popen(pinned(CLIENT_CORE, command), stdout=subprocess.PIPE, text=True)
    if is_probe:
        put_first(process.pid)
    return process


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, f"the load client failed: {process.args!r}"
    result: dict[str, Any] = json.loads(out)
    return result


def requests(build: Path, port: int, method: str, path: str, *options: str) -> dict[str, Any]:
    """Run the load client with requests to its end."""
    return result_of(start_requests(build, port, method, path, *options))
