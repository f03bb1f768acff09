"""`guestbook list`, `delete` and `clear`, and helpers for commands about messages."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from guestbook.cli.output import count_of_messages, fail, open_output, report, standard_input
from guestbook.cli.store import run_with_store
from guestbook.cli.terminal import as_json, escape_control, format_message, progress_bar
from guestbook.core import EntryId, Message
from guestbook.storage import Archive, Store, own_key

_PAGE = 500
# Changes that are done before a bar has been imported.
_SHORT_WORK = 100

T = TypeVar("T")
IsJson = Annotated[bool, typer.Option("--json", help="Write a line of JSON for each message.")]


def list_messages(
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 50,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Show only messages older than this one.")
    ] = None,
    is_json: IsJson = False,
) -> None:
    """Show the newest messages, newest first.

    Characters that a terminal could interpret are escaped, such as \\x1b.
    """
    edge = None if before is None else parse_argument(EntryId.parse, before)
    show(lambda store: _newest(store, limit, edge), is_json=is_json)


def show(select: Callable[[Archive], AsyncIterator[Message]], *, is_json: bool) -> None:
    """Write messages to standard output."""

    async def write(store: Archive) -> None:
        async for message in select(store):
            text = as_json(message) if is_json else format_message(message)
            output.write(text.encode() + b"\n")

    with open_output(Path("-")) as output:
        run_with_store(write)


async def _newest(store: Store, limit: int, before: EntryId | None) -> AsyncIterator[Message]:
    """Yield at most `limit` messages older than `before`, newest first."""
    while limit:
        page = await store.older(before, min(limit, _PAGE))
        for message in page.messages:
            yield message
            limit -= 1
        if page.reached is None:
            return
        before = page.reached


def delete_messages(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID", help="Ids of messages (-: from standard input).")
    ],
) -> None:
    """Delete messages. They disappear from every open page.

    Standard input may be the output of `list` or `list --json`, or have an id on each line. If an
    id does not exist, the others are deleted all the same, and the exit status is 1.
    """
    change_each(
        ids,
        lambda store, target: store.delete(target, key=own_key(), until_ms=0),
        verbs=("deleting", "deleted"),
        missing="does not exist",
    )


def change_each(
    ids: list[str],
    change: Callable[[Archive, EntryId], Awaitable[object]],
    *,
    verbs: tuple[str, str],
    missing: str,
) -> None:
    """Change messages and report how many. Exit with 1 if `change` returned None for one."""
    doing, done = verbs
    targets = [parse_argument(EntryId.parse, value) for value in _ids_of(ids)]

    async def change_all(store: Archive) -> int:
        count = 0
        is_long = len(targets) > _SHORT_WORK
        with progress_bar(doing, len(targets), is_shown=is_long) as advance:
            for target in targets:
                if await change(store, target) is None:
                    report(f"{target} {missing}")
                else:
                    count += 1
                advance(1)
        return count

    count = run_with_store(change_all)
    report(f"{done} {count_of_messages(count)}" + ("" if targets else ": no id was given"))
    if count < len(targets):
        raise typer.Exit(1)


def clear(is_confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete all messages for good.

    Export them first. Messages that wait for approval stay, and a post that is repeated with its
    Idempotency-Key is not stored again.
    """
    if not is_confirmed:
        if sys.stdin is None or not sys.stdin.isatty():
            fail("clear cannot ask without a terminal: add --yes")
        if not typer.confirm("Delete all messages for good?", err=True):
            report("nothing was changed")
            raise typer.Exit(1)
    run_with_store(Archive.clear)
    report("deleted all messages")


def _ids_of(arguments: list[str]) -> Iterator[str]:
    """Yield the ids in arguments, and for `-` those of standard input."""
    for value in arguments:
        if value == "-":
            # Indented lines are text, which may begin with the id of another message.
            lines = (line for line in standard_input() if line.strip() and line[:1] != b" ")
            yield from filter(None, map(_first_id, lines))
        else:
            yield value


def _first_id(line: bytes) -> str | None:
    """Return the id in a line of `list`, `list --json` or an export.

    The first and the last line of an export have none.
    """
    try:
        value = json.loads(line)
        is_marker = "id" not in value and not value.keys().isdisjoint({"export", "end"})
        return None if is_marker else str(value["id"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return line.split(maxsplit=1)[0].decode(errors="replace")


def parse_argument(parse: Callable[[str], T], value: str) -> T:
    """Parse an argument, or fail with the reason."""
    try:
        return parse(value)
    except ValueError as error:
        fail(f"{escape_control(value[:50])} {error}")
