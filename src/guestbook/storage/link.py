"""A connection to Redis that is read without redis-py. All that relies on its insides is in here.

redis-py makes the connection, with all that belongs to it: TLS, user and password, database,
whoever knows the master. Its own way to an answer leads through a stream reader and five
coroutines, which cost more than Redis itself does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

_LACKING = object()
_CLOSED = "Redis has closed the connection"


class Link(asyncio.Protocol):
    """Takes over a connection that has been made; sends commands and gathers their answers.

    `on_answers` is called when all answers to what was sent are in: Redis's errors stand among
    them as exceptions. `on_end` is called when the other end has closed the connection, or says
    what nobody can read. Raises ConnectionError if it has closed it already.
    """

    def __init__(
        self,
        connection: Any,
        on_answers: Callable[[list[Any]], None],
        on_end: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._on_answers = on_answers
        self._on_end = on_end
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_LACKING,
        )
        self._answers: list[Any] = []
        self._awaited = 0
        self._is_closed = False
        self._transport: asyncio.Transport = connection._writer.transport
        if connection._reader.at_eof() or self._transport.is_closing():
            # It has been told already, and will not be told again.
            raise RedisConnectionError(_CLOSED)
        self._transport.set_protocol(self)

    def send(self, packed: list[bytes]) -> None:
        """Sends commands; all that were sent before have been answered."""
        self._awaited = len(packed)
        self._transport.write(b"".join(packed))

    def data_received(self, data: bytes) -> None:
        """Reads answers; what nobody has asked for is the end."""
        if self._is_closed:
            return
        self._parser.feed(data)
        try:
            while (answer := self._parser.gets()) is not _LACKING:
                self._answers.append(answer)
        except InvalidResponse as error:
            self._end(RedisConnectionError(f"what answers there is not Redis: {error}"))
            return
        if len(self._answers) > self._awaited:
            self._end(RedisConnectionError("Redis says what it was not asked for"))
        elif len(self._answers) == self._awaited:
            answers, self._answers = self._answers, []
            self._awaited = 0
            self._on_answers(answers)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end has closed it, or the network has."""
        self._end(exc or RedisConnectionError(_CLOSED))

    def _end(self, error: Exception) -> None:
        if not self._is_closed:
            self.close()
            self._on_end(error)

    def close(self) -> None:
        """Closes the connection; nothing is called any more."""
        self._is_closed = True
        self._connection._close()
        self._transport.abort()
