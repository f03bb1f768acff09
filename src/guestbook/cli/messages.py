"""`guestbook list` and `guestbook delete`."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import typer

from guestbook.cli.output import (
    count_of_messages,
    fail,
    open_output,
    report,
    standard_input,
)
from guestbook.cli.signals import cleanup_on_signal
from guestbook.cli.store import run_with_store
from guestbook.cli.terminal import as_json, escape_control, format_message, progress_bar
from guestbook.core import EntryId, Message
from guestbook.storage import Archive, Store, own_key

_PAGE = 500
# Deletions that are done before a bar has been imported.
_SHORT_WORK = 100


@cleanup_on_signal()
def list_messages(
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 50,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Show only messages older than this one.")
    ] = None,
    is_json: Annotated[
        bool, typer.Option("--json", help="Write a line of JSON for each message.")
    ] = False,
) -> None:
    """Show the newest messages.

    The newest comes first. Each has its id, time, pod, author and text. Characters that could
    disturb a terminal are written as escapes, such as \\x1b.
    """
    edge = None if before is None else parse_id(before)

    async def show(store: Store) -> None:
        async for message in _newest(store, limit, edge):
            text = as_json(message) if is_json else format_message(message)
            output.write(text.encode() + b"\n")

    with open_output(Path("-")) as output:
        run_with_store(show)


async def _newest(store: Store, limit: int, before: EntryId | None) -> AsyncIterator[Message]:
    """Yield at most `limit` messages older than `before`, newest first."""
    while limit:
        page = await store.older(before, min(limit, _PAGE))
        for entry in page.entries:
            if isinstance(entry, Message):
                yield entry
                limit -= 1
        if page.reached is None:
            return
        before = page.reached


@cleanup_on_signal()
def delete_messages(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID", help="Ids of messages (-: from standard input).")
    ],
) -> None:
    """Delete messages, from every open page at once.

    Take the ids from `list`. Each line of standard input is an id, a line of `list`, or a line of
    `list --json`. An id that does not exist is reported, the others are deleted all the same, and
    the exit status is 1.
    """
    targets = list(ids_of(ids))

    async def delete(store: Store) -> int:
        deleted = 0
        is_long = len(targets) > _SHORT_WORK
        with progress_bar("deleting", len(targets), is_shown=is_long) as advance:
            for target in targets:
                if await store.delete(target, key=own_key(), until_ms=0) is None:
                    report(f"{target} is not there")
                else:
                    deleted += 1
                advance(1)
        return deleted

    deleted = run_with_store(delete)
    report(f"deleted {count_of_messages(deleted)}" + ("" if targets else ": no id was given"))
    if deleted < len(targets):
        raise typer.Exit(1)


@cleanup_on_signal()
def clear(
    is_confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete all messages for good, from every open page at once.

    Export them first. What waits to be approved stays, and so do the keys of posts: a post that is
    sent again with its key is not stored again.
    """
    if not is_confirmed:
        if sys.stdin is None or not sys.stdin.isatty():
            fail("clear asks on a terminal: without one, add --yes")
        if not typer.confirm("Delete all messages for good?", err=True):
            report("nothing was changed")
            raise typer.Exit(1)
    run_with_store(Archive.clear)
    report("deleted all messages")


def ids_of(arguments: list[str]) -> Iterator[EntryId]:
    """Yield the ids in arguments, and for `-` those of standard input."""
    for value in arguments:
        if value == "-":
            lines = (line for line in standard_input() if line.strip())
            yield from map(parse_id, filter(None, map(_first_id, lines)))
        else:
            yield parse_id(value)


def _first_id(line: bytes) -> str | None:
    """Return the id in a line of `list`, `list --json` or an export.

    The first and the last line of an export have none.
    """
    try:
        value = json.loads(line)
        is_bound = "id" not in value and not value.keys().isdisjoint({"export", "end"})
        return None if is_bound else str(value["id"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return line.split(maxsplit=1)[0].decode(errors="replace")


def parse_id(value: str) -> EntryId:
    """Parse an id that was typed, or fail with what is wrong."""
    try:
        return EntryId.parse(value)
    except ValueError as error:
        fail(f"{escape_control(value[:50])} {error}")
