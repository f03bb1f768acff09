"""A live guestbook: messages in a Redis stream, pushed to every open page."""

from importlib.metadata import version

__version__ = version("guestbook")
