"""Messages, their order in memory, limits, and the wire formats. No I/O."""

from guestbook.core.address import Host, parse_origin
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
from guestbook.core.policy import PostRate, Retention, rate_key, unmapped
from guestbook.core.problems import PROBLEM_TYPE, ProblemError, precondition_failed, unavailable

__all__ = [
    "AUTHOR_MAX",
    "ORIGIN",
    "PROBLEM_TYPE",
    "TEXT_MAX",
    "Change",
    "Deletion",
    "Edit",
    "Entry",
    "EntryId",
    "EventLog",
    "Host",
    "InvalidMessageError",
    "LogEntry",
    "Message",
    "NewMessage",
    "PostRate",
    "ProblemError",
    "Retention",
    "normalise",
    "parse_origin",
    "precondition_failed",
    "rate_key",
    "unavailable",
    "unmapped",
]
