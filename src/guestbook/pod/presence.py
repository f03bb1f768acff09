"""Who is alive: each process says so once a second through Redis, and hears the others."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from guestbook.core import sse
from guestbook.storage import REDIS_ERRORS, HeartbeatReply, Store, explain

INTERVAL = 1.0
# Together with the interval this bounds how late a hanging Redis is noticed: below 2 seconds.
TIMEOUT = 0.75
_RETRY = 0.4
_GONE_AFTER_MS = 3 * INTERVAL * 1000
_COUNTS_EVERY = 10.0
# They stand for counts in a greeting made ahead: no count is negative.
_OWN_COUNT, _TOTAL = -1, -2
_OWN_COUNT_JSON, _TOTAL_JSON = (b'"streams":%d' % count for count in (_OWN_COUNT, _TOTAL))
# One late answer is no outage that visitors should be told of.
_AWAY_AFTER = 2
# What all pods hear of all others grows with the square of their number, and what all streams are
# told with the number. So beyond these numbers it happens less often, and names only some.
_HEARD_EACH_SECOND = 100
_TOLD_EACH_TIME = 10
_LISTED_MAX = 100

State = Literal["ready", "draining"]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RedisClock:
    """What Redis's clock said at a moment of ours, to speak of deadlines in its terms."""

    ms: int
    at: float
    took: float
    """How long the answer took that brought it: when within that time it was read is not known."""

    def time(self, moment: float) -> float:
        """Redis's time in ms at a moment (of `time.monotonic`), as likely too early as too late."""
        return self.ms + (moment - self.at + self.took / 2) * 1000

    def deadline(self, moment: float) -> int:
        """The moment (of `time.monotonic`) in Redis's milliseconds."""
        return self.ms + int((moment - self.at) * 1000)


class Presence:
    """The heartbeat. Also the probe of Redis: `error` says why the last one failed.

    `on_change` is called with each `pods` event that everybody must get, `on_heard` with each
    answer and the moment at which it was asked for, `on_return` when Redis answers again.
    """

    def __init__(
        self,
        store: Store,
        *,
        name: str,
        version: str,
        count_streams: Callable[[], int],
        on_change: Callable[[bytes], None],
        on_heard: Callable[[HeartbeatReply, float], None],
        on_return: Callable[[], None],
    ) -> None:
        self._store = store
        self.name = name
        self.process = f"{name}/{secrets.token_hex(4)}"
        self._history = secrets.token_hex(8)
        self._me: dict[str, Any] = {
            "name": name,
            "version": version,
            "started_at": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        }
        self._count_streams = count_streams
        self._on_change = on_change
        self._on_heard = on_heard
        self._on_return = on_return
        self._woken = asyncio.Event()
        self._others: dict[str, dict[str, Any]] = {}
        self._wait_until_visible: list[dict[str, Any]] = []
        self._shown_at = float("-inf")
        self._beaten_at = float("-inf")
        self._listens_at = float("-inf")
        self._spared_until = float("inf")
        self._is_away = False
        self._reasons: set[str] = set()
        self._failures = 0
        self._greeting = b""
        self._greeting_of: object = None
        self._greeting_key: object = None
        self.state: State = "ready"
        self.lab: list[str] | None = None
        """What has been done to this process on purpose; None where there is no lab."""
        self.error: str | None = "Redis has not answered yet"
        self.clock: RedisClock | None = None
        self.returns = 0
        """How often Redis has come back after it was away."""

    async def run(self) -> None:
        """Never returns."""
        self._show()
        while True:
            started = time.monotonic()
            self._woken.clear()
            await self.beat()
            pause = INTERVAL if self.error is None else _RETRY
            await self._sleep(started + pause - time.monotonic())

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0.05)):
                await self._woken.wait()
        except TimeoutError:
            pass

    def wake(self) -> None:
        """Has the next heartbeat come at once: something changed."""
        self._woken.set()

    async def leave(self) -> None:
        """Tells the others that this process is gone. Call it when `run` has been cancelled."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._store.heartbeat(self.process, None, self._history)
        except REDIS_ERRORS:
            pass  # they notice after three missed heartbeats

    async def beat(self) -> None:
        """One heartbeat, now. Does not fail: `error` says whether Redis took it."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                heard = await self._store.heartbeat(
                    self.process,
                    self._record(),
                    self._history,
                    with_peers=asked_at >= self._listens_at,
                )
        except REDIS_ERRORS as error:
            self._note_failure(error)
            return
        if self.error is not None:
            logger.info("Redis is there")
            self.returns += self._is_away
            self._on_return()
        self._is_away = False
        self._reasons.clear()
        self.error = None
        was_told, self._failures = self._failures >= _AWAY_AFTER, 0
        if was_told:
            self._tell(self._pods())
        now = time.monotonic()
        if now - self._beaten_at > 2 * INTERVAL:
            # Nobody could say anything while Redis was away: give everybody time to.
            self._spared_until = now + _GONE_AFTER_MS / 1000
        self._beaten_at = now
        # The clock was read before `now`: a deadline in its terms comes rather too early.
        self.clock = RedisClock(heard.now_ms, now, now - asked_at)
        if heard.peers is not None:
            self._hear(heard.peers, now)
        self._show()
        self._on_heard(heard, asked_at)

    def _note_failure(self, error: Exception) -> None:
        said = explain(error)
        # Each reason once in an outage: the first may be that it was only slow.
        if said not in self._reasons:
            logger.warning("Redis is away", error=said)
        self._reasons.add(said)
        self._is_away = True
        self.error = f"Redis is away: {said}"
        self._failures += 1
        if self._failures == _AWAY_AFTER:
            self._tell(self._pods())

    def _record(self) -> dict[str, Any]:
        record = {**self._me, "streams": self._count_streams(), "state": self.state}
        return record if self.lab is None else {**record, "lab": self.lab}

    def by_process(self) -> dict[str, dict[str, Any]]:
        """What each process that is alive says of itself; several may have one name."""
        return {self.process: self._record(), **self._others}

    def _hear(self, records: Mapping[str, tuple[int, dict[str, Any]]], now: float) -> None:
        heard_others = {
            process: _pod(said)
            for process, (age_ms, said) in records.items()
            if process != self.process and age_ms <= _GONE_AFTER_MS
        }
        if now < self._spared_until:
            heard_others = {**self._others, **heard_others}
        self._others = heard_others
        self._listens_at = now + (len(self._others) / _HEARD_EACH_SECOND - 1) * INTERVAL

    def _pods(self) -> list[dict[str, Any]]:
        return _sorted(self.by_process().values())

    def _show(self) -> None:
        pods = self._pods()
        if pods == self._wait_until_visible:
            return
        now = time.monotonic()
        only_counts = _without_counts(pods) == _without_counts(self._wait_until_visible)
        counts_every = _COUNTS_EVERY * max(1, min(len(pods), _LISTED_MAX) / _TOLD_EACH_TIME)
        if only_counts and now - self._shown_at < counts_every:
            return
        self._tell(pods)

    def _tell(self, pods: list[dict[str, Any]]) -> None:
        self._wait_until_visible = pods
        self._shown_at = time.monotonic()
        self._on_change(self._event(pods, sum(pod["streams"] for pod in pods)))

    def current(self) -> bytes:
        """The `pods` event for a stream that opens now: with the counts of this moment."""
        # Thousands may come back at once: only what differs between them is written anew.
        key = (self.state, str(self.lab), self._is_told_away)
        if self._greeting_of is not self._others or self._greeting_key != key:
            self._greeting_of, self._greeting_key = self._others, key
            me = {**self._record(), "streams": _OWN_COUNT}
            self._greeting = self._event(_sorted([me, *self._others.values()]), _TOTAL)
        own = self._count_streams()
        total = own + sum(pod["streams"] for pod in self._others.values())
        greeting = self._greeting.replace(_OWN_COUNT_JSON, b'"streams":%d' % own)
        return greeting.replace(_TOTAL_JSON, b'"streams":%d' % total)

    def _event(self, pods: list[dict[str, Any]], total: int) -> bytes:
        if len(pods) > _LISTED_MAX:
            # The one that serves the stream is always among them.
            pods = sorted(pods, key=lambda pod: pod["name"] != self._me["name"])[:_LISTED_MAX]
        # Which pod serves a stream is known only here: a load balancer chose it.
        said = {"pods": pods, "streams": total, "pod": self._me["name"]}
        if self._is_told_away:
            said["redis"] = "away"
        return sse.event(json.dumps(said, separators=(",", ":")).encode(), name="pods")

    @property
    def _is_told_away(self) -> bool:
        return self._failures >= _AWAY_AFTER


def _pod(said: dict[str, Any]) -> dict[str, Any]:
    """What another process said, as this version tells it: the other may be of any version."""
    streams = said.get("streams")
    lab = said.get("lab")
    return {
        "name": str(said.get("name", "")),
        "version": str(said.get("version", "")),
        "started_at": str(said.get("started_at", "")),
        "streams": streams if isinstance(streams, int) else 0,
        "state": str(said.get("state", "ready")),
        **({"lab": [str(each) for each in lab]} if isinstance(lab, list) else {}),
    }


def _sorted(pods: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(pods, key=lambda pod: (pod["name"], pod["started_at"]))


def _without_counts(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**pod, "streams": 0} for pod in pods]
