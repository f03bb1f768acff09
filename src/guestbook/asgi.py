"""The application for other servers: `uvicorn guestbook.asgi:app`.

It uses the settings of `guestbook serve`, except HOST and PORT. `guestbook serve` also limits
clients, needs much less for a stream, and listens until all streams have ended.
"""

from __future__ import annotations

import logging
import sys

from fastapi import FastAPI

from guestbook.settings import SettingsError, load
from guestbook.telemetry import logs
from guestbook.web.app import create_app


def _create_app() -> FastAPI:
    try:
        settings = load()
        logs.configure(settings.log_level, settings.log_format)
        _adopt_uvicorn_logs()
        return create_app(settings, drains_on_signal=True)
    except SettingsError as error:
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
