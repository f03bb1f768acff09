"""Streams that own their sockets: written to straight, and watched by one epoll of the kernel."""

from __future__ import annotations

import asyncio
import select
import socket

from guestbook.broadcast.fanout import Fanout, Stream
from guestbook.core import EntryId

# The kernel would buffer megabytes for a client that does not read.
_BUFFER_BYTES = 64 * 1024
_EVENTS_AT_ONCE = 256
_IGNORED_BYTES = 16 * 1024

IS_POSSIBLE = hasattr(select, "epoll")
"""Whether this system has what it takes: Linux has."""


class Sockets:
    """What the kernel watches: whether clients leave, and whether full sockets have room again.

    The event loop sees the epoll alone. Its transports would cost a stream twice the memory, and a
    write a quarter more than the kernel does.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._streams: dict[int, SocketStream] = {}
        self._is_watched = False

    def add(self, descriptor: int, stream: SocketStream) -> None:
        """Has a stream told what happens to its socket."""
        if not self._is_watched:
            self._is_watched = True
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._look)
        self._streams[descriptor] = stream
        self._epoll.register(descriptor, select.EPOLLIN)

    def expect_room(self, descriptor: int, *, is_full: bool) -> None:
        """Whether a stream waits for its socket to have room."""
        self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if is_full else 0))

    def remove(self, descriptor: int) -> None:
        """Before the socket is closed: the next one may get its number."""
        self._epoll.unregister(descriptor)
        del self._streams[descriptor]

    def _look(self) -> None:
        for descriptor, events in self._epoll.poll(0, _EVENTS_AT_ONCE):
            stream = self._streams.get(descriptor)
            if stream is not None:
                stream.notice(events)


class SocketStream(Stream):
    """A stream that has its connection for itself: the server has handed it over after the head.

    Nothing of HTTP is left but the chunks (RFC 9112, section 7.1).
    """

    __slots__ = ("_fanout", "_rest", "_socket", "_sockets", "send")

    def __init__(
        self,
        fanout: Fanout,
        sockets: Sockets,
        address: str,
        cursor: EntryId | None,
        request_id: str,
    ) -> None:
        super().__init__(address, cursor, request_id)
        self._fanout = fanout
        self._sockets = sockets

    def take(self, own: socket.socket, head: bytes) -> None:
        """Begin on a connection of its own; `head` goes out with the first event."""
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._socket = own
        self._rest: bytes | memoryview = head
        self.send = own.send
        self._sockets.add(own.fileno(), self)
        self._fanout.open(self)

    @staticmethod
    def frame(data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data)

    def write(self, framed: bytes | memoryview) -> None:
        if self._is_closed:
            return
        if self._rest:
            framed = b"".join((self._rest, framed))
        if self.paused_at is not None:
            self._rest = framed
        elif not self._sends_all(framed):
            self._sockets.expect_room(self._socket.fileno(), is_full=True)
            self._fanout.pause(self)

    def _sends_all(self, framed: bytes | memoryview) -> bool:
        try:
            sent = self.send(framed)
        except OSError:
            # It is full; or it is broken, which the epoll tells too.
            sent = 0
        # What is left is of a chunk that many streams share: it is not copied for each.
        self._rest = memoryview(framed)[sent:] if sent < len(framed) else b""
        return not self._rest

    def notice(self, events: int) -> None:
        """Something has happened to the socket (`select.EPOLLIN` and the like)."""
        if events & ~select.EPOLLOUT and self._has_left():
            self.abort()
        elif events & select.EPOLLOUT and self._sends_all(self._rest):
            self._sockets.expect_room(self._socket.fileno(), is_full=False)
            if self.ended:
                self.abort()
            else:
                self._fanout.resume(self)

    def _has_left(self) -> bool:
        try:
            # What a client says after its request is of no interest, but that it says no more.
            return not self._socket.recv(_IGNORED_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def finish(self) -> None:
        self.write(b"0\r\n\r\n")
        if not self._rest:
            self.abort()

    def abort(self) -> None:
        if self._is_closed:
            return
        self._sockets.remove(self._socket.fileno())
        self._socket.close()
        self._rest = b""
        # Not at once: whoever does this to some streams may be looking through all of them.
        asyncio.get_running_loop().call_soon(self._leave)

    @property
    def _is_closed(self) -> bool:
        return self._socket.fileno() < 0

    def _leave(self) -> None:
        self._fanout.leave(self, "client gone")
