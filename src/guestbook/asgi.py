"""The application for other servers: `uvicorn guestbook.asgi:app`.

The settings are the same as for `guestbook serve`, except HOST and PORT, which are the server's.
`guestbook serve` does more: it limits what a client may send and how long it may take, a stream
costs it much less, and it listens until all streams have ended.
"""

from __future__ import annotations

import logging
import os
import sys

from fastapi import FastAPI

from guestbook import settings
from guestbook.pod import own_name
from guestbook.telemetry import logs
from guestbook.web.app import create_app


def _create_app() -> FastAPI:
    try:
        chosen = settings.load()
    except settings.SettingsError as error:
        sys.exit(f"guestbook: {error}")
    logs.configure(chosen.log_level, chosen.log_format)
    _adopt_uvicorn_logs()
    tracing = None
    if settings.are_traces_wanted(os.environ):
        from guestbook.telemetry.tracing import Tracing  # noqa: PLC0415  # needs the extra otel

        tracing = Tracing(os.environ, own_name())
    return create_app(chosen, tracing, drains_on_signal=True)


def _adopt_uvicorn_logs() -> None:
    """Let uvicorn's lines look like all others; the application logs the requests itself."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


app = _create_app()
