"""A live guestbook: messages in a Redis stream, pushed to every open page."""

__version__ = "0.1.0"
