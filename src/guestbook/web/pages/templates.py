"""Jinja2 as the pages, the feed and the export to HTML use it."""

from __future__ import annotations

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from guestbook.web.pages import static as assets


def environment(*, is_async: bool = False) -> Environment:
    """Return an environment that escapes every value, and where a missing one is an error."""
    return Environment(
        loader=FileSystemLoader(assets.folder("templates")),
        autoescape=True,
        enable_async=is_async,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
