"""The guestbook in Redis: its keys, and the commands on them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import to_json
from redis.asyncio import Redis

from guestbook.core import (
    HELD_SEQ,
    ORIGIN,
    Deletion,
    Edit,
    Entry,
    EntryId,
    Message,
    NewMessage,
    PostRate,
    ProblemError,
    Retention,
    UnavailableError,
    is_held,
    rate_key,
)
from guestbook.storage.entries import encode, encode_trace, with_edit
from guestbook.storage.errors import DeadlineExceededError
from guestbook.storage.keys import (
    ADDRESS,
    CONTROL,
    DATASET_ID,
    DAY_MS,
    EDITS,
    EVENTS,
    HELD,
    MINUTE_MS,
    PODS,
    RATE,
    RECEIPT,
    TRIMMED,
    is_own_key,
)
from guestbook.storage.lua import load_script
from guestbook.storage.replies import EntryPage, HeartbeatReply, Stored, StreamHead, parse_receipt

LONG_AGO = 1
"""A deadline that has passed: a post with it stores nothing, but returns what is stored."""


class Store:
    """The commands of the guestbook, over a client that never repeats one by itself."""

    def __init__(self, client: Redis, retention: Retention) -> None:
        self._retention = retention
        # redis-py types answers for every mode that it has (text or bytes, RESP 2 or 3).
        self._client: Any = client
        self._post = client.register_script(load_script("post"))
        self._edit = client.register_script(load_script("edit"))
        self._delete = client.register_script(load_script("delete"))
        self._heartbeat = client.register_script(load_script("heartbeat"))
        # Return the text; redis-py would parse it into a dictionary.
        client.set_response_callback(
            "INFO", lambda response, **_: response.decode(errors="replace")
        )

    async def post(
        self,
        new: NewMessage,
        pod: str,
        *,
        key: str,
        address: str,
        rate: PostRate | None,
        until_ms: int,
        trace: str = "",
        hold: bool = False,
        remember_address: bool = False,
    ) -> Stored:
        """Store a message once for each `key`; for a known key return what it has stored.

        A client's key is remembered for 24 hours, an own key for as long as a request may be
        retried. `hold` lets the message wait for a moderator. `remember_address` keeps the address
        for 24 hours, for bans. Raises DeadlineExceededError, and ProblemError for a post that is
        not accepted.
        """
        # A client that repeats its key with another text gets the first message back.
        is_own = is_own_key(key)
        memo = b"" if is_own else to_json((new.author, new.text, pod))
        lifetime = MINUTE_MS if is_own else DAY_MS
        posts, seconds = rate or (0, 0)
        fields = encode(new.author, new.text, pod, trace)
        if hold:
            # A decision changes the receipt.
            fields += ["receipt", key]
        outcome, *rest = await self._post(
            keys=[
                HELD if hold else EVENTS,
                TRIMMED,
                EDITS,
                RECEIPT + key,
                RATE + rate_key(address),
                ADDRESS,
            ],
            args=[
                *self._retention,
                lifetime,
                until_ms,
                memo,
                posts,
                seconds * 1000,
                HELD_SEQ if hold else 0,
                address if remember_address else "",
                *fields,
            ],
        )
        _raise_refusal(outcome, *rest)
        entry_id, known = parse_receipt(rest[0])
        if entry_id == ORIGIN:
            # Withdrawing removes the text from the receipt; receipts of own keys never have it.
            if known or is_own:
                raise ProblemError(403, "A moderator did not approve this message.", code="refused")
            raise ProblemError(410, "Its author took this message back.", code="withdrawn")
        author, text, pod = known or (new.author, new.text, pod)
        message = Message(entry_id, author, text, pod)
        # Only a retry of the same request knows an own key.
        return Stored(message, outcome == b"new" or is_own, is_held(message.id))

    async def posted(self, key: str) -> Message | None:
        """Return the message as it was posted with a client's key, None for an unknown one."""
        receipt = await self._client.get(RECEIPT + key)
        entry_id, known = parse_receipt(receipt or b"0-0")
        return Message(entry_id, *known) if known else None

    async def edit(
        self,
        message: Message,
        text: str,
        *,
        key: str,
        address: str,
        rate: PostRate | None,
        until_ms: int,
        trace: str = "",
    ) -> Edit | None:
        """Change a message's text, once for each `key`; it counts as a post for `rate`.

        Returns the edit, None where there is no such message any more. Raises
        DeadlineExceededError, and ProblemError for an edit that comes too soon.
        """
        posts, seconds = rate or (0, 0)
        # Older versions ignore entries without a field named "text".
        _, *fields = encode(message.author, text, message.pod, trace)
        outcome, *rest = await self._edit(
            keys=[EVENTS, TRIMMED, EDITS, RECEIPT + key, RATE + rate_key(address)],
            args=[
                *self._retention,
                MINUTE_MS,
                until_ms,
                posts,
                seconds * 1000,
                str(message.id),
                *fields,
            ],
        )
        _raise_refusal(outcome, *rest)
        if outcome == b"absent":
            return None
        own_id = EntryId.from_bytes(outcome)
        return Edit(own_id, replace(message, text=text, edited_at=own_id.time))

    async def delete(
        self, target: EntryId, *, key: str, until_ms: int, trace: str = ""
    ) -> Deletion | None:
        """Delete a message; return None where there was no message.

        Raises DeadlineExceededError.
        """
        receipt = await self._delete(
            keys=[EVENTS, EDITS, RECEIPT + key],
            args=[MINUTE_MS, until_ms, str(target), *encode_trace(trace)],
        )
        _raise_refusal(receipt)
        return None if receipt == b"absent" else Deletion(EntryId.from_bytes(receipt), target)

    async def heartbeat(
        self,
        process: str,
        record: Mapping[str, Any] | None,
        dataset_id: str,
        *,
        with_peers: bool = False,
    ) -> HeartbeatReply:
        """Store the record of a process (None: it is gone), and return the reply.

        `dataset_id` identifies the data from now on if nothing does yet.
        """
        text = "" if record is None else json.dumps(record)
        answer = await self._heartbeat(
            keys=[PODS, DATASET_ID, EVENTS, TRIMMED, EDITS, CONTROL, HELD],
            args=[process, text, dataset_id, self._retention.age_ms, int(with_peers)],
        )
        return HeartbeatReply.parse(answer)

    async def read(
        self, after: EntryId, *, count: int, block_ms: int
    ) -> tuple[EntryPage, EntryId, str]:
        """Wait up to `block_ms` for entries newer than `after`.

        Returns them, oldest first, the newest id that has been trimmed by then, and the identity of
        the data.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xread({EVENTS: str(after)}, count=count, block=block_ms)
        pipeline.get(TRIMMED)
        pipeline.get(DATASET_ID)
        streams, trimmed, dataset_id = await pipeline.execute()
        # Without the texts of later edits: the edits themselves follow.
        page = EntryPage.parse(streams[0][1] if streams else [])
        newest_trimmed = EntryId.from_bytes(trimmed or b"0-0")
        return page, newest_trimmed, (dataset_id or b"").decode()

    async def older(self, before: EntryId | None, count: int) -> EntryPage:
        """Return up to `count` entries older than `before` (None: the newest), newest first."""
        newest = "+" if before is None else str(before.before())
        raw = await self._client.xrevrange(EVENTS, newest, "-", count=count)
        return await self._with_edits(raw)

    async def replay(
        self, after: EntryId, count: int
    ) -> tuple[list[Entry], EntryId | None, EntryId]:
        """Return what `newer` does, and the newest id that has been trimmed by then."""
        entries, reached = await self.newer(after, count)
        return entries, reached, await self.trimmed()

    async def newer(self, after: EntryId, count: int) -> EntryPage:
        """Return up to `count` entries newer than `after`, oldest first."""
        raw = await self._client.xrange(EVENTS, f"({after}", "+", count=count)
        return await self._with_edits(raw)

    async def get(self, entry_id: EntryId) -> Message | None:
        """Return the message with this id."""
        raw = await self._client.xrange(EVENTS, str(entry_id), str(entry_id))
        found = next(iter((await self._with_edits(raw)).entries), None)
        return found if isinstance(found, Message) else None

    async def _with_edits(self, raw: list[Any]) -> EntryPage:
        """Return a page, with the newest words of each message."""
        page = EntryPage.parse(raw)
        ids = [str(entry.id) for entry in page.entries if isinstance(entry, Message)]
        if not ids:
            return page
        edits = iter(await self._client.hmget(EDITS, ids))
        entries = [
            with_edit(entry, next(edits)) if isinstance(entry, Message) else entry
            for entry in page.entries
        ]
        return EntryPage(entries, page.reached)

    async def count_entries(self) -> int:
        """Return how many entries the stream has: messages, edits and deletions."""
        return int(await self._client.xlen(EVENTS))

    async def trimmed(self) -> EntryId:
        """Return the newest id that has been trimmed: older entries are not kept."""
        return EntryId.from_bytes(await self._client.get(TRIMMED) or b"0-0")

    async def head(self) -> StreamHead:
        """Return the end of the stream, and the identity of the data."""
        dataset_id = (await self._client.get(DATASET_ID) or b"").decode()
        if not await self._client.exists(EVENTS):
            return StreamHead(dataset_id, ORIGIN, 0)
        info = await self._client.xinfo_stream(EVENTS)
        last_id = EntryId.from_bytes(info["last-generated-id"])
        return StreamHead(dataset_id, last_id, info["entries-added"])

    async def info(self) -> str:
        """Return the text of Redis's INFO command."""
        text: str = await self._client.info()
        return text


def _raise_refusal(outcome: bytes, wait_ms: Any = 0) -> None:
    if outcome == b"late":
        raise DeadlineExceededError
    if outcome == b"rate_limited":
        seconds = max(1, math.ceil(wait_ms / 1000))
        detail = f"Too many messages from your address: try again in {seconds} s."
        raise ProblemError(429, detail, headers={"Retry-After": str(seconds)})
    if outcome == b"full":
        detail = "Too many messages wait for a moderator: try again later."
        raise UnavailableError(detail, soonest=30, latest=90, code="queue_full")
