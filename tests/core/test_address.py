"""Addresses of sites, read as browsers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.core import Host, parse_origin


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("book.example", "book.example"),
        (" Book.EXAMPLE ", "book.example"),
        ("book.example:", "book.example"),
        ("book.example:80", "book.example"),
        ("book.example:443", "book.example"),
        ("book.example:080", "book.example"),
        ("book.example:8080", "book.example:8080"),
        ("192.0.2.7:3000", "192.0.2.7:3000"),
        ("[2001:DB8:0:0::1]:443", "[2001:db8::1]"),
        ("[::1]:3000", "[::1]:3000"),
        ("book.example:1", "book.example:1"),
        ("x" * 128, "x" * 128),
    ],
)
def test_host_is_compared_without_case_and_default_ports(text: str, authority: str) -> None:
    """Two spellings of one host and port have one authority."""
    host = Host.parse(text)
    assert host is not None
    assert host.authority == authority


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a b", "x/y", "x@y", "[::1", "[1::2::3]", "<script>", "x:1:2", "x:y", "x:-1"),
        *("x:0", "x:65536", "x:99999999", "b\u00fccher.example", "x:\u0661", "x" * 129),
    ],
)
def test_what_is_no_host_is_not_read(text: str) -> None:
    """Invalid characters, ports that do not exist and endless names are no host."""
    assert Host.parse(text) is None
    assert parse_origin(f"http://{text}") is None


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    """A header never causes an error, and what is read is read again as the same."""
    host = Host.parse(text)
    if host is not None:
        again = Host.parse(host.authority)
        assert again is not None
        assert again.authority == host.authority
    parse_origin(text)
