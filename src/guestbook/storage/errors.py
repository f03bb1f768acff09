"""The errors of commands, and their meanings for operators."""

from __future__ import annotations

from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

# uvloop raises RuntimeError for a write to a connection that was lost just before, and redis-py
# passes it on.
REDIS_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)
"""The errors of a command while Redis is away, overloaded, or out of service."""

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

# Parts of unclear errors, and what to tell operators instead.
_MEANINGS = {
    "alert certificate required": "it asks for a certificate: name one with ssl_certfile and "
    "ssl_keyfile",
    "alert unknown ca": "it does not know the authority that signed the certificate of "
    "ssl_certfile",
    "alert certificate expired": "the certificate of ssl_certfile has expired",
    "certificate has expired": "its certificate has expired",
    "mismatch, certificate": "its certificate is for another host name",
    "certificate verify failed": "its certificate is not signed by a trusted authority: name yours "
    "with ssl_ca_certs",
    # In TLS 1.3 a server may refuse a certificate after the client has connected, and close the
    # connection before its alert arrives.
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


class DeadlineExceededError(Exception):
    """The command reached Redis after its deadline and changed nothing."""


def explain(error: Exception) -> str:
    """Return the reason of a failed command, for operators."""
    text = str(error)
    if not text or (isinstance(error, RedisTimeoutError) and text.startswith("Timeout")):
        return "it did not answer in time"
    for part, meaning in _MEANINGS.items():
        if part in text:
            return meaning
    return text
