"""The guestbook in Redis: its keys, and the scripts that change it atomically."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from guestbook.core import (
    ORIGIN,
    Entry,
    EntryId,
    Message,
    NewMessage,
    PostRate,
    Retention,
    decode,
    encode,
    rate_key,
)
from guestbook.storage.client import PipeliningRedis

# One hash tag for all keys: on a Cluster a script may only touch keys of one slot.
EVENTS = "{guestbook}:events"
TRIMMED = "{guestbook}:trimmed"
HISTORY = "{guestbook}:history"
PODS = "{guestbook}:pods"
_RECEIPT = "{guestbook}:receipt:"
_MARKER = "{guestbook}:replicated"
_RATE = "{guestbook}:rate:"
_IMPORTED_LEGACY = "{guestbook}:taken-over:"

_DAY_MS = 24 * 3600 * 1000
_MINUTE_MS = 60 * 1000

# Redis's own clock, in ms.
_NOW = """
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

# Drops what is older than `age` (in ms; 0: nothing is) and remembers the newest that is gone.
_EXPIRE = (
    _NOW
    + """
local function expire(events, trimmed, age)
  if age == 0 then return end
  local edge = math.max(0, clock() - age) .. '-0'
  local old = redis.call('XREVRANGE', events, '(' .. edge, '-', 'COUNT', 1)[1]
  if old then
    redis.call('SET', trimmed, old[1])
    redis.call('XTRIM', events, 'MINID', edge)
  end
end
"""
)

# Keeps the newest `max` entries, and of these the young ones. Of too many at most 1000 go at once.
_TRIM = (
    _EXPIRE
    + """
local function trim(events, trimmed, max, age)
  expire(events, trimmed, age)
  local length = redis.call('XLEN', events)
  local excess = math.min(length - max, 1000)
  if excess > 0 then
    local old = redis.call('XRANGE', events, '-', '+', 'COUNT', excess)
    redis.call('SET', trimmed, old[#old][1])
    redis.call('XTRIM', events, 'MAXLEN', length - #old)
  end
end
"""
)

# Both writing scripts begin with the receipt, which makes it escape_control to send them again when
# the answer was lost, and with the deadline (Redis's own clock, in ms; 0: none), so that a
# command that was stuck on its way does nothing after its sender was told that it failed.
#
# The rate is a list of the moments of an address's last posts, newest first: one more is allowed
# when the last of as many as may be is out of the window.
_POST = (
    _TRIM
    + """
local receipt = redis.call('GET', KEYS[3])
if receipt then return {'known', receipt} end
local now = clock()
if tonumber(ARGV[4]) > 0 and now > tonumber(ARGV[4]) then return {'late'} end

local posts, window = tonumber(ARGV[6]), tonumber(ARGV[7])
if posts > 0 then
  local last = redis.call('LINDEX', KEYS[4], posts - 1)
  if last and last + window > now then return {'often', last + window - now} end
  redis.call('LPUSH', KEYS[4], now)
  redis.call('LTRIM', KEYS[4], 0, posts - 1)
  redis.call('PEXPIRE', KEYS[4], window)
end

local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 8))
receipt = id .. ' ' .. ARGV[5]
redis.call('SET', KEYS[3], receipt, 'PX', ARGV[3])
trim(KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]))
return {'new', receipt}
"""
)

_DELETE = (
    _NOW
    + """
local receipt = redis.call('GET', KEYS[2])
if receipt then return receipt end
if tonumber(ARGV[2]) > 0 and clock() > tonumber(ARGV[2]) then return 'late' end

local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
receipt = 'absent'
if entry and entry[2][1] ~= 'deleted' then
  redis.call('XDEL', KEYS[1], ARGV[3])
  receipt = redis.call('XADD', KEYS[1], '*', 'deleted', unpack(ARGV, 3))
end
redis.call('SET', KEYS[2], receipt, 'PX', ARGV[1])
return receipt
"""
)

# What a process says of itself once a second, and all that it learns by it. Messages grow too old
# when nobody posts, too.
_BEAT = (
    _EXPIRE
    + """
local now = clock()
expire(KEYS[3], KEYS[4], tonumber(ARGV[4]))
redis.call('SET', KEYS[2], ARGV[3], 'NX')
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
end
local all = {}
if ARGV[5] == '1' then all = redis.call('HGETALL', KEYS[1]) end
for i = 1, #all, 2 do
  if now - tonumber(string.match(all[i + 1], '^%d+')) > 60000 then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
local last, added = '0-0', 0
if redis.call('EXISTS', KEYS[3]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[3])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
end
return {now, redis.call('GET', KEYS[2]), last, added, all}
"""
)


# Whether receipts are there; and a write, for which WAIT waits and so for all before it.
_MARK = """
local there = {}
for i = 2, #KEYS do there[i - 1] = redis.call('EXISTS', KEYS[i]) end
redis.call('SET', KEYS[1], '', 'PX', 60000)
return there
"""

# Puts messages back under their own ids. A stream only grows at its end, so that an id which is
# not there and is older than the newest can find its place no more.
_RESTORE = (
    _TRIM
    + """
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local max, age = tonumber(ARGV[1]), tonumber(ARGV[2])
local edge = age > 0 and clock() - age or 0
local gone_ms, gone_seq = parts(redis.call('GET', KEYS[2]) or '0-0')

local function restore(id, text, pod, author)
  local ms, seq = parts(id)
  if ms < edge then return 'expired' end
  local fields = {'text', text, 'pod', pod}
  if author ~= '' then fields[5], fields[6] = 'author', author end
  local answer = redis.pcall('XADD', KEYS[1], id, unpack(fields))
  if type(answer) ~= 'table' or not answer.err then return 'added' end
  if not string.find(answer.err, 'equal or smaller') then return answer end
  if redis.call('XRANGE', KEYS[1], id, id)[1] then return 'known' end
  if ms < gone_ms or ms == gone_ms and seq <= gone_seq then return 'trimmed' end
  return 'too old'
end

local outcomes = {}
for i = 3, #ARGV, 4 do
  local outcome = restore(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  if type(outcome) == 'table' then return outcome end
  outcomes[#outcomes + 1] = outcome
end
trim(KEYS[1], KEYS[2], max, age)
return outcomes
"""
)

# Takes over one item of a list. The marker says how many of the list have been.
_IMPORT_LEGACY = (
    _TRIM
    + """
if tonumber(redis.call('GET', KEYS[3]) or 0) ~= tonumber(ARGV[3]) then return 0 end
for i = 5, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'text', ARGV[i], 'pod', ARGV[4])
end
redis.call('INCR', KEYS[3])
trim(KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]))
return 1
"""
)


class Page(NamedTuple):
    """Some entries, and how far into the stream they reach: None where it has no more."""

    entries: list[Entry]
    reached: EntryId | None


class Stored(NamedTuple):
    """What a post gave; `is_new` is false where its key had stored the message before."""

    message: Message
    is_new: bool


class TooManyPostsError(Exception):
    """The address may post again in `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"may post again in {seconds} s")
        self.seconds = seconds


class DeadlineExceededError(Exception):  # an outcome
    """Redis found the command after its deadline and did nothing."""


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """What a heartbeat learns: Redis's clock, its data's identity, and the other processes."""

    now_ms: int
    history: str
    last: EntryId
    added: int
    """How many entries the stream has ever got."""
    records: dict[str, tuple[int, dict[str, Any]]] | None
    """By process: its age in ms (since its last heartbeat) and what it said. None: not asked."""


class Store:
    """The commands of the guestbook, over a client that never repeats one by itself."""

    def __init__(self, client: PipeliningRedis, retention: Retention) -> None:
        self._retention = retention
        # redis-py types answers for every mode that it has (text or bytes, RESP 2 or 3).
        self._client: Any = client
        self._post = client.register_script(_POST)
        self._delete = client.register_script(_DELETE)
        self._beat = client.register_script(_BEAT)
        self._restore = client.register_script(_RESTORE)
        self._take_over = client.register_script(_IMPORT_LEGACY)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def disconnect(self) -> None:
        """Waits no longer for answers that are on their way: who asked hears of an error."""
        self._client.disconnect()

    async def post(
        self,
        draft: NewMessage,
        pod: str,
        *,
        key: str,
        is_own_key: bool,
        address: str,
        rate: PostRate | None,
        until_ms: int,
        trace: str = "",
    ) -> Stored:
        """Stores a draft, once for each `key`; what the key has stored before is given again.

        `trace` goes along with the entry.

        A client's key is remembered for 24 hours. One of our own is only known to the request
        that made it. Raises DeadlineExceededError, and TooManyPostsError where `rate` does not
        allow it.
        """
        # Who brings the same key later must get the message without what they now say it is.
        memo = b"" if is_own_key else to_json((draft.author, draft.text, pod))
        lifetime = _MINUTE_MS if is_own_key else _DAY_MS
        posts, seconds = rate or (0, 0)
        fields = [*encode(draft.author, draft.text, pod), *_traced(trace)]
        outcome, *rest = await self._post(
            keys=[EVENTS, TRIMMED, _RECEIPT + key, _RATE + rate_key(address)],
            args=[*self._retention, lifetime, until_ms, memo, posts, seconds * 1000, *fields],
        )
        if outcome == b"late":
            raise DeadlineExceededError
        if outcome == b"often":
            raise TooManyPostsError(max(1, math.ceil(rest[0] / 1000)))
        receipt, _, known = rest[0].partition(b" ")
        author, text, pod = from_json(known) if known else (draft.author, draft.text, pod)
        message = Message(EntryId.of(receipt), author, text, pod)
        # Of our own key nobody knows but the request that tries again.
        return Stored(message, outcome == b"new" or is_own_key)

    async def replicated(
        self, keys: list[str], count: int, timeout_ms: int
    ) -> tuple[list[bool], int]:
        """Whether the receipts of these keys are there, and how many replicas have them.

        Waits for `count` replicas, up to `timeout_ms`.
        """
        receipts = [_RECEIPT + key for key in keys]
        # On one connection, and so on one server.
        there, reached = await self._client.together(
            ("EVAL", _MARK, 1 + len(receipts), _MARKER, *receipts), ("WAIT", count, timeout_ms)
        )
        return [bool(each) for each in there], int(reached)

    async def delete(
        self, target: EntryId, *, key: str, until_ms: int, trace: str = ""
    ) -> EntryId | None:
        """Deletes a message; gives the deletion's own id, None where there was no message."""
        receipt = await self._delete(
            keys=[EVENTS, _RECEIPT + key], args=[_MINUTE_MS, until_ms, str(target), *_traced(trace)]
        )
        if receipt == b"late":
            raise DeadlineExceededError
        return None if receipt == b"absent" else EntryId.of(receipt)

    async def beat(
        self,
        process: str,
        said: Mapping[str, Any] | None,
        history: str,
        *,
        is_listening: bool = False,
    ) -> HeartbeatReply:
        """Says what a process is (None: it is gone), and hears the others if it listens.

        `history` names the data if it has no name yet.
        """
        record = "" if said is None else json.dumps(said)
        now, named, last, added, flat = await self._beat(
            keys=[PODS, HISTORY, EVENTS, TRIMMED],
            args=[process, record, history, self._retention.age_ms, int(is_listening)],
        )
        records = {}
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            at, _, spoken = value.decode().partition(" ")
            records[name.decode()] = (int(now) - int(at), json.loads(spoken))
        newest = EntryId.of(last)
        heard = records if is_listening else None
        return HeartbeatReply(int(now), named.decode(), newest, int(added), heard)

    async def read(self, after: EntryId, *, count: int, block_ms: int) -> tuple[Page, EntryId]:
        """Waits up to `block_ms` for entries newer than `after`.

        Gives them, oldest first, and the newest id that has been trimmed by then.
        """
        streams, trimmed = await self._client.together(
            ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", EVENTS, str(after)),
            ("GET", TRIMMED),
        )
        return _page(streams[0][1] if streams else []), _id_or_origin(trimmed)

    async def older(self, before: EntryId | None, count: int) -> Page:
        """Up to `count` entries older than `before` (None: the newest), newest first."""
        if before == ORIGIN:
            return _page([])
        newest = "+" if before is None else str(before.before())
        return _page(await self._client.xrevrange(EVENTS, newest, "-", count=count))

    async def replay(self, after: EntryId, count: int) -> tuple[Page, EntryId]:
        """Up to `count` entries newer than `after`, and the newest id that has been trimmed."""
        raw, trimmed = await self._client.together(
            ("XRANGE", EVENTS, f"({after}", "+", "COUNT", count), ("GET", TRIMMED)
        )
        return _page(raw), _id_or_origin(trimmed)

    async def newer(self, after: EntryId, count: int) -> Page:
        """Up to `count` entries newer than `after`, oldest first."""
        return _page(await self._client.xrange(EVENTS, f"({after}", "+", count=count))

    async def get(self, entry_id: EntryId) -> Message | None:
        """The message with this id."""
        page = _page(await self._client.xrange(EVENTS, str(entry_id), str(entry_id)))
        found = page.entries[0] if page.entries else None
        return found if isinstance(found, Message) else None

    async def restore(self, messages: list[Message]) -> Counter[str]:
        """Puts messages back under their own ids, and counts what became of them.

        Each is `added`, was `known`, is `too old` to be put before what is there, was `trimmed`
        as older than what is kept, or is `expired`: older than messages are to be kept. At most
        some hundred at once.
        """
        fields = [part for m in messages for part in (str(m.id), m.text, m.pod, m.author or "")]
        outcomes = await self._restore(keys=[EVENTS, TRIMMED], args=[*self._retention, *fields])
        return Counter(outcome.decode() for outcome in outcomes)

    async def count(self) -> int:
        """How many entries the stream has."""
        return int(await self._client.xlen(EVENTS))

    async def length(self, list_key: str) -> int:
        """How many items a list has that is not the guestbook's own."""
        return int(await self._client.llen(list_key))

    async def imported_legacy(self, list_key: str) -> int:
        """How many items of a list have been taken over."""
        return int(await self._client.get(_IMPORTED_LEGACY + list_key) or 0)

    async def items(self, list_key: str, start: int, count: int) -> list[bytes]:
        """Some items of a list that is not the guestbook's own."""
        return list(await self._client.lrange(list_key, start, start + count - 1))

    async def import_legacy(self, list_key: str, index: int, texts: list[str], *, pod: str) -> bool:
        """Stores an item of a list, once, as one or several messages; False if it has been."""
        added = await self._take_over(
            keys=[EVENTS, TRIMMED, _IMPORTED_LEGACY + list_key],
            args=[*self._retention, index, pod, *texts],
        )
        return bool(added)

    async def trimmed(self) -> EntryId:
        """The newest id that has been trimmed: what is older is not kept."""
        return _id_or_origin(await self._client.get(TRIMMED))

    async def last(self) -> EntryId:
        """The newest id that the stream has ever given."""
        if not await self._client.exists(EVENTS):
            return ORIGIN
        info = await self._client.xinfo_stream(EVENTS)
        return EntryId.of(info["last-generated-id"])

    async def info(self) -> str:
        """What Redis tells of itself, as its INFO command prints it."""
        # From a script, because redis-py would make a dictionary of it.
        info: bytes = await self._client.eval("return redis.call('INFO')", 0)
        return info.decode(errors="replace")


def _page(raw: list[tuple[bytes, dict[bytes, bytes] | None]]) -> Page:
    decoded = (decode(entry_id, fields or {}) for entry_id, fields in raw)
    entries = [entry for entry in decoded if entry is not None]
    return Page(entries, EntryId.of(raw[-1][0]) if raw else None)


def _traced(trace: str) -> tuple[str, ...]:
    return ("trace", trace) if trace else ()


def _id_or_origin(value: bytes | None) -> EntryId:
    return EntryId.of(value) if value else ORIGIN
