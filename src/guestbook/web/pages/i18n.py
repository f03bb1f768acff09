"""The languages of the pages, and the negotiation of languages and media types."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from types import MappingProxyType

from starlette.types import Scope

Words = MappingProxyType[str, str]

# A browser sends less than 100 characters; more than this is neither read nor cached.
_MAX_LENGTH = 256
_WEIGHT = re.compile(r"\s*q\s*=\s*(0(?:\.\d*)?|1(?:\.0*)?)\s*")


class Translations:
    """The texts of the pages in each language; the first language is the default."""

    def __init__(self, path: Path) -> None:
        tables = tomllib.loads(path.read_text("utf-8"))
        self._words = {language: MappingProxyType(words) for language, words in tables.items()}
        self.languages = tuple(self._words)

    def __getitem__(self, language: str) -> Words:
        return self._words[language]

    def language(self, scope: Scope) -> str:
        """Return the language in which to answer a request."""
        header = dict(scope["headers"]).get(b"accept-language", b"")
        return choose_language(header.decode("latin-1"), self.languages)


def choose_language(accepted: str, available: tuple[str, ...]) -> str:
    """Return the language that an `Accept-Language` header prefers, by default the first."""
    wanted = _preferences(accepted[:_MAX_LENGTH])
    for name, weight in wanted.items():
        for language in available if weight else ():
            if name == language or (name == "*" and language not in wanted):
                return language
    return available[0]


def accepts_gzip(accepted: str) -> bool:
    """Return whether an `Accept-Encoding` header allows a compressed body."""
    wanted = _preferences(accepted[:_MAX_LENGTH])
    return wanted.get("gzip", wanted.get("*", 0)) > 0


def prefers_page(accepted: str) -> bool:
    """Return whether an `Accept` header names HTML, and above JSON: only browsers do so."""
    wanted = _preferences(accepted[:_MAX_LENGTH])
    json = max((weight for name, weight in wanted.items() if "json" in name), default=0)
    return wanted.get("text/html", 0) > json


@functools.lru_cache(maxsize=256)
def _preferences(header: str) -> dict[str, float]:
    """Return the values of a header with their weights (RFC 9110, section 12.4.2), best first.

    Of a language the part before `-` counts. A weight that cannot be read is 0, because it may
    have been meant as a refusal.
    """
    found: dict[str, float] = {}
    for part in header.lower().split(","):
        name, _, parameter = part.partition(";")
        name = name.strip().partition("-")[0]
        weight = _WEIGHT.fullmatch(parameter or "q=1")
        if name:
            found[name] = max(float(weight[1]) if weight else 0, found.get(name, 0))
    return dict(sorted(found.items(), key=lambda item: -item[1]))
