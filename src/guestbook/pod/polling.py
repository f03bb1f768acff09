"""What happened after a cursor, for clients that poll instead of opening a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from guestbook.core import ORIGIN, Deletion, Edit, Entry, EntryId, Message
from guestbook.pod.guestbook import READ_COUNT, Guestbook


class Changes(NamedTuple):
    """The entries after a cursor, up to the next one."""

    messages: list[Message]
    edited: list[Message]
    deleted: list[EntryId]
    cursor: EntryId
    """From where to go on: what was after it is not in here."""
    has_more: bool
    """Whether there are more messages already."""
    is_reset: bool
    """Whether entries after the given cursor are missing: these are from the beginning."""
    replaced: EntryId | None
    """Where the cursor is among messages that replaced all others: up to where they did."""


async def poll(
    guestbook: Guestbook, after: EntryId, limit: int, replaced: EntryId | None = None
) -> Changes:
    """Return what happened after a cursor, with at most `limit` messages, oldest first.

    `replaced` is what came with the cursor. Messages that replaced others have older ids, so that
    their cursors are else taken for those of the others.

    It may take long where memory does not reach back that far, and raises what Redis does.
    """
    log = guestbook.log
    end = newest = log.last
    if log.is_loaded and after > end:
        # Another pod may be a moment ahead, or Redis has lost what was there.
        newest = max(end, (await guestbook.store.head()).last_id)
    is_replaced = replaced != log.replaced_at and log.is_outdated(after)
    is_reset = after != ORIGIN and (is_replaced or await _is_outdated(guestbook, after, newest))
    cursor = ORIGIN if is_reset else after
    messages: list[Message] = []
    changes: list[Edit | Deletion] = []
    has_more = False
    async for read_to, entry in _entries(guestbook, cursor):
        if isinstance(entry, Message):
            if len(messages) == limit:
                has_more = True
                break
            messages.append(entry)
        elif entry is not None:
            changes.append(entry)
        end = max(end, read_to)
    if has_more:
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


async def _is_outdated(guestbook: Guestbook, after: EntryId, newest: EntryId) -> bool:
    log = guestbook.log
    if not log.is_loaded:
        return after < await guestbook.store.trimmed()
    if after > newest:
        return True
    if after >= log.low_watermark:
        return False
    return log.is_complete or after < await guestbook.store.trimmed()


async def _entries(
    guestbook: Guestbook, after: EntryId
) -> AsyncIterator[tuple[EntryId, Entry | None]]:
    """Yield the entries after an id, each with the id up to which the stream has been read."""
    log = guestbook.log
    if log.has_all_after(after):
        for entry in log.between(log.position_after(after), log.end):
            yield entry.id, entry.message or entry.change
        return
    reached: EntryId | None = after
    while reached is not None:
        page = await guestbook.store.newer(reached, READ_COUNT)
        for each in page.entries:
            yield each.id, each
        reached = page.reached
        if reached is not None:
            yield reached, None
