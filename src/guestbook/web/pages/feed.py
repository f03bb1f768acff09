"""The newest messages as an Atom feed (RFC 4287)."""

from __future__ import annotations

import itertools
import re
import uuid
from xml.etree.ElementTree import Element, SubElement, tostring

from guestbook import __version__
from guestbook.core import Message
from guestbook.pod import Guestbook
from guestbook.web import public_url as address
from guestbook.web.pages.cache import CachedResponse, Current
from guestbook.web.pages.translations import Translations, Words

MEDIA_TYPE = "application/atom+xml"

_SHOWN = 50
_TITLE_MAX = 60
# XML cannot have these at all, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Feed:
    """Makes the feed."""

    def __init__(self, guestbook: Guestbook, translations: Translations) -> None:
        self._guestbook = guestbook
        self._catalogue = translations
        self._current = Current(guestbook.log)

    def current(self, language: str, public: str) -> CachedResponse:
        """The feed as it is now, for whoever reaches the guestbook at the address `public`."""

        def make() -> CachedResponse:
            xml = tostring(self._feed(language, public), encoding="utf-8", xml_declaration=True)
            headers = {"Cache-Control": "no-cache", "Content-Language": language}
            vary = f"Accept-Language, {address.VARY}"
            return CachedResponse(xml, f"{MEDIA_TYPE}; charset=utf-8", headers, vary=vary)

        return self._current.get((language, public), make)

    def _feed(self, language: str, public: str) -> Element:
        words = self._catalogue[language]
        settings, log = self._guestbook.settings, self._guestbook.log
        feed = Element("feed", {"xmlns": "http://www.w3.org/2005/Atom", "xml:lang": language})
        _add(feed, "id", uuid.uuid5(uuid.NAMESPACE_URL, public).urn)
        _add(feed, "title", settings.title or words["title"])
        _add(feed, "subtitle", settings.welcome or words["welcome"])
        _add(feed, "updated", log.last.time)
        _add(feed, "generator", "Guestbook", version=__version__)
        _add(feed, "link", rel="self", type=MEDIA_TYPE, href=f"{public}/feed.atom")
        _add(feed, "link", rel="alternate", type="text/html", href=f"{public}/")
        for message in itertools.islice(log.newest(), _SHOWN):
            _add_entry(feed, message, public, words)
        return feed


def _add_entry(feed: Element, message: Message, public: str, words: Words) -> None:
    text, posted_at = message.text, message.posted_at
    # Two guestbooks may each have a message of the same id, and a reader may follow both.
    name = f"{message.id} {message.pod} {text}"
    entry = SubElement(feed, "entry")
    _add(entry, "id", uuid.uuid5(uuid.NAMESPACE_OID, name).urn)
    _add(entry, "title", _title(text))
    _add(entry, "updated", posted_at)
    _add(entry, "published", posted_at)
    _add(SubElement(entry, "author"), "name", message.author or words["anonymous"])
    _add(entry, "link", rel="alternate", type="text/html", href=f"{public}/#{message.id}")
    _add(entry, "content", text, type="text")


def _add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> None:
    element = SubElement(parent, tag, attributes)
    element.text = None if text is None else _NOT_IN_XML.sub("\ufffd", text)


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TITLE_MAX else f"{line[: _TITLE_MAX - 1].rstrip()}…"
