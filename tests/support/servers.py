"""Guestbook servers and commands, as processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

import httpx

from tests.support import forking, leaks
from tests.support.forking import Fork
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, eventually


def guestbook(
    *arguments: str, redis: str, given: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    with contextlib.ExitStack() as stack:
        stdin, stdout, stderr = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        stdin.write(given)
        stdin.seek(0)
        process = start_command(
            arguments, command_env(redis, **env), stdin=stdin, stdout=stdout, stderr=stderr
        )
        try:
            status = process.wait(60)
        finally:
            process.kill()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(arguments, status, stdout.read(), stderr.read())


def command_env(redis: str, **env: str) -> dict[str, str]:
    """The environment of a command: no setting is made but these."""
    path = {
        name: os.environ[name] for name in ("PYTHONPATH", "COVERED_LINES") if name in os.environ
    }
    return {"REDIS_URL": redis, "PATH": "/usr/bin:/bin", **path, **env}


def start_command(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes],
    stderr: IO[bytes],
    cwd: Path | None = None,
    under: Sequence[str] = (),
) -> Fork | subprocess.Popen[bytes]:
    """Start the program, as a fork if that is possible; return at once."""
    if not under and forking.is_possible(env):
        return Fork(arguments, env, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd)
    return subprocess.Popen(
        [*under, sys.executable, "-m", "guestbook", *arguments],
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        # As a shell does; Ctrl-C goes to the whole group.
        process_group=0,
    )


ALONE = ("/usr/bin/env",)
"""For a server that is not a fork, and shares no memory with other processes."""


class Server:
    """A `guestbook serve` process: one pod."""

    def __init__(self, log: Path, redis: str, name: str = "pod-a", **env: str) -> None:
        self.name = name
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **forking.inherited(),
            "REDIS_URL": redis,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "HOSTNAME": name,
            "GUESTBOOK_POST_RATE": "off",
            **env,
        }
        leaks.watch.learn(self.env, log)
        self.process: Fork | subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, under: tuple[str, ...] = ()) -> Self:
        """Start it, by another command if one is given; return at once."""
        with self.log.open("ab") as log:
            self.process = start_command(
                ("serve", *arguments),
                self.env,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                under=under,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Self:
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def client(self, *, timeout: float = PATIENCE, **options: Any) -> httpx.AsyncClient:
        """Return an HTTP client whose addresses begin with the server's."""
        return httpx.AsyncClient(base_url=self.url, timeout=timeout, verify=False, **options)

    def lines(self) -> str:
        """Its log."""
        return self.log.read_text()

    def records(self) -> list[dict[str, Any]]:
        """The complete lines of its log, all of which must be JSON."""
        return [json.loads(line) for line in self.lines().rpartition("\n")[0].splitlines()]

    async def logged(self, *words: str) -> None:
        """Wait for these words in its log: a line may be written after the response was sent."""
        await eventually(lambda: all(word in self.lines() for word in words))

    async def until(self, path: str, status: int, *, within: float = PATIENCE) -> float:
        """Wait until a GET is answered with this status; return how long that took."""

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

    async def ready(self, *, within: float = PATIENCE) -> Self:
        await self.until("/ready", 200, within=within)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    async def ended(self, *, within: float = PATIENCE) -> int:
        """Wait for its end without blocking, and return its exit status."""
        assert self.process is not None
        process = self.process
        await eventually(lambda: process.poll() is not None, within=within, every=0.005)
        return process.wait(within)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end, and return its exit status (negative: the signal that ended it)."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> None:
        """End it if it is still running."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
