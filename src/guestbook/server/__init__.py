"""uvicorn, with a drain, bounds and a way to take over a connection.

The only package that imports uvicorn.
"""

from guestbook.server.limits import ConnectionTimeouts
from guestbook.server.server import Server, configure

__all__ = [
    "ConnectionTimeouts",
    "Server",
    "configure",
]
