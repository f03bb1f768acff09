"""The texts of the pages, and the choice of the language."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.web.pages import i18n
from guestbook.web.pages import static as assets
from guestbook.web.pages.i18n import Translations

TRANSLATIONS = Translations(assets.folder("templates") / "words.toml")
LANGUAGES = TRANSLATIONS.languages


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


def test_languages_have_the_same_texts() -> None:
    """Every language has every text, with the same placeholders; none is empty."""
    assert LANGUAGES == ("en", "fr")
    english, french = TRANSLATIONS["en"], TRANSLATIONS["fr"]
    assert list(english) == list(french)
    for key in english:
        assert placeholders(english[key]) == placeholders(french[key]), key
        assert english[key].strip()
        assert french[key].strip()


def test_french_typography() -> None:
    """Typographic apostrophes, and no line break before a colon or an exclamation mark."""
    for key, sentence in TRANSLATIONS["fr"].items():
        assert "'" not in sentence, key
        assert not re.search(r"[^\u00a0\u202f][:;!?»]", sentence), key


def test_templates_use_every_text_and_no_other() -> None:
    """Unused texts are removed; a missing one would be a server error."""
    templates = assets.folder("templates").glob("*.html")
    used = set(re.findall(r"\bt\.(\w+)", "".join(file.read_text() for file in templates)))
    by_code = {
        key
        for key in TRANSLATIONS["en"]
        if re.match("(text|author|wall)_|refused|error|title$", key)
    }
    assert used | by_code | {"welcome"} == set(TRANSLATIONS["en"])


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("fr", "fr"),
        ("en", "en"),
        ("FR-ca", "fr"),
        ("fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7", "fr"),
        ("en-US,en;q=0.9,fr;q=0.8", "en"),
        ("de", "en"),
        ("de, fr;q=0.1", "fr"),
        ("en;q=0.5, fr;q=0.6", "fr"),
        ("fr;q=0", "en"),
        ("fr;q=0.000, *;q=0.1", "en"),
        ("*", "en"),
        ("en;q=0, *", "fr"),
        ("en;q=0.2, *;q=0.5", "fr"),
        ("fr;q=1.0,en;q=1.0", "fr"),
        ("fr ; q = 0.9 , en;q=0.1", "fr"),
        ("fr;q=banana, en;q=0.1", "en"),
        ("fr;q=nan, en;q=0.1", "en"),
        ("fr;q=-1", "en"),
        ("fr;q=7, en;q=0.5", "en"),
        ("french", "en"),
        (",,;;,=", "en"),
        ("x" * 300 + ",fr", "en"),
    ],
)
def test_language_is_the_preferred_one(accepted: str, language: str) -> None:
    """Weights count (RFC 9110, section 12.4.2), then the order; English by default."""
    assert i18n.choose_language(accepted, LANGUAGES) == language


@pytest.mark.parametrize(
    ("accepted", "is_taken"),
    [
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.001", True),
        ("gzip;q=0", False),
        ("*", True),
        ("*, gzip;q=0", False),
        ("identity", False),
        ("br", False),
    ],
)
def test_gzip_needs_a_client_that_accepts_it(accepted: str, is_taken: bool) -> None:
    """Any other client would see garbage."""
    assert i18n.accepts_gzip(accepted) is is_taken


@pytest.mark.parametrize(
    ("accepted", "is_page"),
    [
        # Firefox and Safari, Chrome, curl, fetch(), EventSource, an image
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html,application/xml;q=0.9,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7", True),
        ("*/*", False),
        ("", False),
        ("text/event-stream", False),
        ("image/avif,image/webp,*/*", False),
        ("Text/HTML", True),
        ("text/html, application/json;q=0.9", True),
        ("text/html, application/json", False),
        ("application/json, text/html;q=0.5", False),
        ("application/problem+json, text/html;q=0.5", False),
        ("text/html;q=0", False),
        ("text/*", False),
    ],
)
def test_page_needs_a_client_that_names_it(accepted: str, is_page: bool) -> None:
    """Tools that accept anything, or JSON as well, get JSON."""
    assert i18n.prefers_page(accepted) is is_page


@given(st.binary().map(lambda data: data.decode("latin-1")))
def test_any_header_leads_to_a_language(accepted: str) -> None:
    """No header is an error."""
    assert i18n.choose_language(accepted, LANGUAGES) in LANGUAGES
    assert i18n.accepts_gzip(accepted) in (True, False)
    assert i18n.prefers_page(accepted) in (True, False)
