"""Authors edit and take back their own messages."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

from guestbook.core import EntryId, Message, ProblemError, UnavailableError, is_held
from guestbook.pod.guestbook import Guestbook
from guestbook.pod.moderation import Moderator
from guestbook.pod.retry import within_request
from guestbook.storage import client_key


async def edit(
    guestbook: Guestbook,
    target: EntryId,
    text: str,
    *,
    key: str | None,
    address: str,
    has_left: Callable[[], Awaitable[bool]],
) -> Message | None:
    """Change the text of a message that was posted with this key; None if it does not exist.

    Raises ProblemError for another key, too late, too soon, or if the client `has_left`;
    and UnavailableError.
    """
    posted = await _posted(guestbook, target, key)
    if posted is None:
        return None
    refusal = guestbook.refusal(address)
    if refusal is not None:
        raise refusal
    if guestbook.is_moderated or is_held(target):
        if not await exists(guestbook, target):
            return None
        # The new text would appear without approval.
        raise ProblemError(403, "A moderator approves messages as they are.", code="approved")
    if await has_left():
        # This process was frozen: the client may have sent a newer edit to another one.
        raise ProblemError(400, "The client has closed the connection.")
    edit = functools.partial(
        guestbook.store.edit, posted, text, address=address, rate=guestbook.settings.post_rate
    )
    edited = await guestbook.run_command("edit", edit)
    return None if edited is None else edited.message


async def withdraw(guestbook: Guestbook, target: EntryId, *, key: str | None) -> bool:
    """Delete a message that was posted with this key; return False if it does not exist.

    Raises ProblemError for another key or too late, and UnavailableError.
    """
    if await _posted(guestbook, target, key) is None:
        return False
    if is_held(target):
        return await Moderator(guestbook).decide(target, "withdraw") is not None
    return await guestbook.delete(target)


async def exists(guestbook: Guestbook, target: EntryId) -> bool:
    """Return whether there is such a message, held or in the stream. Raises UnavailableError."""
    get = Moderator(guestbook).get if is_held(target) else guestbook.get
    return await get(target) is not None


async def _posted(guestbook: Guestbook, target: EntryId, key: str | None) -> Message | None:
    """Return the message as it was posted, if the key is right and it is not too late."""
    posted = await within_request(guestbook.store.posted(client_key(key))) if key else None
    if posted is None or posted.id != target:
        if not await exists(guestbook, target):
            return None
        raise ProblemError(
            403,
            "Only its author may change a message: send the Idempotency-Key of its post.",
            code="not_author",
        )
    seconds, now_ms = guestbook.settings.undo_seconds, guestbook.presence.now_ms
    if now_ms is None:
        raise UnavailableError
    if is_held(target):
        return posted  # it can be taken back for as long as it waits
    if not seconds:
        raise ProblemError(
            403, "Changing messages is switched off (GUESTBOOK_UNDO_SECONDS is 0).", code="final"
        )
    if now_ms - target.ms > seconds * 1000:
        raise ProblemError(
            403, f"It is too late: a message can be changed for {seconds} s.", code="too_late"
        )
    return posted
