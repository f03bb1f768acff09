"""The decisions of moderators that apply to all pods: closing, moderation, bans."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from guestbook.core.messages import EntryId
from guestbook.core.policy import rate_key
from guestbook.core.problems import ProblemError

Moderation = Literal["off", "before"]
"""Whether messages wait for a moderator: no, or before they are seen."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HELD_SEQ = 1_000_000_000
"""Ids of held messages have a second half from here on, so that they differ from all others."""

CLOSED_MAX = 200
"""The longest text with which the guestbook may be closed."""
BAN_DAYS_MAX = 366
"""The longest ban."""

_BAN = "ban:"


def is_held(entry_id: EntryId) -> bool:
    """Return whether this is the id of a message that waits, or waited, for a moderator."""
    return entry_id.seq >= HELD_SEQ


def parse_network(text: str) -> Network:
    """Parse an address or a network. Raises ValueError.

    An IPv4 network may be written as one of IPv6 (`::ffff:192.0.2.0/120`).
    """
    try:
        if "%" in text:
            raise ValueError  # a zone, which only means something on one host
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            "is not an address or a network such as 203.0.113.0/24 or 2001:db8::/64"
        ) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def network_of(address: str) -> Network:
    """Return the network of one author: the address, or the /64 of an IPv6 address."""
    return parse_network(rate_key(address))


@dataclass(frozen=True)
class Control:
    """The decisions that apply to all pods."""

    closed: str | None = None
    """The text for visitors while the guestbook is closed; None: it is open."""
    moderation: Moderation | None = None
    """None: the setting decides."""
    bans: Mapping[Network, int] = field(default_factory=dict)
    """The networks from which posts are refused, and until when in ms of Redis's clock."""

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes]) -> Control:
        """Parse the fields of the hash in Redis; what this version does not know is left out."""
        texts = {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in fields.items()
        }
        bans = {}
        for name, value in texts.items():
            if name.startswith(_BAN):
                with contextlib.suppress(ValueError):
                    bans[parse_network(name.removeprefix(_BAN))] = int(value)
        moderation: Any = texts.get("moderation")
        is_known = moderation in get_args(Moderation)
        return cls(texts.get("closed") or None, moderation if is_known else None, bans)

    def notices(self, setting: Moderation) -> dict[str, str]:
        """Return the decisions that pages show; `setting` is the moderation if none was chosen."""
        moderation = self.moderation or setting
        return {
            **({} if self.closed is None else {"closed": self.closed}),
            **({} if moderation == "off" else {"moderation": moderation}),
        }

    def refusal(self, address: str, now_ms: float) -> ProblemError | None:
        """Return the error for an address that may not post now."""
        if self.closed is not None:
            return ProblemError(403, self.closed, code="closed")
        if self.bans and self._is_banned(address, now_ms):
            return ProblemError(403, "Posts from your network are refused for now.", code="banned")
        return None

    def _is_banned(self, address: str, now_ms: float) -> bool:
        try:
            own = parse_network(address.partition("%")[0]).network_address
        except ValueError:  # a Unix socket
            return False
        return any(own in network and until > now_ms for network, until in self.bans.items())


def ban_field(network: Network) -> str:
    """Return the field of the hash in Redis that has the ban of a network."""
    return f"{_BAN}{network}"
