"""One process of the guestbook: it follows the stream, takes messages, and knows the other pods."""

from guestbook.pod.guestbook import Guestbook, Listing, UnavailableError, own_name
from guestbook.pod.metrics import GuestbookCollector

__all__ = [
    "Guestbook",
    "GuestbookCollector",
    "Listing",
    "UnavailableError",
    "own_name",
]
