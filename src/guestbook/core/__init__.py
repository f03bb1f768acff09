"""Messages, their order in memory, limits, and the wire formats. No I/O."""

from guestbook.core.address import Host, parse_origin
from guestbook.core.control import (
    CLOSED_MAX,
    HELD_SEQ,
    Control,
    Moderation,
    Network,
    ban_field,
    is_held,
    network_of,
    parse_network,
)
from guestbook.core.event_log import EventLog, LogEntry
from guestbook.core.messages import (
    AUTHOR_MAX,
    ORIGIN,
    TEXT_MAX,
    Change,
    Deletion,
    Edit,
    Entry,
    EntryId,
    InvalidMessageError,
    Message,
    NewMessage,
    normalise,
)
from guestbook.core.policy import SECONDS, PostRate, Retention, parse_duration, rate_key, unmapped
from guestbook.core.problems import PROBLEM_TYPE, ProblemError, precondition_failed, unavailable

__all__ = [
    "AUTHOR_MAX",
    "CLOSED_MAX",
    "HELD_SEQ",
    "ORIGIN",
    "PROBLEM_TYPE",
    "SECONDS",
    "TEXT_MAX",
    "Change",
    "Control",
    "Deletion",
    "Edit",
    "Entry",
    "EntryId",
    "EventLog",
    "Host",
    "InvalidMessageError",
    "LogEntry",
    "Message",
    "Moderation",
    "Network",
    "NewMessage",
    "PostRate",
    "ProblemError",
    "Retention",
    "ban_field",
    "is_held",
    "network_of",
    "normalise",
    "parse_duration",
    "parse_network",
    "parse_origin",
    "precondition_failed",
    "rate_key",
    "unavailable",
    "unmapped",
]
