"""Start guestbook processes as forks of one that has imported everything.

To import everything takes most of a second. A fork is a process like any other, but for what Python
reads at its start, libraries when they are imported, and the very end.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from jinja2 import Environment

from tests.support.waiting import PATIENCE

_ROOT = Path(__file__).parents[2]
# FastAPI and redis-py import parts of OpenTelemetry, which read these two.
_READ_AT_START = ("LANG", "LC_", "OTEL_PROPAGATORS", "OTEL_PYTHON", "PYTHON", "TZ")
# With it the processes record the lines that run.
_KEPT = "PYTHONPATH"


def inherited() -> dict[str, str]:
    """Return the environment of the tests without settings, those of Python among them."""
    omitted = ("GUESTBOOK_", "OTEL_", *_READ_AT_START)
    return {k: v for k, v in os.environ.items() if k == _KEPT or not k.startswith(omitted)}


def is_possible(env: Mapping[str, str]) -> bool:
    """Return whether a process with this environment can be a fork."""
    ours = inherited()
    names = {name for name in {*ours, *env} if name.startswith(_READ_AT_START)}
    return all(ours.get(name) == env.get(name) for name in names)


class _Channel:
    """One end of a socket for objects, with open files."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def send(self, value: object, files: Sequence[int] = ()) -> None:
        data = pickle.dumps(value)
        socket.send_fds(self.end, [len(data).to_bytes(8, "big")], files)
        self.end.sendall(data)

    def receive(self) -> tuple[Any, list[int]]:
        """Raises EOFError if the other end is closed."""
        size, files, _, _ = socket.recv_fds(self.end, 8, 3)
        return pickle.loads(self._read(int.from_bytes(size, "big") or 1)), files

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (part := self.end.recv(size - len(data))):
                raise EOFError
            data += part
        return data


class _Parent:
    """The process that everything is a fork of."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=_ROOT,
                env=inherited(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C ends the tests, which end this.
                process_group=0,
            )
        self._channel = _Channel(ours)
        self._lock = threading.Lock()
        atexit.register(self._end)

    def ask(self, what: object, files: Sequence[int] = ()) -> Any:
        with self._lock:
            self._channel.send(what, files)
            return self._channel.receive()[0]

    def _end(self) -> None:
        self._channel.end.close()
        self._process.wait()


_parent = functools.cache(_Parent)


class Fork:
    """A process, with the methods of `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        *,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes],
        stderr: IO[bytes],
        cwd: Path | None = None,
    ) -> None:
        with Path(os.devnull).open("rb") as nothing:
            self.pid: int = _parent().ask(
                (list(arguments), dict(env), str(cwd or Path.cwd())),
                [file.fileno() for file in (stdin or nothing, stdout, stderr)],
            )
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _parent().ask(self.pid)
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        # Its process id is not reused before `poll` has read its status.
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve(channel: _Channel) -> None:
    """Fork whenever asked to; return in the fork."""
    while True:
        try:
            asked, files = channel.receive()
        except EOFError:
            sys.exit()
        if isinstance(asked, int):
            pid, status = os.waitpid(asked, os.WNOHANG)
            channel.send(os.waitstatus_to_exitcode(status) if pid else None)
        elif pid := os.fork():
            channel.send(pid)
        else:
            arguments, env, cwd = asked
            _become(arguments, env, cwd, files)
            channel.end.close()
            return
        for file in files:
            os.close(file)


def _become(arguments: list[str], env: dict[str, str], cwd: str, files: list[int]) -> None:
    os.setpgid(0, 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)


def _compile_templates() -> None:
    """Let all forks have the code of the templates: to make it takes half of a server's start."""
    compiled: dict[object, Any] = {}
    compile_template = Environment.compile

    def compile_once(environment: Environment, *given: Any) -> Any:
        key = (environment.is_async, *given)
        if key not in compiled:
            compiled[key] = compile_template(environment, *given)
        return compiled[key]

    Environment.compile = compile_once  # type: ignore[assignment]  # jinja2 overloads it
    templates = importlib.import_module("guestbook.web.pages.templates")
    for is_async in (False, True):
        environment = templates.environment(is_async=is_async)
        for name in environment.list_templates(extensions=["html", "xml"]):
            environment.get_template(name)


def _leave(status: list[int]) -> None:
    """End without Python's last step: to free all objects, their memory would be copied first."""
    try:
        code = status.pop()
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, IndexError, OSError, ValueError):
        return  # as usual, with a report if something cannot be written
    os._exit(code)


if __name__ == "__main__":
    statuses: list[int] = []
    # The program's own exit handlers run before.
    atexit.register(_leave, statuses)
    for module in ("guestbook.cli.main", "guestbook.server", "guestbook.web.app", "uvloop"):
        importlib.import_module(module)
    _compile_templates()
    from guestbook.__main__ import main

    # All this stays, and the collector would have the kernel copy what it looks through.
    gc.freeze()
    _serve(_Channel(socket.socket(fileno=int(sys.argv[1]))))
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            statuses.append(end.code)
        raise
