"""The guestbook in Redis. The only package that imports redis."""

from guestbook.storage.archive import Archive
from guestbook.storage.check import CLOCK_AHEAD_SECONDS, Finding, inspect
from guestbook.storage.command_queue import QUEUE_MAX, Command, CommandQueue
from guestbook.storage.errors import (
    REDIS_ERRORS,
    DeadlineExceededError,
    TooManyPostsError,
    explain,
)
from guestbook.storage.pipelining import PipeliningRedis
from guestbook.storage.replication import WAIT_MS, Replicas, TooFewReplicasError
from guestbook.storage.replies import HeartbeatReply, Page, Stored, replaced_at
from guestbook.storage.store import EVENTS, Store
from guestbook.storage.topology import create_client
from guestbook.storage.url import RedisURL

__all__ = [
    "CLOCK_AHEAD_SECONDS",
    "EVENTS",
    "QUEUE_MAX",
    "REDIS_ERRORS",
    "WAIT_MS",
    "Archive",
    "Command",
    "CommandQueue",
    "DeadlineExceededError",
    "Finding",
    "HeartbeatReply",
    "Page",
    "PipeliningRedis",
    "RedisURL",
    "Replicas",
    "Store",
    "Stored",
    "TooFewReplicasError",
    "TooManyPostsError",
    "create_client",
    "explain",
    "inspect",
    "replaced_at",
]
