"""The command line."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import secrets
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NoReturn, TypeVar

import structlog
import typer
import uvloop

from guestbook import __version__, settings
from guestbook.cli import embedded, signals, transfer
from guestbook.cli.formats import Format, encoded
from guestbook.cli.progress import Progress
from guestbook.cli.terminal import as_json, escape_control, format_message
from guestbook.core import EntryId, Message
from guestbook.settings import Settings
from guestbook.storage import REDIS_ERRORS, RedisURL, Store, explain
from guestbook.telemetry import logs as logging

if TYPE_CHECKING:
    from guestbook.telemetry.tracing import Tracing

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
                address = RedisURL.parse(url)
                received = _run(chosen.model_copy(update={"redis_url": address}), files, str(data))
        except embedded.EmbeddedError as error:
            _fail(str(error))
    else:
        received = _run(chosen, files, None)
    if received:
        signals.exit_by_signal(received[-1])


@app.command("list")
@signals.cleanup_on_signal()
def list_messages(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Only messages older than this one.")
    ] = None,
    is_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each message, in ASCII.")
    ] = False,
) -> None:
    """Show the newest messages.

    The newest first, each with its id, time, pod, author and text. What could disturb a terminal
    is written out, such as \\x1b.
    """
    edge = None if before is None else _entry_id(before)
    output = _standard_output()

    async def show(store: Store) -> None:
        async for message in transfer.newest(store, limit, edge):
            text = as_json(message) if is_json else format_message(message).encode()
            _write(output, text + b"\n")
        _write(output, b"")

    _with_store(show)


@app.command("delete")
@signals.cleanup_on_signal()
def delete_messages(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID", help="Their ids (-: from standard input).")
    ],
) -> None:
    """Delete messages, from every open page at once.

    Ids are as `list` shows them. On standard input each line has one, or is one of `list --json`.
    Each that is not there is named; the others are deleted all the same, and the exit status is 1.
    """
    targets = [_entry_id(value) for value in _given(ids)]

    async def delete(store: Store) -> int:
        deleted = 0
        with Progress("deleting", len(targets)) as progress:
            for target in targets:
                key = f"own:{secrets.token_hex(16)}"
                if await store.delete(target, key=key, until_ms=0) is None:
                    typer.echo(f"guestbook: {target} is not there", err=True)
                else:
                    deleted += 1
                progress.advance(1)
        return deleted

    deleted = _with_store(delete)
    typer.echo(f"guestbook: deleted {_messages(deleted)}", err=True)
    if deleted < len(targets):
        raise typer.Exit(1)


def _given(ids: list[str]) -> Iterator[str]:
    for value in ids:
        if value == "-":
            yield from (_first_id(line) for line in _standard_input() if line.strip())
        else:
            yield value


def _first_id(line: bytes) -> str:
    """The id that a line of `list`, with or without --json, begins with."""
    try:
        return str(json.loads(line)["id"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return line.split(maxsplit=1)[0].decode(errors="replace")


def _entry_id(value: str) -> EntryId:
    try:
        return EntryId.parse(value)
    except ValueError as error:
        _fail(f"{escape_control(value[:50])} {error}")


@app.command("export")
@signals.cleanup_on_signal()
def export_messages(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to (-: standard output).")
    ] = Path("-"),
    form: Annotated[
        Format | None,
        typer.Option("--format", help="What it is to be (default: as FILE ends, else jsonl)."),
    ] = None,
) -> None:
    """Write all messages to a file.

    The oldest first. jsonl can be imported again; csv is for spreadsheets; html is a book to
    print. A file is there only when it is complete: until then its name ends in .partial.
    """
    chosen = _load_settings()
    form = form or Format.of(file)
    is_stdout = str(file) == "-"

    async def write(store: Store, to: BinaryIO) -> int:
        count = 0

        async def pages() -> AsyncIterator[list[Message]]:
            nonlocal count
            async for messages in transfer.exported(store):
                yield messages
                count += len(messages)
                progress.advance(len(messages))

        total = await store.count()
        with Progress("exporting", total, is_shown=not (is_stdout and to.isatty())) as progress:
            async for piece in encoded(form, pages(), chosen.title or "Guestbook"):
                _write(to, piece)
            _write(to, b"")
        return count

    with contextlib.nullcontext(_standard_output()) if is_stdout else _completed(file) as to:
        count = _with_store(lambda store: write(store, to))
    typer.echo(f"guestbook: exported {_messages(count)}", err=True)


@app.command("import")
@signals.cleanup_on_signal()
def import_messages(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="What `export` wrote (-: standard input)."),
    ] = None,
    legacy_list: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Take over this Redis list of texts instead."),
    ] = None,
) -> None:
    """Bring messages back, or over.

    From JSON lines, as `export` writes them, or from the original application's Redis list.

    Messages keep their ids, and so their order and time: import into an empty guestbook. After an
    interruption run it again: what is there is not imported twice.
    """
    if (file is None) == (legacy_list is None):
        _fail("import needs either FILE or --legacy-list KEY")
    if file is None:
        _take_over(str(legacy_list))
        return
    with (
        contextlib.nullcontext(_standard_input())
        if str(file) == "-"
        else _opened(file, "rb") as source
    ):
        size = os.fstat(source.fileno()).st_size if source.seekable() else None

        async def restore(store: Store) -> Counter[str]:
            with Progress("importing", size) as progress:
                return await transfer.restore(store, source, progress.advance)

        counts = _with_store(restore)
    _tell_of_import(counts)


def _take_over(key: str) -> None:
    async def import_legacy(store: Store) -> Counter[str]:
        with Progress("importing", await store.length(key)) as progress:
            return await transfer.import_legacy(store, key, progress.advance)

    counts = _with_store(import_legacy)
    typer.echo(f"guestbook: took over {_messages(counts['added'])}", err=True)


def _tell_of_import(counts: Counter[str]) -> None:
    kept = _load_settings().max_messages
    added = _messages(counts["added"])
    typer.echo(f"guestbook: imported {added}, {counts['known']} were there", err=True)
    if counts["expired"]:
        left_out = _messages(counts["expired"])
        typer.echo(f"guestbook: left out {left_out} older than GUESTBOOK_MAX_AGE", err=True)
    if counts["trimmed"] or counts["added"] > kept:
        typer.echo(
            f"guestbook: only the newest {kept} are kept, as GUESTBOOK_MAX_MESSAGES says", err=True
        )
    if counts["too old"]:
        _fail(
            f"{_messages(counts['too old'])} could not be put before newer ones: "
            "import into an empty guestbook"
        )


@app.command(help="Say whether the Redis at REDIS_URL will do, and what to change.")
def check() -> None:
    """Ends with status 1 where something is found that keeps the guestbook from working."""
    from guestbook.cli.check import findings  # noqa: PLC0415  # only this command needs it

    found = asyncio.run(findings(_load_settings().redis_url))
    for finding in found:
        typer.echo(str(finding))
    if any(finding.mark == "fail" for finding in found):
        raise typer.Exit(1)


def _messages(count: int) -> str:
    return f"{count} message" if count == 1 else f"{count} messages"


@contextlib.contextmanager
def _completed(file: Path) -> Iterator[BinaryIO]:
    """A file to write to, which has its name only when it is complete."""
    if file.exists() and not file.is_file():
        # A device or a pipe cannot be put in place; a folder is refused.
        with _opened(file, "wb") as to:
            yield to
        return
    partial = file.with_name(f"{file.name}.partial")
    # A signal may come as soon as the file is there.
    try:
        with _opened(partial, "wb") as to:
            yield to
            os.fsync(to.fileno())
        partial.replace(file)
    except OSError as error:
        _fail(f"{partial}: {error.strerror}")
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _opened(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    try:
        return path.open(mode)
    except OSError as error:
        _fail(f"{path}: {error.strerror}")


def _write(to: BinaryIO, piece: bytes) -> None:
    """Writes; nothing more is in a buffer after an empty piece. Fails with the file's name."""
    try:
        to.write(piece)
        if not piece:
            to.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _fail(f"{to.name}: {error.strerror}")


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        _fail("standard input is closed")
    return sys.stdin.buffer


def _standard_output() -> BinaryIO:
    if sys.stdout is None:
        _fail("standard output is closed")
    return sys.stdout.buffer


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
        signals.exit_by_signal(signal.SIGPIPE)
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
    try:
        from guestbook.web.app import create_app  # noqa: PLC0415
        from guestbook.web.security_headers import SECURITY_HEADERS  # noqa: PLC0415
    except ValueError as error:
        # OpenTelemetry's API, which FastAPI imports, reads it there and then.
        _fail(f"OTEL_PROPAGATORS: {error}")
    from guestbook.server import (  # noqa: PLC0415
        ConnectionTimeouts,
        Server,
        configure,
    )

    listener = _listen(chosen.host, chosen.port)
    application = create_app(chosen, _tracing())
    guestbook = application.state.guestbook
    waiting = ConnectionTimeouts(
        chosen, files - _FILES_OF_ITS_OWN, count_detached=lambda: len(guestbook.fanout)
    )
    server = Server(
        configure(application, SECURITY_HEADERS, waiting),
        announce=lambda: _announce(chosen, listener, data),
        drain=lambda: guestbook.drain(chosen.drain_seconds),
        waiting=waiting,
    )
    # What is there by now stays: the collector need not look through it again.
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(_note_trouble)
        runner.run(server.serve(sockets=[listener]))
    return server.received


def _note_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What goes wrong in the loop and in no task."""
    if "SSL protocol" in context["message"]:
        # uvloop was still reading from a connection that had been given up meanwhile.
        logger.info("a TLS connection has broken", error=str(context.get("exception")))
    else:
        loop.default_exception_handler(context)


def _tracing() -> Tracing | None:
    """What makes traces, where they are asked for; else nothing of it is imported."""
    if not settings.are_traces_wanted(os.environ):
        return None
    from guestbook.pod import own_name  # noqa: PLC0415

    try:
        from guestbook.telemetry.tracing import Tracing, TracingError  # noqa: PLC0415
    except ImportError:
        _fail(
            "OTEL_* variables ask for traces, which need the extra otel: "
            "pip install 'live-guestbook[otel]', or set OTEL_SDK_DISABLED=true"
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
