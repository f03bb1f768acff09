"""Time limits for connections, and a limit for their number."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from guestbook.server.limits import BoundedProtocol

logger = structlog.get_logger(__name__)


class ConnectionTimeouts:
    """The deadlines of all connections that wait for their clients, oldest first.

    `sweep` checks them once a second, which is cheaper than a timer for each connection. Beyond
    `max_connections`, or `max_open` open files, the connection that has waited the longest is
    closed.
    """

    def __init__(
        self,
        *,
        request_seconds: float,
        keep_alive_seconds: float,
        max_connections: int,
        max_open: int,
        count_detached: Callable[[], int],
        on_evict: Callable[[], None],
    ) -> None:
        self._request_seconds = request_seconds
        self._keep_alive_seconds = keep_alive_seconds
        self._max_connections = max_connections
        self._max_open = max_open
        self._count_detached = count_detached
        self._on_evict = on_evict
        self._deadlines: dict[BoundedProtocol, float] = {}
        self._connections = 0
        self._evicted = 0

    def add(self, connection: BoundedProtocol) -> None:
        """Count a new connection and expect its first request; evict another if necessary."""
        self._connections += 1
        self.expect_request(connection)
        is_crowded = self._connections > self._max_connections
        if is_crowded or self._connections + self._count_detached() > self._max_open:
            oldest = next(iter(self._deadlines))
            del self._deadlines[oldest]
            self._evicted += 1
            self._on_evict()
            oldest.evict()

    def remove(self, connection: BoundedProtocol) -> None:
        """Forget a connection that was closed or detached."""
        self._connections -= 1
        self.clear(connection)

    def expect_request(self, connection: BoundedProtocol) -> None:
        """Start the time limit for the rest of a request."""
        self._start(connection, self._request_seconds)

    def expect_more(self, connection: BoundedProtocol) -> None:
        """Start the time limit for reading the response, or for the next request."""
        self._start(connection, self._keep_alive_seconds)

    def _start(self, connection: BoundedProtocol, seconds: float) -> None:
        # Delete first, to move the connection to the end.
        self._deadlines.pop(connection, None)
        self._deadlines[connection] = time.monotonic() + seconds

    def clear(self, connection: BoundedProtocol) -> None:
        """Remove the time limit."""
        self._deadlines.pop(connection, None)

    async def sweep(self) -> None:
        """Close the connections that have passed their deadline."""
        now = time.monotonic()
        for connection in [each for each, until in self._deadlines.items() if until <= now]:
            if connection.time_out():
                self.clear(connection)
            else:
                self.expect_more(connection)
        if self._evicted:
            logger.warning(
                "too many connections: closed those that were idle the longest", n=self._evicted
            )
            self._evicted = 0
