"""The catalogue: every word of the page, in each language that it speaks."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import Any

Words = MappingProxyType[str, str]


def load(path: Path) -> dict[str, Words]:
    """The words of each language; the first is for whoever understands none of them."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(path.read_text("utf-8"))
    return {language: MappingProxyType(words) for language, words in tables.items()}
