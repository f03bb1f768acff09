"""uvicorn with a drain, bounds, and a way to hand over a connection; nothing else imports it."""

from guestbook.server.limits import Bounds
from guestbook.server.listening import listen
from guestbook.server.server import Server
from guestbook.server.timeouts import ConnectionTimeouts

__all__ = ["Bounds", "ConnectionTimeouts", "Server", "listen"]
