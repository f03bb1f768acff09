"""Changes after a cursor, for clients that poll instead of opening a stream."""

from __future__ import annotations

from typing import NamedTuple

from guestbook.core import ORIGIN, Change, Deletion, Edit, EntryId, Message
from guestbook.pod.guestbook import Guestbook


class Changes(NamedTuple):
    """The entries after a cursor, up to the next one."""

    messages: list[Message]
    edited: list[Message]
    deleted: list[EntryId]
    cursor: EntryId
    """The cursor for the next poll."""
    has_more: bool
    """Whether more messages are available already."""
    is_reset: bool
    """Whether the given cursor was too old, so that these begin with the oldest message."""
    replaced: EntryId | None
    """While the cursor is within messages that replaced all others: the id of the replacement."""


async def poll(
    guestbook: Guestbook, after: EntryId, limit: int, replaced: EntryId | None = None
) -> Changes:
    """Return the changes after a cursor, with at most `limit` messages, oldest first.

    `replaced` is the value that came with the cursor: it distinguishes a cursor within messages
    that replaced all others from an outdated one.

    Old cursors are read from Redis, which may take long, or raise its errors.
    """
    log = guestbook.log
    end = log.last
    is_replaced = replaced != log.replaced_at and log.is_outdated(after)
    is_reset = after != ORIGIN and (is_replaced or await _is_outdated(guestbook, after))
    cursor = ORIGIN if is_reset else after
    messages: list[Message] = []
    changes: list[Change] = []
    async for page in guestbook.pages_after(cursor):
        messages += page.messages
        changes += [entry for entry in page.entries if not isinstance(entry, Message)]
        end = max(end, page.reached or end)
        if len(messages) > limit:
            break
    has_more = len(messages) > limit
    if has_more:
        messages = messages[:limit]
        end = messages[-1].id
        changes = [change for change in changes if change.id <= end]
    reached = end if is_reset else max(end, after)
    return Changes(
        messages,
        [change.message for change in changes if isinstance(change, Edit)],
        [change.target for change in changes if isinstance(change, Deletion)],
        reached,
        has_more,
        is_reset,
        log.replaced_at if reached < log.replaced_at else None,
    )


async def _is_outdated(guestbook: Guestbook, after: EntryId) -> bool:
    """Return whether entries after an id are gone, or the id is of data that Redis has lost."""
    log = guestbook.log
    if log.is_loaded and after > log.last:
        # Another pod may be a moment ahead.
        return after > (await guestbook.store.head()).last_id
    if log.has_all_after(after):
        return after < log.low_watermark
    return after < await guestbook.store.trimmed()
