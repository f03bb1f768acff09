"""What a client would rather have: the `Accept-…` headers of RFC 9110, section 12.5."""

from __future__ import annotations

import functools
from collections.abc import Sequence

# A browser sends less than 100 bytes; more than this is neither read nor remembered.
_LONGEST = 256


def language(accepted: bytes, available: Sequence[str]) -> str:
    """The language to answer in: the best of `available`, or the first where none is wanted."""
    return _language(accepted[:_LONGEST], available)


def takes_gzip(accepted: bytes) -> bool:
    """Whether a body may be sent compressed."""
    return _takes_gzip(accepted[:_LONGEST])


@functools.lru_cache(maxsize=128)
def _language(accepted: bytes, available: Sequence[str]) -> str:
    wishes = _wishes(accepted)
    for wish, quality in sorted(wishes.items(), key=lambda item: -item[1]):
        if not quality:
            break
        if wish == "*":
            fitting = [each for each in available if each not in wishes]
        else:
            fitting = [each for each in available if each == wish]
        if fitting:
            return fitting[0]
    return available[0]


@functools.lru_cache(maxsize=128)
def _takes_gzip(accepted: bytes) -> bool:
    wishes = _wishes(accepted)
    return wishes.get("gzip", wishes.get("*", 0)) > 0


def _wishes(header: bytes) -> dict[str, float]:
    """What is named in a header with its quality, in its order; of a language what is before `-`.

    A weight that cannot be read counts as 0: nobody gets what they may have refused.
    """
    wishes: dict[str, float] = {}
    for part in header.decode("latin-1").lower().split(","):
        name, _, parameter = part.partition(";")
        name = name.strip().partition("-")[0]
        if name:
            wishes[name] = max(_quality(parameter), wishes.get(name, 0))
    return wishes


def _quality(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if not name.strip():
        return 1
    try:
        quality = float(value)
    except ValueError:
        return 0
    return quality if name.strip() == "q" and 0 <= quality <= 1 else 0
