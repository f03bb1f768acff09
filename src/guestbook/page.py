"""The pages: rendered from memory, once for each state of the guestbook and each language."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import segno
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.types import Scope

from guestbook import __version__, address, assets, negotiation, words
from guestbook.draft import AUTHOR_MAX, TEXT_MAX, normalise
from guestbook.entry import EntryId
from guestbook.guestbook import Guestbook
from guestbook.links import linkify
from guestbook.problem import ProblemError
from guestbook.representation import Representation

_SHOWN = 50
_REMEMBERED = 64
_HUES = 24
_LONGEST = {"text": TEXT_MAX, "author": AUTHOR_MAX}
_HTML = "text/html; charset=utf-8"


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
    """Makes the pages."""

    def __init__(self, guestbook: Guestbook, static: assets.Assets) -> None:
        templates = assets.folder("templates")
        environment = Environment(
            loader=FileSystemLoader(templates),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(
            asset=static.url,
            hue=hue(guestbook.name),
            lab=False,
            pod=guestbook.name,
            version=__version__,
            text_max=TEXT_MAX,
            author_max=AUTHOR_MAX,
        )
        self._guestbook = guestbook
        self._book = environment.get_template("page.html")
        self._wall = environment.get_template("wall.html")
        self._words = words.load(templates / "words.toml")
        self._languages = tuple(self._words)
        self._state: object = None
        self._rendered: dict[object, Representation] = {}

    def language(self, scope: Scope) -> str:
        """The language to answer a request in."""
        accepted = dict(scope["headers"]).get(b"accept-language", b"")
        return negotiation.language(accepted, self._languages)

    def current(self, language: str) -> Representation:
        """The page as it is now."""
        return self._as_it_is(language, lambda: self._html(self._newest_page(language), language))

    def wall(self, language: str, public: str) -> Representation:
        """The page for a projector, with the address at which others find the guestbook."""

        def render() -> Representation:
            html = self._wall.render(
                self._context(language, self._newest()),
                address=public,
                qr=_qr(public),
            )
            return self._html(html, language, address.VARY)

        return self._as_it_is(("wall", language, public), render)

    def refused(self, language: str, problem: ProblemError, typed: Typed) -> bytes:
        """The page with what the visitor typed, and in their language why it was not taken."""
        error = _form_error(self._words[language], problem, typed)
        return self._newest_page(language, error, typed).encode()

    async def older(self, language: str, before: EntryId) -> Representation:
        """The page of the messages before that one. Raises UnavailableError."""
        listing = await self._guestbook.newest(_SHOWN, before)
        context = self._context(language, listing.messages)
        older = f"/?before={listing.last}" if listing.has_more else None
        html = self._book.render(context, is_archive=True, older=older, error=None, typed=Typed())
        return self._html(html, language)

    def _as_it_is(self, key: object, render: Callable[[], Representation]) -> Representation:
        """What `render` makes of the guestbook, once for each of its states."""
        log = self._guestbook.log
        state = (log.start, log.end, log.last, log.is_loaded)
        if state != self._state:
            self._rendered = {}
            self._state = state
        found = self._rendered.get(key)
        if found is None:
            # Clients may ask for any number of addresses.
            if len(self._rendered) >= _REMEMBERED:
                self._rendered.clear()
            found = self._rendered[key] = render()
        return found

    def _newest(self) -> list[bytes]:
        return [r.json for r in itertools.islice(self._guestbook.log.newest(), _SHOWN)]

    def _newest_page(
        self, language: str, error: FormError | None = None, typed: Typed | None = None
    ) -> str:
        log = self._guestbook.log
        newest = list(itertools.islice(log.newest(), _SHOWN + 1))
        has_more = len(newest) > _SHOWN or (bool(newest) and not log.is_whole)
        shown = newest[:_SHOWN]
        return self._book.render(
            self._context(language, [record.json for record in shown]),
            is_archive=False,
            older=f"/?before={shown[-1].id}" if has_more else None,
            error=error,
            typed=typed or Typed(),
        )

    def _context(self, language: str, messages: Iterable[bytes]) -> dict[str, Any]:
        settings, log = self._guestbook.settings, self._guestbook.log
        catalogue = self._words[language]
        return {
            "t": catalogue,
            "lang": language,
            "title": settings.title or catalogue["title"],
            "welcome": settings.welcome or catalogue["welcome"],
            "messages": [_shown(message) for message in messages],
            "cursor": str(log.last) if log.is_loaded else "",
        }

    def _html(self, html: str, language: str, vary: str = "") -> Representation:
        headers = {"Cache-Control": "no-cache", "Content-Language": language}
        varies = f"Accept-Language, {vary}" if vary else "Accept-Language"
        return Representation(html.encode(), _HTML, headers, vary=varies)


def _form_error(catalogue: words.Words, problem: ProblemError, typed: Typed) -> FormError:
    """Tells a problem by the sentence `text_too_long`, else by `refused_503`, else in general."""
    if problem.field in _LONGEST:
        sentence = catalogue.get(f"{problem.field}_{problem.code}")
        if sentence is not None:
            n = len(normalise(getattr(typed, problem.field)))
            return FormError(problem.field, sentence.format(n=n, max=_LONGEST[problem.field]))
    sentence = catalogue.get(f"refused_{problem.status}", catalogue["refused"])
    return FormError("", sentence.format(seconds=problem.headers.get("Retry-After")))


def _shown(message: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(message)
    return {**said, "html": linkify(said["text"]), "hue": hue(said["pod"])}


@functools.lru_cache(maxsize=256)
def hue(pod: str) -> int:
    """A pod's colour, by its name: FNV-1a of 32 bits, as the page's script computes it too."""
    value = 2166136261
    for byte in pod.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value % _HUES


@functools.lru_cache(maxsize=16)
def _qr(public: str) -> Markup:
    """A QR code as SVG without styles; white around it, since a camera wants contrast."""
    code = segno.make(public, micro=False)
    return Markup(  # noqa: S704  # drawn from numbers alone
        code.svg_inline(omitsize=True, svgclass=None, lineclass=None, border=2, light="#fff")
    )
