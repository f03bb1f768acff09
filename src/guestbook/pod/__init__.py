"""One process of the guestbook: it follows the stream, takes messages, and knows the other pods."""

from guestbook.pod.guestbook import Guestbook, Listing, UnavailableError, own_name

__all__ = [
    "Guestbook",
    "Listing",
    "UnavailableError",
    "own_name",
]
