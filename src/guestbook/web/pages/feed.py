"""The newest messages as an Atom feed (RFC 4287)."""

from __future__ import annotations

import itertools
import re
import uuid
from typing import Any

from guestbook import __version__
from guestbook.core import Message
from guestbook.pod import Guestbook
from guestbook.web import public_url
from guestbook.web.pages import templates
from guestbook.web.pages.cache import CachedResponse, ResponseCache, page_headers
from guestbook.web.pages.i18n import Translations
from guestbook.web.pages.static import Assets
from guestbook.web.pages.title import title_of, without_direction

MEDIA_TYPE = "application/atom+xml"

_COUNT = 50
# Characters that XML does not allow, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Feed:
    """Render the feed, once for each state of the guestbook, language and address."""

    def __init__(self, guestbook: Guestbook, static: Assets, translations: Translations) -> None:
        self._guestbook = guestbook
        self._translations = translations
        environment = templates.environment()
        environment.globals["asset"] = static.url
        self._template = environment.get_template("feed.xml")
        self._cache = ResponseCache(guestbook.log)

    def current(self, language: str, public: str, *, in_browser: bool) -> CachedResponse:
        """Return the feed as it is now, for readers that know the guestbook as `public`.

        Browsers show XML; Firefox saves a feed as a file.
        """
        media_type = "text/xml" if in_browser else f"{MEDIA_TYPE}; charset=utf-8"

        def make() -> CachedResponse:
            return CachedResponse(
                self._render(language, public),
                media_type=media_type,
                headers=page_headers(language, f"Accept, {public_url.VARY}"),
            )

        return self._cache.get((language, public, in_browser), make)

    def _render(self, language: str, public: str) -> str:
        words, settings = self._translations[language], self._guestbook.settings
        log = self._guestbook.log
        xml = self._template.render(
            anonymous=words["anonymous"],
            entries=map(_entry, itertools.islice(log.newest(), _COUNT)),
            id=uuid.uuid5(uuid.NAMESPACE_URL, public).urn,
            language=language,
            media_type=MEDIA_TYPE,
            public=public,
            title=settings.title or words["title"],
            updated=log.last.time,
            version=__version__,
            welcome=settings.welcome or words["welcome"],
        )
        return _NOT_IN_XML.sub("\ufffd", xml)


def _entry(message: Message) -> dict[str, Any]:
    # Two guestbooks may each have a message of the same id, and a reader may follow both.
    name = f"{message.id} {message.pod} {message.author}"
    return {
        "message": message,
        "id": uuid.uuid5(uuid.NAMESPACE_OID, name).urn,
        "title": title_of(message.text),
        "author": without_direction(message.author or ""),
    }
