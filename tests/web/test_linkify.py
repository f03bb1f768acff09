"""Addresses in texts become links, and nothing else changes."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.web.pages.linkify import linkify

TEXTS = [
    ("see https://example.org/a?b=c&d#e now", ["https://example.org/a?b=c&d#e"]),
    ("http://a.b and https://c.d", ["http://a.b", "https://c.d"]),
    ("https://example.org.", ["https://example.org"]),
    ("Really, https://example.org?!…", ["https://example.org"]),
    ("is it 'https://example.org/x'?", ["https://example.org/x"]),
    ("(https://example.org/x)", ["https://example.org/x"]),
    ("https://en.wikipedia.org/wiki/Pod_(biology)", ["https://en.wikipedia.org/wiki/Pod_(biology)"]),
    ("(as in https://en.wikipedia.org/wiki/Pod_(biology)).",
     ["https://en.wikipedia.org/wiki/Pod_(biology)"]),
    ("[https://example.org/[a]]", ["https://example.org/[a]"]),
    ("https://example.org/))))", ["https://example.org/"]),
    ("https://example.org/<b>", ["https://example.org/"]),
    ('<a href="https://example.org">', ["https://example.org"]),
    ("`https://example.org`", ["https://example.org"]),
    ("https://example.org/\u00a0x", ["https://example.org/"]),
    ("https://example.org/\ufeffx", ["https://example.org/"]),
    ("https://example.org/\u0085x", ["https://example.org/"]),
    ("https://example.org/\nx", ["https://example.org/"]),
    ("https://münchen.example/straße", ["https://münchen.example/straße"]),
    ("xhttps://example.org", ["https://example.org"]),
    ("https://https://example.org", ["https://https://example.org"]),
    ("https:///example.org", ["https:///example.org"]),
    ("https://user:password@example.org/", ["https://user:password@example.org/"]),
    *(
        (f"{before}https://example.org/x{after}", ["https://example.org/x"])
        for before, after in (
            *("“”", "‘’", "„“", "‚‘", "«»", "»«", "‹›"),
            *("（）", "「」", "『』", "【】", "《》", "［］"),
            *(("", stop) for stop in "…。，、：；！？｡؟،؛۔।॥။។።།;·—–・†’“"),
            *(("", end) for end in ("，然后", "。然后", "」を見て", "’然后", "（官网）", "——然后")),
            *(("", end) for end in ("।अगला", "…und", "—and", "• y", "”.", "’),", "”—and", "—!")),
            *("\u2066\u2069", ("", "\u200f"), ("", "\u200b然后"), ("\u202a", "\u202c.")),
        )
    ),
    ("看https://a.example，https://b.example/。", ["https://a.example", "https://b.example/"]),
    ("https://“https://a.example”", ["https://a.example"]),
    *(
        (f"({address}).", [address])
        for address in (
            "https://fr.wikipedia.org/wiki/L’Équipe",
            "https://ca.wikipedia.org/wiki/Col·laboració",
            "https://he.wikipedia.org/wiki/צה״ל",
            "https://hy.wikipedia.org/wiki/Ինչո՞ւ",
            "https://bo.wikipedia.org/wiki/བོད་ལྗོངས",
            "https://ja.wikipedia.org/wiki/レオナルド・ダ・ヴィンチ",
            "https://fa.wikipedia.org/wiki/می\u200cخواهم",
            "https://en.wikipedia.org/wiki/Bose–Einstein_condensate_(physics)",
            "https://hi.wikipedia.org/wiki/हिन्दी",
            "https://例え.テスト/パス?値=１#節",
            "https://example.org/👩\u200d💻/❤️",
            "https://example.org/a-",
            "https://example.org/~a_(b)_",
        )
    ),
    ("https://", []),
    ("https://。", []),
    ("https://“”/", []),
    ("https:///", []),
    ("https://...", []),
    ("https:// example.org", []),
    ("HTTPS://EXAMPLE.ORG", []),
    ("www.example.org", []),
    ("ftp://example.org javascript:alert(1) data:text/html,x", []),
    ("javascript://example.org/%0aalert(1)", []),
]  # fmt: skip


class Fragment(HTMLParser):
    """A piece of HTML as a browser reads it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.linked: list[str] = []
        self._is_in_link = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))
        self._is_in_link = True
        self.linked.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_in_link = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._is_in_link:
            self.linked[-1] += data


def expect_links(text: str) -> list[str]:
    """Return the linked addresses, and assert that nothing else has changed."""
    fragment = Fragment(str(linkify(text)))
    assert fragment.text == text
    addresses = []
    for (tag, attributes), shown in zip(fragment.tags, fragment.linked, strict=True):
        assert tag == "a"
        assert [name for name, _ in attributes] == ["href", "rel", "target"]
        address = dict(attributes)["href"]
        assert address is not None
        assert dict(attributes)["rel"] == "nofollow ugc noopener"
        assert dict(attributes)["target"] == "_blank"
        assert shown == address
        addresses.append(address)
    return addresses


@pytest.mark.parametrize(("text", "links"), TEXTS, ids=[text[:30] for text, _ in TEXTS])
def test_addresses_are_links(text: str, links: list[str]) -> None:
    """A link ends before the sentence's punctuation and before a bracket opened earlier."""
    assert expect_links(text) == links


pieces = st.lists(
    st.one_of(
        st.sampled_from(["http://", "https://", *"ab./()]}'\"&"]),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=3),
    )
)  # fmt: skip


@given(pieces.map("".join))
def test_text_is_not_changed(text: str) -> None:
    """Readers see what was typed; every link leads to http or https."""
    for address in expect_links(text):
        assert address.startswith(("http://", "https://"))
        assert address in text


def test_many_brackets_take_linear_time() -> None:
    """Brackets are counted once, not again for each one that is removed."""
    text = "http://a" + ")" * 1_000_000
    assert expect_links(text) == ["http://a"]
