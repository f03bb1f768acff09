"""A live guestbook: messages in a Redis stream, pushed to every open page."""

from importlib import metadata

try:
    __version__ = metadata.version("live-guestbook")
except metadata.PackageNotFoundError:
    # It runs from its sources, and was never installed.
    __version__ = "0+unknown"
