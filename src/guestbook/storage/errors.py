"""What a command may raise, and what that means."""

from __future__ import annotations

from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

# uvloop raises RuntimeError for a write to a connection that was lost just before, and redis-py
# passes it on.
REDIS_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a command may raise while Redis is away, overloaded, or in a state without service."""

FAILOVER_ERRORS = (ReadOnlyError, MovedError, ClusterDownError)
"""The server is not the master (any more): a new connection may lead to the one that is."""

NO_TLS = (
    "it did not answer in time: does it speak TLS on this port? If not, write redis:// instead of "
    "rediss://"
)
"""A connection with TLS was not made in time. A Redis without it waits for a line to end."""

_CUT = (
    "the connection was closed: if it always is, Redis may want TLS (rediss://) or a certificate "
    "(ssl_certfile, ssl_keyfile)"
)

# Parts of errors whose text does not say what to do.
_MEANINGS = {
    "alert certificate required": "it asks for a certificate: name one with ssl_certfile and "
    "ssl_keyfile",
    "alert unknown ca": "it does not know the authority that signed the certificate of "
    "ssl_certfile",
    "alert certificate expired": "the certificate of ssl_certfile has expired",
    "certificate has expired": "its certificate has expired",
    "mismatch, certificate": "its certificate is for another host name",
    "certificate verify failed": "its certificate is not signed by an authority that is trusted: "
    "name the one that did with ssl_ca_certs",
    # In TLS 1.3 a server refuses a certificate after the client considers itself connected. Its
    # alert is lost when it closes the connection at once.
    "Connection reset by peer": _CUT,
    "Connection closed by server": _CUT,
    "Connection lost": _CUT,
    "the handler is closed": _CUT,
    # An alert of TLS, or the reverse.
    '"\\x15"': "it wants TLS: write rediss:// instead of redis://",
    "\\x15\\x03": "it wants TLS: write rediss:// instead of redis://",
    "wrong version number": "it does not speak TLS on this port: write redis:// instead of rediss://",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port: write redis:// instead of rediss://",
    "Protocol error, got": "what answers there is not Redis",
}


class QueueFullError(Exception):
    """As many messages wait for a moderator as may be kept."""


class MessageRefusedError(Exception):
    """A moderator has refused the message that this key posted."""


class MessageWithdrawnError(Exception):
    """The author withdrew the message that this key posted, before it was approved."""


class TooManyPostsError(Exception):
    """The address may post again in `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"may post again in {seconds} s")
        self.seconds = seconds


class DeadlineExceededError(Exception):
    """The command reached Redis after its deadline and changed nothing."""


def explain(error: Exception) -> str:
    """Return why a command failed, in words for an operator."""
    text = str(error)
    if not text or (isinstance(error, RedisTimeoutError) and text.startswith("Timeout")):
        return "it did not answer in time"
    for part, meaning in _MEANINGS.items():
        if part in text:
            return meaning
    return text
