"""The application for other servers: `uvicorn guestbook.asgi:app`.

The settings are the same as for `guestbook serve`, except HOST and PORT, which are the server's.
`guestbook serve` does more: it limits what a client may send and how long it may take, a stream
costs it much less, and it listens until all streams have ended.
"""

from __future__ import annotations

import logging
import sys

from fastapi import FastAPI

from guestbook import settings
from guestbook.telemetry import logs
from guestbook.web.app import create_app


def _create_app() -> FastAPI:
    try:
        chosen = settings.load()
        logs.configure(chosen.log_level, chosen.log_format)
        _adopt_uvicorn_logs()
        return create_app(chosen, drains_on_signal=True)
    except settings.SettingsError as error:
        sys.exit(f"guestbook: {error}")


def _adopt_uvicorn_logs() -> None:
    """Let uvicorn's lines look like all others; the application logs the requests itself."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


app = _create_app()
