"""Every event to every open stream. Knows no web framework and no Redis."""

from guestbook.broadcast.asgi import AsgiStream
from guestbook.broadcast.fanout import PING_SECONDS, Fanout
from guestbook.broadcast.sockets import HAS_EPOLL, SocketStream, SocketWatcher
from guestbook.broadcast.stream import bye

__all__ = [
    "HAS_EPOLL",
    "PING_SECONDS",
    "AsgiStream",
    "Fanout",
    "SocketStream",
    "SocketWatcher",
    "bye",
]
