"""Ports that nothing listens on."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket

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
