"""The pages, rendered from memory once for each state of the guestbook and each language."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import segno
from markupsafe import Markup

from guestbook import __version__
from guestbook.core import AUTHOR_MAX, TEXT_MAX, EntryId, Message, ProblemError
from guestbook.pod import Guestbook
from guestbook.web import public_url
from guestbook.web.pages import templates
from guestbook.web.pages.cache import CachedResponse, ResponseCache, page_response
from guestbook.web.pages.i18n import Translations, Words
from guestbook.web.pages.linkify import linkify
from guestbook.web.pages.static import Assets

_COUNT = 50
# An entry with more lines is shown in part; static/js does the same.
_LINES = 12
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n){2,}")


class FormData(NamedTuple):
    """The input of the form."""

    text: str = ""
    author: str = ""


class FormError(NamedTuple):
    """Why a form was rejected; `field` is empty where no single field is the reason."""

    field: str
    reason: str


class Page:
    """Render the pages."""

    def __init__(self, guestbook: Guestbook, static: Assets, translations: Translations) -> None:
        environment = self.environment = templates.environment()
        is_for_guests = guestbook.settings.audience == "guests"
        environment.globals.update(
            asset=static.url,
            modules=static.modules,
            hue=hue(guestbook.name),
            lab=guestbook.settings.lab and not is_for_guests,
            is_for_guests=is_for_guests,
            pod=guestbook.name,
            version=__version__,
            text_max=TEXT_MAX,
            author_max=AUTHOR_MAX,
            undo_seconds=guestbook.settings.undo_seconds,
            rules=_rules,
            # Most pages have none of these.
            is_archive=False,
            is_single=False,
            is_held=False,
            error=None,
            form=FormData(),
        )
        self._page = environment.get_template("page.html")
        self._error = environment.get_template("error.html")
        self._wall = environment.get_template("wall.html")
        self._moderate = environment.get_template("moderate.html")
        self._guestbook = guestbook
        self.log = guestbook.log
        self.translations = translations
        self.cache = ResponseCache(self._state)

    def _state(self) -> object:
        log = self.log
        closed = self._guestbook.presence.notices.get("closed")
        return log.start, log.end, log.last, log.is_loaded, closed

    def current(self, language: str, *, is_held: bool = False) -> CachedResponse:
        """Return the page of the newest messages; with a note where the visitor's own one waits."""

        def make() -> CachedResponse:
            return page_response(self._newest(language, is_held=is_held), language)

        return self.cache.get((language, "held" if is_held else "current"), make)

    def refused(self, language: str, problem: ProblemError, form: FormData) -> str:
        """Return the page with the input of the form, and why it was rejected."""
        error = _form_error(self.translations[language], problem)
        return self._newest(language, error=error, form=form)

    async def older(self, language: str, before: EntryId) -> CachedResponse:
        """Return the page of the newest messages before one. Raises UnavailableError."""
        messages, has_more = await self._guestbook.newest(_COUNT, before)
        html = self._render(language, messages, has_more=has_more, is_archive=True)
        return page_response(html, language)

    def message(self, language: str, message: Message) -> CachedResponse:
        """Return the page of one message."""
        html = self._render(language, [message], is_archive=True, is_single=True)
        return page_response(html, language, "Accept")

    def error(self, language: str, problem: ProblemError) -> str:
        """Return the page for an error."""
        words = self.translations[language]
        by_status = words.get(f"error_{problem.status}", words["error"])
        reason = words.get(f"error_{problem.code}", by_status)
        return self._error.render(self.context(language), reason=reason)

    def wall(self, language: str, public: str) -> CachedResponse:
        """Return the page for a projector, which shows the address `public`."""

        def make() -> CachedResponse:
            newest = itertools.islice(self.log.newest(), _COUNT)
            context = self.context(language, newest)
            shown = {"address": public, "is_local": _is_local(public), "qr": _qr(public)}
            html = self._wall.render(context, **shown)
            return page_response(html, language, public_url.VARY)

        return self.cache.get((language, public), make)

    def moderate(self, language: str) -> CachedResponse:
        """Return the page for moderators. It has nothing that is not public."""

        def make() -> CachedResponse:
            newest = list(itertools.islice(self.log.newest(), _COUNT))
            context = self.context(language, newest)
            book = context["title"]
            context["title"] = f"{context['t']['moderate']} · {book}"
            older = f"/?before={newest[-1].id}" if newest else None
            return page_response(self._moderate.render(context, book=book, older=older), language)

        return self.cache.get((language, "moderate"), make)

    def _newest(self, language: str, **details: Any) -> str:
        log = self.log
        newest = list(itertools.islice(log.newest(), _COUNT + 1))
        has_more = len(newest) > _COUNT or (bool(newest) and not log.is_complete)
        return self._render(language, newest[:_COUNT], has_more=has_more, **details)

    def _render(
        self, language: str, messages: list[Message], *, has_more: bool = False, **details: Any
    ) -> str:
        older = f"/?before={messages[-1].id}" if has_more else None
        context = self.context(language, messages)
        return self._page.render(context, older=older, **details)

    def context(self, language: str, messages: Iterable[Message] = ()) -> dict[str, Any]:
        """Return the variables that every page has."""
        settings = self._guestbook.settings
        words = self.translations[language]
        return {
            "t": words,
            "lang": language,
            "title": settings.title or words["title"],
            "welcome": settings.welcome or words["welcome"],
            "closed": self._guestbook.presence.notices.get("closed", ""),
            "messages": [_entry(message) for message in messages],
            "cursor": str(self.log.last) if self.log.is_loaded else "",
        }


def _rules(words: Words, field: str) -> dict[str, str]:
    """Return the sentences about a field, by the code of the rule that it breaks."""
    prefix = f"{field}_"
    return {key.removeprefix(prefix): text for key, text in words.items() if key.startswith(prefix)}


def _form_error(words: Words, problem: ProblemError) -> FormError:
    """Translate a problem: by its field and code, else by its status, else in general."""
    if problem.field:
        sentence = _rules(words, problem.field).get(problem.code)
        if sentence is not None:
            return FormError(problem.field, sentence.format(**problem.numbers))
    if problem.code == "closed":
        return FormError("", problem.detail)
    by_status = words.get(f"refused_{problem.status}", words["refused"])
    sentence = words.get(f"refused_{problem.code}", by_status)
    return FormError("", sentence.format(seconds=problem.headers.get("Retry-After")))


def _entry(message: Message) -> dict[str, Any]:
    text = _BLANK_LINES.sub("\n\n", message.text)
    return {
        "id": str(message.id),
        "author": message.author,
        "posted_at": message.posted_at,
        "edited_at": message.edited_at,
        "pod": message.pod,
        "html": linkify(text),
        "is_long": text.count("\n") >= _LINES,
        "hue": hue(message.pod),
    }


@functools.lru_cache(maxsize=256)
def hue(pod: str) -> str:
    """Return the two colours of a pod, a hexadecimal digit each. static/js computes the same.

    They are the low byte of the name's FNV-1a.
    """
    value = 2166136261
    for byte in pod.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return f"{value & 0xFF:02x}"


def _is_local(public: str) -> bool:
    """Return whether a host is this machine, such as localhost."""
    name = urlsplit(public).hostname or ""
    return name == "::1" or name.startswith("127.") or name.rpartition(".")[2] == "localhost"


@functools.lru_cache(maxsize=16)
def _qr(public: str) -> Markup:
    """Return a QR code as SVG without styles, on white, because cameras need contrast."""
    code = segno.make(public, micro=False)
    return Markup(  # noqa: S704  # drawn from numbers alone
        code.svg_inline(omitsize=True, svgclass=None, lineclass=None, border=2, light="#fff")
    )
