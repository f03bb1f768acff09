"""The command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NoReturn, TypeVar

import structlog
import typer
import uvloop

from guestbook import __version__, embedded, logging, settings, signals, transfer
from guestbook.connection import REDIS_ERRORS, RedisAddress, explain
from guestbook.settings import Settings
from guestbook.store import Store

if TYPE_CHECKING:
    from guestbook.tracing import Tracing

T = TypeVar("T")

_TRANSFER_TIMEOUT = 10.0
# Redis, the listener, what Python imports.
_FILES_OF_ITS_OWN = 64
# What streams leave to requests, of which probes are some.
_FILES_OF_REQUESTS = 64

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
    chosen = _load_settings()
    logging.configure(chosen.log_level, chosen.log_format)
    files = _raise_file_limit()
    chosen = _fit(chosen, files)
    if own_valkey:
        try:
            with embedded.running(data) as url:
                address = RedisAddress.parse(url)
                received = _run(chosen.model_copy(update={"redis_url": address}), files, str(data))
        except embedded.EmbeddedError as error:
            _fail(str(error))
    else:
        received = _run(chosen, files, None)
    if received:
        signals.end_as(received[-1])


@app.command("export", help="Write all messages as JSON lines.")
def export_messages(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="Where to (-: standard output).")
    ] = Path("-"),
) -> None:
    """A file is only there when it is complete."""

    async def write(store: Store, to: BinaryIO) -> int:
        count = 0
        async for line in transfer.exported(store):
            to.write(line)
            count += 1
        to.flush()
        return count

    if str(file) == "-":
        count = _with_store(lambda store: write(store, sys.stdout.buffer))
    else:
        partial = file.with_name(file.name + ".partial")
        with _opened(partial, "wb") as to:
            count = _with_store(lambda store: write(store, to))
        partial.replace(file)
    typer.echo(f"guestbook: exported {_messages(count)}", err=True)


@app.command("import", help="Read messages: JSON lines, or the original application's Redis list.")
def import_messages(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="What `export` wrote (-: standard input)."),
    ] = None,
    legacy_list: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Take over this Redis list of texts instead."),
    ] = None,
) -> None:
    """Both can be run again: what is there is not imported twice."""
    if (file is None) == (legacy_list is None):
        _fail("import needs either FILE or --legacy-list KEY")
    if legacy_list is not None:
        key = legacy_list
        counts = _with_store(lambda store: transfer.take_over(store, key))
        typer.echo(f"guestbook: took over {_messages(counts['added'])}", err=True)
        return
    with contextlib.ExitStack() as stack:
        is_stdin = str(file) == "-"
        lines = (
            sys.stdin.buffer if is_stdin else stack.enter_context(_opened(Path(str(file)), "rb"))
        )
        counts = _with_store(lambda store: transfer.restore(store, lines))
    typer.echo(
        f"guestbook: imported {_messages(counts['added'])}, {counts['known']} were there", err=True
    )
    if counts["too old"]:
        _fail(
            f"{_messages(counts['too old'])} could not be put before newer ones: "
            "import into an empty guestbook"
        )


@app.command(help="Say whether the Redis at REDIS_URL will do, and what to change.")
def check() -> None:
    """Ends with status 1 where something is found that keeps the guestbook from working."""
    from guestbook.check import findings  # noqa: PLC0415  # only this command needs it

    found = asyncio.run(findings(_load_settings().redis_url))
    for finding in found:
        typer.echo(str(finding))
    if any(finding.mark == "fail" for finding in found):
        raise typer.Exit(1)


def _messages(count: int) -> str:
    return f"{count} message" if count == 1 else f"{count} messages"


def _opened(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    try:
        return path.open(mode)
    except OSError as error:
        _fail(f"{path}: {error.strerror}")


def _with_store(work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    """Does something with the guestbook in Redis; says so in one line if that fails."""
    chosen = _load_settings()

    async def connected() -> T:
        client = chosen.redis_url.client(timeout=_TRANSFER_TIMEOUT)
        store = Store(client, chosen.retention)
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(connected())
    except BrokenPipeError:
        # Who read the output has had enough, as `head` has: that is no error.
        signals.end_as(signal.SIGPIPE)
    except REDIS_ERRORS as error:
        _fail(f"REDIS_URL: Redis at {chosen.redis_url}: {explain(error)}")
    except transfer.TransferError as error:
        _fail(str(error))


def _load_settings() -> Settings:
    try:
        return settings.load()
    except settings.SettingsError as error:
        _fail(str(error))


def _fail(reason: str) -> NoReturn:
    typer.echo(f"guestbook: {reason}", err=True)
    raise typer.Exit(2)


def _raise_file_limit() -> int:
    """Every connection is an open file; the soft limit is often 1024. Gives what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # On macOS the hard limit is infinite and cannot be had.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _fit(chosen: Settings, files: int) -> Settings:
    """The settings with no more streams than the limit of open files has room for."""
    room = max(1, files - _FILES_OF_ITS_OWN - _FILES_OF_REQUESTS)
    if chosen.max_streams <= room:
        return chosen
    logger.warning(
        "the limit of open files (ulimit -n) allows fewer streams than GUESTBOOK_MAX_STREAMS",
        files=files,
        streams=room,
    )
    return chosen.model_copy(update={"max_streams": room})


def _run(chosen: Settings, files: int, data: str | None) -> list[signal.Signals]:
    # What is not needed to say that a setting is wrong takes a while to import.
    from guestbook.app import SECURITY_HEADERS, create_app  # noqa: PLC0415
    from guestbook.server import Server, configure  # noqa: PLC0415
    from guestbook.waiting import Waiting  # noqa: PLC0415

    listener = _listen(chosen.host, chosen.port)
    application = create_app(chosen, _tracing())
    guestbook = application.state.guestbook
    waiting = Waiting(chosen, files - _FILES_OF_ITS_OWN)
    server = Server(
        configure(application, SECURITY_HEADERS, waiting),
        announce=lambda: _announce(chosen, listener, data),
        drain=lambda: guestbook.drain(chosen.drain_seconds),
        waiting=waiting,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))
    return server.received


def _tracing() -> Tracing | None:
    """What makes traces, where they are asked for; else nothing of it is imported."""
    if not settings.are_traces_wanted(os.environ):
        return None
    from guestbook.guestbook import own_name  # noqa: PLC0415

    try:
        from guestbook.tracing import Tracing, TracingError  # noqa: PLC0415
    except ImportError:
        _fail(
            "OTEL_* variables ask for traces, which need the extra otel: "
            "pip install 'guestbook[otel]', or set OTEL_SDK_DISABLED=true"
        )
    try:
        return Tracing(os.environ, own_name())
    except TracingError as error:
        _fail(str(error))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        _fail(f"HOST {host}, PORT {port}: cannot listen there: {reason}")
    return listener


def _announce(chosen: Settings, listener: socket.socket, data: str | None) -> None:
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104  # compared, not bound
    page = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    where = {"data": data} if data else {"redis": str(chosen.redis_url)}
    logger.info("guestbook is up", page=page, **where, version=__version__)
