"""Every event to every open stream. Knows neither HTTP frameworks nor Redis."""

from guestbook.broadcast.fanout import Fanout, Stream
from guestbook.broadcast.replay import ReadAfter, ReplayUnavailableError
from guestbook.broadcast.sockets import IS_POSSIBLE, Sockets, SocketStream

__all__ = [
    "IS_POSSIBLE",
    "Fanout",
    "ReadAfter",
    "ReplayUnavailableError",
    "SocketStream",
    "Sockets",
    "Stream",
]
