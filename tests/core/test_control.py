"""Whether a client may post: closing, and bans of networks."""

from __future__ import annotations

import pytest

from guestbook.core import Control, EntryId, is_held, network_of, parse_network

_NOW = 1000.0


def _is_banned(address: str, *networks: str, until: int = 2000) -> bool:
    bans = {parse_network(network): until for network in networks}
    refusal = Control(bans=bans).refusal(address, _NOW)
    assert refusal is None or refusal.code == "banned"
    return refusal is not None


@pytest.mark.parametrize(
    ("address", "network", "expected"),
    [
        ("203.0.113.7", "203.0.113.0/24", True),
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.114.7", "203.0.113.0/24", False),
        ("::ffff:203.0.113.7", "203.0.113.0/24", True),
        ("203.0.113.7", "::ffff:203.0.113.0/120", True),
        ("203.0.113.7", "203.0.113.9/24", True),
        ("203.0.113.7", "0.0.0.0/0", True),
        ("203.0.113.7", "::ffff:0:0/96", True),
        ("2001:db8::7", "2001:db8::/64", True),
        ("2001:db8:0:1::7", "2001:db8::/64", False),
        ("2001:db8::7", "0.0.0.0/0", False),
        ("203.0.113.7", "::/0", False),
        ("", "0.0.0.0/0", False),
        ("fe80::1%eth0", "203.0.113.7", False),
        ("fe80::1%eth0", "fe80::1", True),
    ],
)
def test_banned_networks(address: str, network: str, expected: bool) -> None:
    """A ban holds for the addresses of its network, however they are written."""
    assert _is_banned(address, network, "192.0.2.0/28") is expected


@pytest.mark.parametrize("text", ["fe80::1%eth0", "203.0.113.0/33", "here", ""])
def test_what_is_no_network_is_not_banned(text: str) -> None:
    """A zone means something on one host only."""
    with pytest.raises(ValueError, match="is not an address or a network such as"):
        parse_network(text)


def test_ban_ends() -> None:
    """Redis's time decides, also before the heartbeat has removed the ban."""
    assert not _is_banned("203.0.113.7", "203.0.113.7", until=1000)


def test_author_is_an_address_or_a_site() -> None:
    """One host can use any address of its /64."""
    assert str(network_of("2001:db8::7")) == "2001:db8::/64"
    assert str(network_of("::ffff:203.0.113.7")) == "203.0.113.7/32"


def test_pages_know_what_is_in_force() -> None:
    """A decision goes before the setting; what is as usual is not mentioned."""
    assert Control().notices("off") == {}
    assert Control().notices("before") == {"moderation": "before"}
    assert Control(closed="x", moderation="off").notices("before") == {"closed": "x"}
    assert Control(moderation="before").notices("off") == {"moderation": "before"}


def test_unknown_fields_are_left_out() -> None:
    """Fields that another version, or a person, has written are ignored."""
    fields = {
        b"closed": b"",
        b"moderation": b"after",
        b"ban:x": b"1",
        b"ban:::1": b"x",
        b"\xff": b"1",
    }
    assert Control.parse(fields) == Control()
    assert Control.parse({b"closed": b"until \xff"}) == Control(closed="until \ufffd")


def test_what_is_decided_is_read() -> None:
    """Closing, moderation, and each ban with its end."""
    fields = {b"closed": b"Back at ten.", b"moderation": b"before", b"ban:203.0.113.0/24": b"5"}
    bans = {parse_network("203.0.113.0/24"): 5}
    assert Control.parse(fields) == Control("Back at ten.", "before", bans)


def test_ids_of_held_messages_differ() -> None:
    """An id tells whether it is one of the queue."""
    assert is_held(EntryId.parse("1795416665955-1000000000"))
    assert not is_held(EntryId.parse("1795416665955-999"))
