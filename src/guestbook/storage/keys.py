"""The names of the keys in Redis, and the keys of receipts."""

from __future__ import annotations

import secrets

# All have one hash tag: on a Cluster a script may only use keys of one slot.
# Key names are fixed: pods of several versions share one Redis.
EVENTS = "{guestbook}:events"
TRIMMED = "{guestbook}:trimmed"
EDITS = "{guestbook}:edits"
DATASET_ID = "{guestbook}:history"
PODS = "{guestbook}:pods"
RECEIPT = "{guestbook}:receipt:"
MARKER = "{guestbook}:replicated"
RATE = "{guestbook}:rate:"
HELD = "{guestbook}:held"
CONTROL = "{guestbook}:control"
ADDRESS = "{guestbook}:address:"

DAY_MS = 24 * 3600 * 1000
MINUTE_MS = 60 * 1000

_OWN = "own:"


def own_key() -> str:
    """Return a new key for the receipt of a command that only this process may retry."""
    return f"{_OWN}{secrets.token_hex(16)}"


def is_own_key(key: str) -> bool:
    """Return whether a key is one of `own_key`."""
    return key.startswith(_OWN)


def client_key(key: str) -> str:
    """Return the key for the receipt of a post that a client repeats with its own key."""
    return f"client:{key}"
