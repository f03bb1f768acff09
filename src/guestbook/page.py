"""The page: rendered from memory, once for each state of the guestbook."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from guestbook import __version__
from guestbook.draft import AUTHOR_MAX, TEXT_MAX
from guestbook.guestbook import Guestbook

_SHOWN = 50


def assets(name: str) -> Path:
    """The folder `templates` or `static`: beside this file in a wheel, else the repository's."""
    installed = Path(__file__).parent / name
    return installed if installed.is_dir() else Path(__file__).parents[2] / name


@dataclass(frozen=True, slots=True)
class Rendered:
    """The page as it is sent."""

    html: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Typed:
    """What a visitor typed, to be given back."""

    text: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class FormError:
    """Why a form was refused; `field` is empty where the reason lies in none of them."""

    field: str
    reason: str


class Page:
    """Makes the page."""

    def __init__(self, guestbook: Guestbook) -> None:
        self._guestbook = guestbook
        environment = Environment(
            loader=FileSystemLoader(assets("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._template = environment.get_template("page.html")
        self._state: object = None
        self._rendered = Rendered(b"", "")

    def current(self) -> Rendered:
        """The page as it is now."""
        log = self._guestbook.log
        state = (log.end, log.last, log.is_loaded)
        if state != self._state:
            html = self.with_error(None, Typed())
            digest = hashlib.sha256(html).hexdigest()[:32]
            self._rendered = Rendered(html, f'"{digest}"')
            self._state = state
        return self._rendered

    def with_error(self, error: FormError | None, typed: Typed) -> bytes:
        """The page with what the visitor typed, and why it was not taken."""
        guestbook = self._guestbook
        settings = guestbook.settings
        newest = itertools.islice(guestbook.log.newest(), _SHOWN)
        html = self._template.render(
            title=settings.title,
            welcome=settings.welcome,
            messages=[json.loads(record.json) for record in newest],
            cursor=str(guestbook.log.last) if guestbook.log.is_loaded else "",
            pod=guestbook.name,
            version=__version__,
            error=error,
            typed=typed,
            text_max=TEXT_MAX,
            author_max=AUTHOR_MAX,
        )
        return html.encode()
