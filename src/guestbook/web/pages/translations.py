"""The translations: every word of the pages, in each language that they speak."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import MappingProxyType

from starlette.types import Scope

from guestbook.web.pages import negotiation

Words = MappingProxyType[str, str]


class Translations:
    """The words of each language. The first language is for whoever understands none of them."""

    def __init__(self, path: Path) -> None:
        tables = tomllib.loads(path.read_text("utf-8"))
        self._words = {language: MappingProxyType(words) for language, words in tables.items()}
        self.languages = tuple(self._words)

    def __getitem__(self, language: str) -> Words:
        return self._words[language]

    def language(self, scope: Scope) -> str:
        """The language in which to answer a request."""
        accepted = dict(scope["headers"]).get(b"accept-language", b"")
        return negotiation.language(accepted, self.languages)
