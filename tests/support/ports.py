"""Ports that nothing listens on."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Below what the kernel gives to outgoing connections: a port that is free now must still be free
# when a server has started.
_FIRST, _BLOCKS, _PORTS_OF_BLOCK = 10_000, 44, 500


@functools.cache
def _own_ports() -> Iterator[int]:
    """Return ports, again and again, that no other test run uses while this process lives."""
    folder = Path(tempfile.gettempdir()) / f"guestbook-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for block in range(_BLOCKS):
        # Locked until it is closed, which happens at the end of the process.
        lock = os.open(folder / str(block), os.O_CREAT | os.O_RDWR)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            first = _FIRST + block * _PORTS_OF_BLOCK
            return itertools.cycle(range(first, first + _PORTS_OF_BLOCK))
        os.close(lock)
    raise AssertionError(f"{_BLOCKS} test runs use all ports")


def _is_free(port: int) -> bool:
    try:
        for family, host in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
            if family == socket.AF_INET or socket.has_dualstack_ipv6():
                with socket.create_server((host, port), family=family):
                    pass
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port that nothing listens on, at any address."""
    for port in itertools.islice(_own_ports(), _PORTS_OF_BLOCK):
        if _is_free(port):
            return port
    raise AssertionError("there is no free port")
