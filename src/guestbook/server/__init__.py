"""uvicorn with a drain, bounds, and a way to hand over a connection; nothing else imports it."""

from guestbook.server.limits import ConnectionTimeouts
from guestbook.server.server import SHUTDOWN_SECONDS, Server, configure

__all__ = ["SHUTDOWN_SECONDS", "ConnectionTimeouts", "Server", "configure"]
