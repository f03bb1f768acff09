"""uvicorn with a drain, bounds, and a way to hand over a connection; nothing else imports it."""

from guestbook.server.limits import Bounds
from guestbook.server.listening import listen
from guestbook.server.server import SHUTDOWN_SECONDS, Server, configure
from guestbook.server.timeouts import ConnectionTimeouts

__all__ = ["SHUTDOWN_SECONDS", "Bounds", "ConnectionTimeouts", "Server", "configure", "listen"]
