"""How Jinja2 is used: the same way for the pages and for the book to print."""

from __future__ import annotations

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from guestbook.web.pages import static as assets


def environment(*, is_async: bool = False) -> Environment:
    """The templates that come with the program; what has no value is an error."""
    return Environment(
        loader=FileSystemLoader(assets.folder("templates")),
        autoescape=True,
        enable_async=is_async,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
