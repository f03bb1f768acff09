"""The connections that wait for their clients: how long they may, and how many there may be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from guestbook.settings import Settings

logger = structlog.get_logger(__name__)


class Connection(Protocol):
    """A connection over which requests come."""

    def time_out(self) -> bool:
        """Its client had its time: ends it. False where the client is still taking an answer."""

    def evict(self) -> None:
        """Another connection needs its place: ends it."""


class ConnectionTimeouts:
    """All connections that wait for their clients, the one that began first at the front.

    Looking after them all in one place costs a request next to nothing, where a timer for each
    would have to be set and taken back. `room` is how many connections of any kind there may be,
    those included that were detached.
    """

    def __init__(
        self, settings: Settings, room: int, count_detached: Callable[[], int] = lambda: 0
    ) -> None:
        self.settings = settings
        self._count_detached = count_detached
        self._room = room
        self._until: dict[Connection, float] = {}
        self._ended = 0
        self.connections = 0
        """How many connections are open over which requests come: all but the streams."""

    def enter(self, connection: Connection) -> None:
        """Takes a new connection.

        Where that is too much the connection ends that has waited longest, so that those who hold
        connections without using them cannot lock out those who come with a request.
        """
        self.connections += 1
        self.expect_request(connection)
        total = self.connections + self._count_detached()
        if self.connections > self.settings.max_connections or total > self._room:
            longest = next(iter(self._until))
            del self._until[longest]
            self._ended += 1
            longest.evict()

    def leave(self, connection: Connection) -> None:
        """The connection is gone, or a stream has taken it over."""
        self.connections -= 1
        self._until.pop(connection, None)

    def expect_request(self, connection: Connection) -> None:
        """The client has to send the rest of a request."""
        self._expect(connection, self.settings.request_seconds)

    def expect_more(self, connection: Connection) -> None:
        """The client may send another request, and has to take what is sent to it."""
        self._expect(connection, self.settings.keep_alive_seconds)

    def _expect(self, connection: Connection, seconds: float) -> None:
        self._until.pop(connection, None)
        self._until[connection] = time.monotonic() + seconds

    def done(self, connection: Connection) -> None:
        """It is not the client's turn any more."""
        self._until.pop(connection, None)

    def sweep(self) -> None:
        """Ends the connections whose time is over. To be called about once a second."""
        now = time.monotonic()
        for connection in [each for each, until in self._until.items() if until <= now]:
            if connection.time_out():
                self._until.pop(connection, None)
            else:
                self.expect_more(connection)
        if self._ended:
            logger.warning("too many connections: ended those that waited longest", n=self._ended)
            self._ended = 0
