"""The guestbook in Redis. The only package that imports redis."""

from guestbook.storage.client import PipeliningRedis
from guestbook.storage.replication import WAIT_MS, Replicas, TooFewReplicasError
from guestbook.storage.store import (
    EVENTS,
    DeadlineExceededError,
    HeartbeatReply,
    Page,
    Store,
    Stored,
    TooManyPostsError,
)
from guestbook.storage.topology import HASH_TAG
from guestbook.storage.url import REDIS_ERRORS, RedisURL, explain

__all__ = [
    "EVENTS",
    "HASH_TAG",
    "REDIS_ERRORS",
    "WAIT_MS",
    "DeadlineExceededError",
    "HeartbeatReply",
    "Page",
    "PipeliningRedis",
    "RedisURL",
    "Replicas",
    "Store",
    "Stored",
    "TooFewReplicasError",
    "TooManyPostsError",
    "explain",
]
