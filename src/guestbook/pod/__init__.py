"""One process of the guestbook: follows the stream, stores messages, knows the other pods."""

from guestbook.pod.authors import edit, exists, withdraw
from guestbook.pod.collector import GuestbookCollector
from guestbook.pod.guestbook import Guestbook, Listing
from guestbook.pod.lifespan import open_guestbook, own_name
from guestbook.pod.moderation import Moderator
from guestbook.pod.polling import Changes, poll
from guestbook.pod.retry import within_request

__all__ = [
    "Changes",
    "Guestbook",
    "GuestbookCollector",
    "Listing",
    "Moderator",
    "edit",
    "exists",
    "open_guestbook",
    "own_name",
    "poll",
    "withdraw",
    "within_request",
]
