"""`guestbook serve`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from guestbook import __version__
from guestbook.cli import embedded
from guestbook.cli.output import fail
from guestbook.cli.store import load_settings
from guestbook.settings import Settings, SettingsError, unknown_variables
from guestbook.storage import RedisURL
from guestbook.telemetry import logs

# For Redis, the listener, and the modules that Python imports.
_FILES_RESERVED = 64
# For requests other than streams, probes among them.
_FILES_FOR_REQUESTS = 64

logger = structlog.get_logger("guestbook")


def serve(
    is_embedded: Annotated[
        bool,
        typer.Option(
            "--embedded", help="Start a Valkey server with the guestbook, instead of REDIS_URL."
        ),
    ] = False,
    data: Annotated[
        Path, typer.Option(help="Where the embedded server keeps its data.")
    ] = embedded.DATA,
) -> None:
    """Serve the guestbook."""
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    for name, similar in unknown_variables(os.environ).items():
        logger.warning("unknown setting", name=name, did_you_mean=similar)
    files = _raise_file_limit()
    settings = _limit_streams(settings, files)
    if is_embedded:
        with embedded.run(data) as url:
            settings = settings.model_copy(update={"redis_url": RedisURL.parse(url)})
            _run(settings, files, data)
    else:
        _run(settings, files, None)


def _run(settings: Settings, files: int, data: Path | None) -> None:
    """Serve until a signal comes."""
    # These take a while to import: a wrong setting has been reported before.
    import uvloop  # noqa: PLC0415
    from starlette.datastructures import Headers  # noqa: PLC0415

    try:
        from guestbook.web.app import create_app  # noqa: PLC0415
        from guestbook.web.csrf import cors_headers  # noqa: PLC0415
        from guestbook.web.security_headers import SECURITY_HEADERS  # noqa: PLC0415
    except ValueError as error:
        # OpenTelemetry's API, which FastAPI imports, reads this variable when it is imported.
        fail(f"OTEL_PROPAGATORS: {error}")
    from guestbook.server import Bounds, ConnectionTimeouts, Server  # noqa: PLC0415
    from guestbook.telemetry import REQUEST_ID, begin_request  # noqa: PLC0415

    listeners = _listen(settings.listen_host, settings.port)
    try:
        application = create_app(settings)
    except SettingsError as error:
        fail(str(error))
    timeouts = ConnectionTimeouts(
        request_seconds=settings.request_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        max_connections=settings.max_connections,
        max_open=files - _FILES_RESERVED,
        count_detached=lambda: len(application.state.guestbook.fanout),
        on_evict=application.state.metrics.evictions.inc,
    )

    def record_rejection(status: int, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """Count a request that the server itself rejects; return the headers of the answer."""
        application.state.metrics.count_request("", "none", status, None)
        cors = cors_headers(settings.allow_origins, Headers(raw=list(headers)))
        return {**SECURITY_HEADERS, REQUEST_ID.decode(): begin_request(()), **cors}

    server = Server(
        application,
        Bounds(timeouts, settings.max_head_bytes, record_rejection),
        announce=lambda: _announce(settings, listeners[0], data),
        drain=lambda: application.state.guestbook.drain(settings.drain_seconds),
    )
    # Imported modules stay: the garbage collector need not examine them again.
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(_log_loop_error)
        runner.run(server.serve(sockets=listeners))


def _raise_file_limit() -> int:
    """Raise the limit of open files as far as possible and return it.

    Every connection is an open file, and the soft limit is often 1024.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # On macOS the hard limit is infinite and cannot be set.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _limit_streams(settings: Settings, files: int) -> Settings:
    """Return the settings with as many streams as the limit of open files allows."""
    room = max(1, files - _FILES_RESERVED - _FILES_FOR_REQUESTS)
    if settings.max_streams <= room:
        return settings
    logger.warning(
        "the limit of open files (ulimit -n) allows fewer streams than GUESTBOOK_MAX_STREAMS",
        files=files,
        streams=room,
    )
    return settings.model_copy(update={"max_streams": room})


def _listen(host: str, port: int) -> list[socket.socket]:
    from guestbook.server import listen  # noqa: PLC0415

    try:
        return listen(host, port)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        fail(f"HOST {host}, PORT {port}: cannot listen there: {reason}")


def _announce(settings: Settings, listener: socket.socket, data: Path | None) -> None:
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104  # compared, not bound
    page = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    where = {"redis": str(settings.redis_url)} if data is None else {"data": str(data)}
    logger.info("guestbook is up", page=page, **where, version=__version__)


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of the loop that belongs to no task."""
    if "SSL protocol" in context["message"]:
        # uvloop was still reading from a closed connection.
        logger.info("a TLS connection broke", error=str(context.get("exception")))
    else:
        loop.default_exception_handler(context)
