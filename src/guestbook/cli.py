"""The command line."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer
import uvloop

from guestbook import __version__, embedded, logging, settings
from guestbook.connection import RedisAddress
from guestbook.settings import Settings

app = typer.Typer(
    name="guestbook",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
logger = structlog.get_logger("guestbook")


def _settings_help() -> str:
    lines = []
    for name, default, meaning in settings.variables():
        lines.append(f"{name}  [{default}]" if default else name)
        lines.append(f"    {meaning}.")
    return "\b\nSettings, from the environment:\n\n\b\n" + "\n".join(lines)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"guestbook {__version__}")
        raise typer.Exit


@app.callback(help="A live guestbook: messages in a Redis stream, pushed to every open page.")
def main(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Only holds the options that stand before a command."""


@app.command(help="Serve the guestbook.", epilog=_settings_help())
def serve(
    own_valkey: Annotated[
        bool,
        typer.Option("--embedded", help="Start a Valkey server of its own, instead of REDIS_URL."),
    ] = False,
    data: Annotated[Path, typer.Option(help="Where the embedded server keeps its data.")] = Path(
        ".guestbook"
    ),
) -> None:
    """Runs until a signal comes, then ends as the signal would have ended it."""
    try:
        chosen = settings.load()
    except settings.SettingsError as error:
        _fail(str(error))
    logging.configure(chosen.log_level, chosen.log_format)
    _raise_file_limit()
    if own_valkey:
        try:
            with embedded.running(data) as url:
                address = RedisAddress.parse(url)
                received = _run(chosen.model_copy(update={"redis_url": address}), str(data))
        except embedded.EmbeddedError as error:
            _fail(str(error))
    else:
        received = _run(chosen, None)
    if received:
        _end_as(received[-1])


def _fail(reason: str) -> NoReturn:
    typer.echo(f"guestbook: {reason}", err=True)
    raise typer.Exit(2)


def _raise_file_limit() -> None:
    """Every stream is an open file; the soft limit is often 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(chosen: Settings, data: str | None) -> list[signal.Signals]:
    # What is not needed to say that a setting is wrong takes a while to import.
    from guestbook.app import SECURITY_HEADERS, create_app  # noqa: PLC0415
    from guestbook.server import Server, configure  # noqa: PLC0415

    listener = _listen(chosen.host, chosen.port)
    application = create_app(chosen)
    guestbook = application.state.guestbook
    server = Server(
        configure(application, SECURITY_HEADERS),
        announce=lambda: _announce(chosen, listener, data),
        drain=lambda: guestbook.drain(chosen.drain_seconds),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))
    return server.received


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        _fail(f"HOST {host}, PORT {port}: cannot listen there: {error.strerror or error}")
    return listener


def _announce(chosen: Settings, listener: socket.socket, data: str | None) -> None:
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104  # compared, not bound
    page = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    where = {"data": data} if data else {"redis": str(chosen.redis_url)}
    logger.info("guestbook is up", page=page, **where, version=__version__)


def _end_as(number: signal.Signals) -> NoReturn:
    """Ends as if the signal had not been handled, so that the exit status tells of it."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # The kernel spares process 1 of a container.
    sys.exit(128 + number)
