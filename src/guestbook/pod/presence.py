"""Presence: each process announces itself in Redis once a second, and reads the others."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from guestbook import __version__
from guestbook.core import Control, EntryId, Moderation
from guestbook.pod import pods_event
from guestbook.pod.pods_event import PodsEvent, Record
from guestbook.storage import (
    CLOCK_AHEAD_SECONDS,
    REDIS_ERRORS,
    HeartbeatReply,
    HeldState,
    Store,
    explain,
)

INTERVAL = 1.0
# Together with the interval this bounds how late a hanging Redis is noticed: below 2 seconds.
TIMEOUT = 0.75
_RETRY_SECONDS = 0.4
_GONE_AFTER_MS = 3 * INTERVAL * 1000
# One late reply is no outage to show to visitors.
_AWAY_AFTER = 2
_COUNTS_SECONDS = 10.0
# The load of reading all peers grows with the square of the number of pods, that of sending `pods`
# events with the number. Above these numbers both happen less often.
_PEERS_EACH_SECOND = 100
_PODS_EACH_EVENT = 10

State = Literal["ready", "draining"]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RedisClock:
    """Converts moments of `time.monotonic` to the time of Redis, in ms."""

    ms: int
    """Redis's time in the reply that arrived `at` this moment, and took so many seconds."""
    at: float
    took: float

    def time(self, moment: float) -> float:
        """Return Redis's time at a moment, as likely too early as too late."""
        return self.ms + (moment - self.at + self.took / 2) * 1000

    def deadline(self, moment: float) -> int:
        """Return Redis's time at a moment, never too late."""
        return self.ms + int((moment - self.at) * 1000)


class Presence:
    """The heartbeat, which also probes Redis: `error` is why the last one failed.

    `on_change` is called with each `pods` event for all streams, `on_reply` with each reply, the
    moment of its request, and whether Redis was unreachable before.
    """

    def __init__(
        self,
        store: Store,
        *,
        name: str,
        moderation: Moderation,
        count_streams: Callable[[], int],
        on_change: Callable[[bytes], None],
        on_reply: Callable[[HeartbeatReply, float, bool], None],
    ) -> None:
        self._store = store
        self.name = name
        self.process = f"{name}/{secrets.token_hex(4)}"
        self._started_at = EntryId(int(time.time() * 1000), 0).time
        self._moderation = moderation
        self._count_streams = count_streams
        self._on_change = on_change
        self._on_reply = on_reply
        # The id for data that has none yet.
        self._dataset_id = secrets.token_hex(8)
        self._woken = asyncio.Event()
        self._peers: dict[str, Record] = {}
        self._read_peers_at = float("-inf")
        self._keep_peers_until = float("inf")
        self._replied_at = float("-inf")
        self._failures = 0
        self._reasons: set[str] = set()
        self._published: object = None
        self._published_counts: list[int] = []
        self._published_at = float("-inf")
        self._event = PodsEvent()
        self.state: State = "ready"
        self.lab: list[str] | None = None
        """The faults that the lab has caused in this process; None without a lab."""
        self.error: str | None = "Redis has not answered yet"
        self.clock: RedisClock | None = None
        self.clock_ahead = 0.0
        """How many seconds the newest id is ahead of Redis's clock. Ids never go back."""
        self.reconnects = 0
        """How often Redis came back after it was away."""
        self.control: Control | None = None
        """The decisions of moderators; None until the first heartbeat."""
        self._controlled_at = float("-inf")
        self.held = HeldState()
        """The messages that wait for a moderator."""
        self.held_changed = asyncio.Event()
        """Set when `held` or `state` changes; another event then takes its place."""

    async def run(self) -> None:
        """Send heartbeats until the task is cancelled."""
        self._publish_changes()
        while True:
            started = time.monotonic()
            self._woken.clear()
            try:
                await self.heartbeat()
            except Exception:
                # Even reporting an error may fail; the next heartbeat is sent all the same.
                with contextlib.suppress(Exception):
                    logger.exception("the heartbeat has failed")
            pause = INTERVAL if self.error is None else _RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(started + pause - time.monotonic(), 0.05)):
                    await self._woken.wait()

    def wake(self) -> None:
        """Send the next heartbeat at once."""
        self._woken.set()

    def drain(self) -> None:
        """Announce that this process is about to stop."""
        self.state = "draining"
        self.wake()
        self._notify_moderators()

    def apply(self, control: Control) -> None:
        """Apply new decisions at once; the other pods do so with their next heartbeat."""
        self._controlled_at = time.monotonic()
        self.control = control
        self._publish_changes()

    def _notify_moderators(self) -> None:
        self.held_changed.set()
        self.held_changed = asyncio.Event()

    async def leave(self) -> None:
        """Tell the other pods that this process is gone, after `run` was cancelled."""
        # If Redis does not answer, they notice three missed heartbeats.
        with contextlib.suppress(*REDIS_ERRORS):
            async with asyncio.timeout(TIMEOUT):
                await self._store.heartbeat(self.process, None, self._dataset_id)

    async def heartbeat(self) -> None:
        """Send a heartbeat now. If Redis does not take it, `error` is set."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                reply = await self._store.heartbeat(
                    self.process,
                    self._own_record(),
                    self._dataset_id,
                    with_peers=asked_at >= self._read_peers_at,
                )
        except REDIS_ERRORS as error:
            self._handle_failure(explain(error))
        except Exception:
            self.error = "the heartbeat has failed"
            raise
        else:
            self._handle_reply(reply, asked_at)

    def _handle_failure(self, reason: str) -> None:
        self.error = f"Redis is away: {reason}"
        self._failures += 1
        if self._failures == _AWAY_AFTER:
            self._publish_changes()
        # Log each reason once in an outage: at first Redis may only be slow.
        if reason not in self._reasons:
            self._reasons.add(reason)
            logger.warning("Redis is away", error=reason)

    def _handle_reply(self, reply: HeartbeatReply, asked_at: float) -> None:
        now = time.monotonic()
        was_unreachable = self.error is not None
        self.reconnects += self._failures > 0
        self._failures = 0
        self._reasons.clear()
        self.error = None
        # Redis read its clock before `now`, so deadlines are rather too early.
        self.clock = RedisClock(reply.now_ms, now, now - asked_at)
        self._update_clock_ahead(max(reply.head.last_id.ms - reply.now_ms, 0) / 1000)
        if now - self._replied_at > 2 * INTERVAL:
            # While Redis was away no pod could announce itself: give all of them time.
            self._keep_peers_until = now + _GONE_AFTER_MS / 1000
        self._replied_at = now
        if asked_at >= self._controlled_at:
            self.control = reply.control
        if self.held != reply.held:
            self.held = reply.held
            self._notify_moderators()
        if reply.peers:
            self._update_peers(reply.peers, now)
        self._publish_changes()
        self._on_reply(reply, asked_at, was_unreachable)
        if was_unreachable:
            logger.info("Redis is there")

    def _update_clock_ahead(self, seconds: float) -> None:
        if seconds > CLOCK_AHEAD_SECONDS >= self.clock_ahead:
            logger.warning(
                "Redis's clock was once ahead: new messages have times in the future, "
                "and GUESTBOOK_MAX_AGE keeps them too long",
                seconds=round(seconds),
            )
        self.clock_ahead = seconds

    def _update_peers(self, peers: Mapping[str, tuple[int, Mapping[str, Any]]], now: float) -> None:
        alive = {
            process: pods_event.parse(record)
            for process, (age_ms, record) in peers.items()
            if process != self.process and age_ms <= _GONE_AFTER_MS
        }
        if now < self._keep_peers_until:
            alive = {**self._peers, **alive}
        self._peers = alive
        self._read_peers_at = now + (len(alive) / _PEERS_EACH_SECOND - 1) * INTERVAL

    def records(self) -> dict[str, Record]:
        """Return the record of each live process; several processes may have the same name."""
        return {self.process: self._own_record(), **self._peers}

    def _own_record(self) -> Record:
        record: Record = {
            "name": self.name,
            "version": __version__,
            "started_at": self._started_at,
            "streams": self._count_streams(),
            "state": self.state,
        }
        if self.lab is not None:
            record["lab"] = self.lab
        return record

    # The `pods` event

    @property
    def _is_away(self) -> bool:
        return self._failures >= _AWAY_AFTER

    @property
    def now_ms(self) -> int | None:
        """Redis's time; None if not known yet."""
        return None if self.clock is None else int(self.clock.time(time.monotonic()))

    @property
    def notices(self) -> dict[str, str]:
        """The decisions that pages show, `closed` and `moderation`, as far as known."""
        return {} if self.control is None else self.control.notices(self._moderation)

    def _publish_changes(self) -> None:
        pods = pods_event.by_name(self.records().values())
        counts = [pod["streams"] for pod in pods]
        others = ([{**pod, "streams": 0} for pod in pods], self.notices, self._is_away)
        now = time.monotonic()
        if others == self._published:
            listed = min(len(pods), pods_event.LISTED_MAX)
            seconds = _COUNTS_SECONDS * max(1, listed / _PODS_EACH_EVENT)
            if counts == self._published_counts or now - self._published_at < seconds:
                return
        self._published, self._published_counts, self._published_at = others, counts, now
        self._on_change(self.event())

    def event(self) -> bytes:
        """Return the `pods` event with the counts and the time of this moment."""
        return self._event.encode(
            self._own_record(),
            self._peers,
            is_away=self._is_away,
            notices=self.notices,
            now_ms=self.now_ms,
        )
