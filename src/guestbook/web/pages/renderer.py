"""The pages: rendered from memory, once for each state of the guestbook and each language."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import segno
from markupsafe import Markup

from guestbook import __version__
from guestbook.core import AUTHOR_MAX, TEXT_MAX, EntryId, Message, ProblemError, normalise
from guestbook.pod import Guestbook
from guestbook.web import public_url as address
from guestbook.web.pages import templates
from guestbook.web.pages.cache import CachedResponse, Current
from guestbook.web.pages.linkify import linkify
from guestbook.web.pages.static import Assets
from guestbook.web.pages.translations import Translations, Words

_SHOWN = 50
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

    def __init__(self, guestbook: Guestbook, static: Assets, translations: Translations) -> None:
        environment = templates.environment()
        environment.globals.update(
            asset=static.url,
            modules=static.modules,
            hue=hue(guestbook.name),
            lab=guestbook.settings.lab,
            pod=guestbook.name,
            version=__version__,
            text_max=TEXT_MAX,
            author_max=AUTHOR_MAX,
        )
        self._book = environment.get_template("page.html")
        self._wall = environment.get_template("wall.html")
        self._guestbook = guestbook
        self.translations = translations
        self._current = Current(guestbook.log)

    def current(self, language: str) -> CachedResponse:
        """The page as it is now."""
        return self._current.get(language, lambda: _html(self._newest(language), language))

    def refused(self, language: str, problem: ProblemError, typed: Typed) -> bytes:
        """The page with what the visitor typed, and in their language why it was not taken."""
        error = _form_error(self.translations[language], problem, typed)
        return self._newest(language, error, typed).encode()

    async def older(self, language: str, before: EntryId) -> CachedResponse:
        """The page of the messages before that one. Raises UnavailableError."""
        listing = await self._guestbook.newest(_SHOWN, before)
        html = self._book.render(
            self._context(language, listing.messages),
            is_archive=True,
            older=_older(listing.messages[-1].id) if listing.has_more else None,
            error=None,
            typed=Typed(),
        )
        return _html(html, language)

    def wall(self, language: str, public: str) -> CachedResponse:
        """The page for a projector, with the address at which others find the guestbook."""

        def make() -> CachedResponse:
            newest = itertools.islice(self._guestbook.log.newest(), _SHOWN)
            context = self._context(language, newest)
            html = self._wall.render(context, address=public, qr=_qr(public))
            return _html(html, language, address.VARY)

        return self._current.get((language, public), make)

    def _newest(
        self, language: str, error: FormError | None = None, typed: Typed | None = None
    ) -> str:
        log = self._guestbook.log
        newest = list(itertools.islice(log.newest(), _SHOWN + 1))
        has_more = len(newest) > _SHOWN or (bool(newest) and not log.is_complete)
        shown = newest[:_SHOWN]
        return self._book.render(
            self._context(language, shown),
            is_archive=False,
            older=_older(shown[-1].id) if has_more else None,
            error=error,
            typed=typed or Typed(),
        )

    def _context(self, language: str, messages: Iterable[Message]) -> dict[str, Any]:
        settings, log = self._guestbook.settings, self._guestbook.log
        words = self.translations[language]
        return {
            "t": words,
            "lang": language,
            "title": settings.title or words["title"],
            "welcome": settings.welcome or words["welcome"],
            "messages": [_shown(message) for message in messages],
            "cursor": str(log.last) if log.is_loaded else "",
        }


def _html(html: str, language: str, vary: str = "") -> CachedResponse:
    headers = {"Cache-Control": "no-cache", "Content-Language": language}
    varies = f"Accept-Language, {vary}" if vary else "Accept-Language"
    return CachedResponse(html.encode(), _HTML, headers, vary=varies)


def _older(before: EntryId | None) -> str:
    return f"/?before={before}"


def _form_error(words: Words, problem: ProblemError, typed: Typed) -> FormError:
    """Tells a problem by the sentence `text_too_long`, else by `refused_503`, else in general."""
    if problem.field in _LONGEST:
        sentence = words.get(f"{problem.field}_{problem.code}")
        if sentence is not None:
            n = len(normalise(getattr(typed, problem.field)))
            return FormError(problem.field, sentence.format(n=n, max=_LONGEST[problem.field]))
    sentence = words.get(f"refused_{problem.status}", words["refused"])
    return FormError("", sentence.format(seconds=problem.headers.get("Retry-After")))


def _shown(message: Message) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "author": message.author,
        "posted_at": message.posted_at,
        "pod": message.pod,
        "html": linkify(message.text),
        "hue": hue(message.pod),
    }


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
