"""Streams that own their sockets: they write to them directly, and one epoll watches them all."""

from __future__ import annotations

import asyncio
import select
import socket

from guestbook.broadcast.stream import State, Stream

# The kernel would buffer megabytes for a client that does not read.
_BUFFER_BYTES = 64 * 1024
_EVENTS_AT_ONCE = 256
_IGNORED_BYTES = 16 * 1024

HAS_EPOLL = hasattr(select, "epoll")
"""Whether this system has what a SocketWatcher needs: Linux does."""


class SocketWatcher:
    """Notices when clients leave, and when full sockets have room again.

    The event loop watches only the epoll. asyncio's transports would double the memory of a stream,
    and make a write cost a quarter more.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._streams: dict[int, SocketStream] = {}

    def add(self, descriptor: int, stream: SocketStream) -> None:
        """Have a stream notified of what happens to its socket."""
        if not self._streams:
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._poll)
        self._streams[descriptor] = stream
        self._epoll.register(descriptor, select.EPOLLIN)

    def set_full(self, descriptor: int, is_full: bool) -> None:
        """Set whether a stream waits for its socket to have room."""
        self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if is_full else 0))

    def remove(self, descriptor: int) -> None:
        """Stop watching a socket. Call it before closing, as the next socket may get its number."""
        self._epoll.unregister(descriptor)
        del self._streams[descriptor]
        if not self._streams:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())

    def _poll(self) -> None:
        for descriptor, events in self._epoll.poll(0, _EVENTS_AT_ONCE):
            stream = self._streams.get(descriptor)
            if stream is not None:
                stream.handle(events)


class SocketStream(Stream):
    """A stream on a connection of its own, which the server has handed over.

    Nothing of HTTP is left but the chunks (RFC 9112, section 7.1).
    """

    __slots__ = ("_unsent", "_watcher")

    channel: socket.socket
    # Not a method of each socket: that would be one more object for each stream.
    send = staticmethod(socket.socket.send)

    def open(self, watcher: SocketWatcher, connection: socket.socket, head: bytes) -> None:
        """Begin. The head of the response goes out in one packet with the first event."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self.channel = connection
        self._unsent: bytes | memoryview = head
        self._watcher = watcher
        watcher.add(connection.fileno(), self)
        self._fanout.open(self)

    @staticmethod
    def frame(data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data)

    def write(self, framed: bytes | memoryview) -> None:
        if self._is_closed:
            return
        if self._unsent:
            framed = b"".join((self._unsent, framed))
        if self.paused_at is not None:
            self._unsent = framed
        elif not self._send_all(framed):
            self._watcher.set_full(self.channel.fileno(), True)
            self._fanout.pause(self)

    def _send_all(self, framed: bytes | memoryview) -> bool:
        try:
            sent = self.channel.send(framed)
        except OSError:
            # The socket is full; or it is broken, which the epoll reports too.
            sent = 0
        # The rest of what many streams share is not copied for each of them.
        self._unsent = memoryview(framed)[sent:] if sent < len(framed) else b""
        return not self._unsent

    def handle(self, events: int) -> None:
        """React to what epoll has reported of the socket."""
        if events & ~select.EPOLLOUT and self._is_disconnected():
            self.abort()
        elif events & select.EPOLLOUT and self._send_all(self._unsent):
            self._watcher.set_full(self.channel.fileno(), False)
            if self.state is State.CLOSED:
                self.abort()
            else:
                self._fanout.resume(self)

    def _is_disconnected(self) -> bool:
        try:
            # Data after the request is ignored; b"" means that the client has left.
            return not self.channel.recv(_IGNORED_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def finish(self) -> None:
        self.write(b"0\r\n\r\n")
        if not self._unsent:
            self.abort()

    def abort(self) -> None:
        if self._is_closed:
            return
        self._watcher.remove(self.channel.fileno())
        self.channel.close()
        self._unsent = b""
        # Later, because the caller may be iterating over the streams.
        asyncio.get_running_loop().call_soon(self._fanout.connection_lost, self)

    @property
    def _is_closed(self) -> bool:
        return self.channel.fileno() < 0
