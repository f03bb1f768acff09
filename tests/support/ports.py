"""Ports that nothing listens on."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

# Below what the kernel gives to outgoing connections, and from another start for each process of
# each test run: a port that is free now must still be free when a server has started.
_FIRST, _LAST = 10_000, 32_000
_START = os.getpid() * 1_009 % (_LAST - _FIRST)
_PORTS: Iterator[int] = itertools.cycle(
    [*range(_FIRST + _START, _LAST), *range(_FIRST, _FIRST + _START)]
)


def free_port() -> int:
    """A port that nothing listens on."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")
