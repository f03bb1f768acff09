"""The lab's commands on their way to a process, through Redis.

A load balancer may hand a request to any process, so commands wait here for their process.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from redis.asyncio import Redis

from guestbook.storage.lua import load_script

QUEUE_MAX = 10
"""How many commands may wait for a process."""
_EXPIRY_MS = 10_000
# The name is older than the word: pods of several versions share one Redis.
_QUEUE = "{guestbook}:orders:"


class Command(NamedTuple):
    """The action for a process, and the pod that received the request."""

    action: str
    by: str


class CommandQueue:
    """A short list of commands for each process, which expires.

    `pop` blocks its connection, so push with another client.
    """

    def __init__(self, client: Redis) -> None:
        self._client: Any = client
        self._push = client.register_script(load_script("push_command"))

    async def push(self, process: str, command: Command) -> bool:
        """Queue a command; False where too many are waiting."""
        args: list[Any] = [QUEUE_MAX, _EXPIRY_MS, json.dumps(command)]
        return bool(await self._push([_QUEUE + process], args))

    async def pop(self, process: str, *, seconds: int) -> Command | None:
        """Wait for the next command, and remove it from the queue."""
        found = await self._client.blpop([_QUEUE + process], timeout=seconds)
        return None if found is None else Command(*json.loads(found[1]))
