"""Every event to every open stream. Knows neither HTTP frameworks nor Redis."""

from guestbook.broadcast.fanout import Fanout, Stream
from guestbook.broadcast.sockets import IS_POSSIBLE, Sockets, SocketStream

__all__ = [
    "IS_POSSIBLE",
    "Fanout",
    "SocketStream",
    "Sockets",
    "Stream",
]
