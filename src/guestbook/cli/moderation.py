"""The moderators' commands: held messages, closing, bans."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import typer

from guestbook.cli.messages import IsJson, change_each, parse_argument, show
from guestbook.cli.output import fail, report
from guestbook.cli.store import run_with_store
from guestbook.cli.terminal import is_utf8
from guestbook.core import (
    BAN_DAYS_MAX,
    CLOSED_MAX,
    ORIGIN,
    SECONDS,
    EntryId,
    Message,
    Network,
    ProblemError,
    normalise,
    parse_duration,
    parse_network,
)
from guestbook.storage import ModerationStore, Verdict, decision_key

_PAGE = 1000

Ids = Annotated[
    list[str], typer.Argument(metavar="ID", help="Ids that `held` shows (-: standard input).")
]


def held(is_json: IsJson = False) -> None:
    """Show the messages that wait for a moderator, oldest first."""
    show(_waiting, is_json=is_json)


async def _waiting(store: ModerationStore) -> AsyncIterator[Message]:
    reached: EntryId = ORIGIN
    while page := await store.waiting(reached, _PAGE):
        for message in page:
            yield message
        reached = page[-1].id


def approve(ids: Ids) -> None:
    """Approve waiting messages. They appear on every open page.

    The exit status is 1 if one of them is not waiting.
    """
    _decide(ids, "approve")


def refuse(ids: Ids) -> None:
    """Refuse waiting messages. They are removed.

    The exit status is 1 if one of them is not waiting.
    """
    _decide(ids, "refuse")


def _decide(ids: list[str], verdict: Verdict) -> None:
    change_each(
        ids,
        lambda store, target: store.decide(target, verdict, key=decision_key(target, verdict)),
        verbs=("deciding", f"{verdict}d"),
        missing="is not waiting",
    )


def moderation(mode: Annotated[str, typer.Argument(metavar="before|off|default")]) -> None:
    """Switch moderation; `default` uses GUESTBOOK_MODERATION."""
    if mode not in ("before", "off", "default"):
        fail("moderation is before, off or default")
    _change("moderation", None if mode == "default" else mode)
    report(f"moderation: {mode}")


def close(
    message: Annotated[
        str, typer.Option(help="The text that visitors see instead of the form.")
    ] = "The guestbook is closed at the moment.",
) -> None:
    """Close the guestbook: refuse new messages."""
    words = normalise(message)
    if not 0 < len(words) <= CLOSED_MAX or not is_utf8(words):
        fail(f"--message needs 1 to {CLOSED_MAX} characters in UTF-8")
    _change("closed", words)
    report("closed")


def open_guestbook() -> None:
    """Open the guestbook again."""
    _change("closed", None)
    report("open")


def _change(field: str, value: str | None) -> None:
    run_with_store(lambda store: store.set_control({field: value}))


def ban(
    target: Annotated[
        str, typer.Argument(metavar="NETWORK|ID", help="A network, an address, or a message's id.")
    ],
    duration: Annotated[str, typer.Option("--for", help="How long, such as 30m, 1h or 2d.")] = "1h",
) -> None:
    """Refuse posts from a network or an author, for some time.
    The address of an author is known for 24 hours, if GUESTBOOK_ADMIN_TOKEN is set.
    """
    try:
        seconds = parse_duration(duration)
    except ValueError as error:
        fail(f"--for {error}")
    if seconds > BAN_DAYS_MAX * SECONDS["d"]:
        fail(f"--for should be at most {BAN_DAYS_MAX}d")

    async def start(store: ModerationStore) -> tuple[Network, int]:
        network = await _find_network(store, target)
        try:
            return network, (await store.ban(network, seconds)).bans.get(network, 0)
        except ProblemError as error:
            fail(error.detail)

    network, until = run_with_store(start)
    report(f"banned {network} until {EntryId(until, 0).time}")


async def _find_network(store: ModerationStore, target: str) -> Network:
    try:
        message = EntryId.parse(target)
    except ValueError:
        return parse_argument(parse_network, target)
    network = await store.author_of(message)
    if network is None:
        fail(f"the address of the author of {message} is not known")
    return network


def bans() -> None:
    """List the banned networks, and when each ban ends."""
    found = run_with_store(lambda store: store.control()).bans
    for network, until in sorted(found.items(), key=lambda item: item[1]):
        typer.echo(f"{EntryId(until, 0).time}  {network}")


def unban(network: Annotated[str, typer.Argument(metavar="NETWORK")]) -> None:
    """End a ban. The exit status is 1 if there was none."""
    wanted = parse_argument(parse_network, network)
    if not run_with_store(lambda store: store.unban(wanted)):
        report(f"{wanted} is not banned")
        raise typer.Exit(1)
    report(f"{wanted} may post again")
