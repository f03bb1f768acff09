"""`guestbook export` and `guestbook import`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from guestbook.cli import restore
from guestbook.cli.formats import Format, encode
from guestbook.cli.output import count_of_messages, fail, open_input, open_output, report
from guestbook.cli.store import load_settings, run_with_store
from guestbook.cli.terminal import is_utf8, progress_bar
from guestbook.core import ORIGIN, EntryId, Message
from guestbook.storage import Archive, Store

_PAGE = 500


def export_messages(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write (-: standard output).")
    ] = Path("-"),
    form: Annotated[
        Format | None,
        typer.Option("--format", help="The format (default: by the ending of FILE, else jsonl)."),
    ] = None,
) -> None:
    """Export all messages, oldest first.

    jsonl can be imported again, csv is for spreadsheets, and html is a book to print. The file
    gets its name when it is complete; until then the name ends in .partial.
    """
    settings = load_settings()
    try:
        form = form or Format.of(file)
    except ValueError as error:
        fail(str(error))

    async def export(store: Store) -> int:
        count = 0

        async def counted() -> AsyncIterator[list[Message]]:
            nonlocal count
            async for page in exported(store):
                yield page
                count += len(page)
                advance(len(page))

        total = await store.count_entries()
        with progress_bar("exporting", total, is_shown=not output.isatty()) as advance:
            async for piece in encode(form, counted(), settings.title or "Guestbook"):
                output.write(piece)
        return count

    with open_output(file) as output:
        count = run_with_store(export)
    report(f"exported {count_of_messages(count)}")


async def exported(store: Store) -> AsyncIterator[list[Message]]:
    """Yield all messages, oldest first, page by page."""
    reached: EntryId | None = ORIGIN
    while reached is not None:
        page = await store.newer(reached, _PAGE)
        reached = page.reached
        yield page.messages


def import_messages(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A file of JSON lines (-: standard input)."),
    ] = None,
    legacy_list: Annotated[
        str | None, typer.Option(metavar="KEY", help="Import this Redis list of texts instead.")
    ] = None,
    replaces: Annotated[
        bool, typer.Option("--replace", help="Replace all messages by those of the file.")
    ] = False,
) -> None:
    """Import messages from a file or from a Redis list.

    FILE is an export in jsonl, or has lines like those of `list --json`, oldest first. The list is
    that of the original application.
    Messages keep their ids and times, so import into a new guestbook, or use --replace: it first
    checks the whole file, then replaces all messages in one step. Messages posted meanwhile are
    kept.

    After an interruption run the command again: no message is imported twice. The exit status is 1
    if the file is an export that was cut off. Without --replace the rest of it is imported.
    """
    if file is not None and legacy_list is None:
        _import_file(file, replaces=replaces)
    elif file is None and legacy_list is not None and not replaces:
        _import_legacy(legacy_list)
    else:
        fail("import needs FILE (with or without --replace) or --legacy-list KEY")


def _import_file(path: Path, *, replaces: bool) -> None:
    restore_from = restore.replace if replaces else restore.restore
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size if file.seekable() else None

        async def read(store: Archive) -> Counter[str]:
            with progress_bar("importing", size) as advance:
                return await restore_from(store, file, advance)

        try:
            counts = run_with_store(read)
        except restore.ImportFileError as error:
            fail(f"{error}: nothing was changed" if replaces else str(error))
    _report_import(counts)


def _import_legacy(key: str) -> None:
    if not is_utf8(key):
        fail("--legacy-list: the key is not UTF-8")

    async def import_all(store: Archive) -> Counter[str]:
        with progress_bar("importing", await store.length(key)) as advance:
            return await restore.import_legacy(store, key, advance)

    counts = run_with_store(import_all)
    report(f"imported {count_of_messages(counts['added'])}")


def _report_import(counts: Counter[str]) -> None:
    kept = load_settings().max_messages
    report(f"imported {count_of_messages(counts['added'])}, {counts['known']} were there")
    if counts["expired"]:
        report(f"left out {count_of_messages(counts['expired'])} older than GUESTBOOK_MAX_AGE")
    if counts["blank"]:
        report(f"left out {count_of_messages(counts['blank'])} without a visible character")
    if counts["trimmed"] or counts["added"] > kept:
        report(f"only the newest {kept} are kept, see GUESTBOOK_MAX_MESSAGES")
    if counts["incomplete"]:
        report("the file is not a complete export: it was cut off, or edited")
    if counts["kept"]:
        report(f"kept {count_of_messages(counts['kept'])} posted meanwhile")
    if counts["lost"]:
        fail(f"lost {count_of_messages(counts['lost'])} posted meanwhile: the file has newer ones")
    if counts["too old"]:
        fail(
            f"{count_of_messages(counts['too old'])} older than the guestbook's newest one: "
            "import into a new guestbook, or replace all messages with --replace"
        )
    if counts["incomplete"]:
        raise typer.Exit(1)
