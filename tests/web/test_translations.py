"""The words of the page, and the language in which a visitor gets them."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.web.pages import i18n
from guestbook.web.pages import static as assets
from guestbook.web.pages.i18n import Translations

CATALOGUE = Translations(assets.folder("templates") / "words.toml")
LANGUAGES = CATALOGUE.languages


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


def test_languages_say_the_same() -> None:
    """Every language has every sentence, with the same placeholders; none is empty."""
    assert LANGUAGES == ("en", "fr")
    english, french = CATALOGUE["en"], CATALOGUE["fr"]
    assert list(english) == list(french)
    for key in english:
        assert placeholders(english[key]) == placeholders(french[key]), key
        assert english[key].strip()
        assert french[key].strip()


def test_french_is_set_as_french_is() -> None:
    """The apostrophe is typographic, and no line can break before a colon or an exclamation."""
    for key, sentence in CATALOGUE["fr"].items():
        assert "'" not in sentence, key
        assert not re.search(r"[^\u00a0\u202f][:;!?»]", sentence), key


def test_templates_use_every_word_and_no_other() -> None:
    """What nobody shows any more is gone; a word that is missing would be a server error."""
    templates = assets.folder("templates").glob("*.html")
    used = set(re.findall(r"\bt\.(\w+)", "".join(file.read_text() for file in templates)))
    by_python = {key for key in CATALOGUE["en"] if re.match("(text|author)_|refused|title$", key)}
    assert used | by_python | {"welcome"} == set(CATALOGUE["en"])


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
def test_language_is_the_one_that_is_wanted_most(accepted: str, language: str) -> None:
    """Weights count (RFC 9110, section 12.4.2), then the order; English for everybody else."""
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
def test_gzip_is_sent_to_who_takes_it(accepted: str, is_taken: bool) -> None:
    """And to nobody else, since a client without it would see garbage."""
    assert i18n.accepts_gzip(accepted) is is_taken


@given(st.binary().map(lambda data: data.decode("latin-1")))
def test_any_header_gives_a_language(accepted: str) -> None:
    """Nothing that a client sends is an error."""
    assert i18n.choose_language(accepted, LANGUAGES) in LANGUAGES
    assert i18n.accepts_gzip(accepted) in (True, False)
