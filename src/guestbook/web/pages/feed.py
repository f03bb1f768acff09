"""The newest messages as an Atom feed (RFC 4287)."""

from __future__ import annotations

import itertools
import re
import uuid
from typing import Any

from guestbook.core import Message
from guestbook.web import public_url
from guestbook.web.pages.cache import CachedResponse, page_response
from guestbook.web.pages.renderer import Page
from guestbook.web.pages.title import title_of, without_direction

MEDIA_TYPE = "application/atom+xml"

_COUNT = 50
# Characters that XML does not allow, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def current(page: Page, language: str, public: str, *, in_browser: bool) -> CachedResponse:
    """Return the feed as it is now, for readers that know the guestbook as `public`.

    Browsers show XML; Firefox saves a feed as a file.
    """

    def make() -> CachedResponse:
        xml = page.environment.get_template("feed.xml").render(
            page.context(language),
            entries=map(_entry, itertools.islice(page.log.newest(), _COUNT)),
            id=uuid.uuid5(uuid.NAMESPACE_URL, public).urn,
            media_type=MEDIA_TYPE,
            public=public,
            updated=page.log.last.time,
        )
        return page_response(
            _NOT_IN_XML.sub("\ufffd", xml),
            language,
            f"Accept, {public_url.VARY}",
            media_type="text/xml" if in_browser else f"{MEDIA_TYPE}; charset=utf-8",
        )

    return page.cache.get(("feed", language, public, in_browser), make)


def _entry(message: Message) -> dict[str, Any]:
    # Two guestbooks may each have a message of the same id, and a reader may follow both.
    name = f"{message.id} {message.pod} {message.author}"
    return {
        "message": message,
        "id": uuid.uuid5(uuid.NAMESPACE_OID, name).urn,
        "title": title_of(message.text),
        "author": without_direction(message.author or ""),
    }
