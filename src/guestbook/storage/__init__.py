"""The guestbook in Redis. The only package that imports redis."""

from guestbook.storage.archive import Archive
from guestbook.storage.check import CLOCK_AHEAD_SECONDS, inspect
from guestbook.storage.command_queue import QUEUE_MAX, Command, CommandQueue
from guestbook.storage.errors import (
    REDIS_ERRORS,
    DeadlineExceededError,
    explain,
)
from guestbook.storage.keys import EVENTS, client_key, is_own_key, own_key
from guestbook.storage.moderation import ModerationStore, Verdict, decision_key
from guestbook.storage.pipelining import PipeliningRedis
from guestbook.storage.replication import WAIT_MS, Replicas, TooFewReplicasError
from guestbook.storage.replies import (
    Decision,
    EntryPage,
    HeartbeatReply,
    HeldState,
    Stored,
    StreamHead,
    replaced_at,
)
from guestbook.storage.store import LONG_AGO, Store
from guestbook.storage.topology import create_client
from guestbook.storage.url import RedisURL

__all__ = [
    "CLOCK_AHEAD_SECONDS",
    "EVENTS",
    "LONG_AGO",
    "QUEUE_MAX",
    "REDIS_ERRORS",
    "WAIT_MS",
    "Archive",
    "Command",
    "CommandQueue",
    "DeadlineExceededError",
    "Decision",
    "EntryPage",
    "HeartbeatReply",
    "HeldState",
    "ModerationStore",
    "PipeliningRedis",
    "RedisURL",
    "Replicas",
    "Store",
    "Stored",
    "StreamHead",
    "TooFewReplicasError",
    "Verdict",
    "client_key",
    "create_client",
    "decision_key",
    "explain",
    "inspect",
    "is_own_key",
    "own_key",
    "replaced_at",
]
