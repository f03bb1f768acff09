"""The address under which the outside knows the guestbook, and the posts that it allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestbook.web.public_url import TRUSTED, is_own_origin, public_address
from tests.conftest import Serve
from tests.support.servers import Server


def scope(
    headers: Mapping[str, str], scheme: str = "http", *, trusted: bool = True
) -> dict[str, Any]:
    """Return the scope of a request with these headers."""
    return {
        "type": "http",
        "scheme": scheme,
        "server": ("10.0.0.9", 3000),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        "extensions": {TRUSTED: trusted},
    }


INNER = {"Host": "inner:3000"}


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({}, "http://10.0.0.9:3000"),
        ({"Host": "book.example"}, "http://book.example"),
        ({"Host": "BOOK.example:80"}, "http://book.example"),
        ({"Host": "book.example:443"}, "https://book.example"),
        ({"Host": "book.example:8080"}, "http://book.example:8080"),
        ({"Host": "[2001:DB8:0::1]:80"}, "http://[2001:db8::1]"),
        ({"Host": "a b"}, "http://10.0.0.9:3000"),
        # One proxy, two in a row, and what a client forged in front of them.
        ({**INNER, "X-Forwarded-Host": "book.example"}, "http://book.example"),
        ({**INNER, "X-Forwarded-Host": "book.example, inner"}, "http://book.example"),
        ({**INNER, "X-Forwarded-Host": '"><script>'}, "http://inner:3000"),
        ({"Host": "book.example", "X-Forwarded-Proto": "HTTPS"}, "https://book.example"),
        ({"Host": "book.example", "X-Forwarded-Proto": "https, http"}, "https://book.example"),
        ({"Host": "book.example:80", "X-Forwarded-Proto": "https"}, "https://book.example"),
        ({"Host": "book.example", "X-Forwarded-Proto": "ftp"}, "http://book.example"),
        ({"Host": "book.example", "X-Forwarded-Port": "8443, 80"}, "http://book.example:8443"),
        ({"Host": "book.example", "X-Forwarded-Port": "443"}, "https://book.example"),
        ({"Host": "book.example", "X-Forwarded-Port": "0"}, "http://book.example"),
        ({"Host": "book.example", "X-Forwarded-Port": "\u00b2"}, "http://book.example"),
        ({"Host": "book.example:81", "X-Forwarded-Port": "82"}, "http://book.example:81"),
        # RFC 7239
        ({**INNER, "Forwarded": "host=book.example;proto=https"}, "https://book.example"),
        ({**INNER, "Forwarded": 'for="[::1]:9";Host="Book.example:81" , host=x'}, "http://book.example:81"),
        ({**INNER, "Forwarded": "for=1.2.3.4, host=x"}, "http://inner:3000"),
        ({**INNER, "Forwarded": 'by="a,b;host=x\\"";proto=https;host=book.example'}, "https://book.example"),
        ({**INNER, "Forwarded": "host=x;proto"}, "http://inner:3000"),
        ({**INNER, "Forwarded": 'host="x'}, "http://inner:3000"),
        ({**INNER, "Forwarded": "for=1.2.3.4", "X-Forwarded-Host": "book.example"}, "http://book.example"),
    ],
    ids=str,
)  # fmt: skip
def test_address_is_what_proxies_report_else_host(headers: dict[str, str], address: str) -> None:
    """The first value of a list counts, without default ports; what is not a host is skipped."""
    assert public_address(scope(headers), None) == address


FORWARDED = {
    "Forwarded": "host=book.example;proto=https",
    "X-Forwarded-Host": "book.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "8443",
}


def test_address_ignores_proxies_that_are_not_trusted() -> None:
    """Their headers count only if FORWARDED_ALLOW_IPS lists the other end; `Host` always does."""
    headers = {"Host": "book.example:81", **FORWARDED}
    assert public_address(scope(headers, trusted=False), None) == "http://book.example:81"


def test_setting_is_the_address_whatever_is_requested() -> None:
    """GUESTBOOK_PUBLIC_URL counts alone."""
    assert public_address(scope({**INNER, **FORWARDED}), "https://x.example") == "https://x.example"


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        ("http://book.example", {"Host": "book.example:80"}),
        ("https://book.example", {"Host": "book.example:443"}),
        ("https://book.example", {"Host": "book.example:80"}),
        ("https://book.example", {"Host": "Book.Example"}),
        ("http://book.example:8080", {"Host": "book.example:8080"}),
        ("http://book.example:8080", {"Host": "book.example", "X-Forwarded-Port": "8080"}),
        ("https://book.example", {**INNER, "X-Forwarded-Host": "book.example, inner"}),
        ("https://book.example", {**INNER, "Forwarded": 'host="book.example:443"'}),
        ("http://inner:3000", {**INNER, "X-Forwarded-Host": "book.example"}),
        ("http://[::1]:3000", {"Host": "[0:0::1]:3000"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("trusted", [True, False])
def test_own_origin(origin: str, headers: dict[str, str], trusted: bool) -> None:
    """An origin is the guestbook's under each of its names, from any header."""
    assert is_own_origin(scope(headers, trusted=trusted), None, origin)
    assert not is_own_origin(scope(headers, trusted=trusted), None, "https://evil.example")


@pytest.mark.parametrize(
    "origin",
    [
        *("", "null", "http://", "http://[", "ftp://book.example", "book.example"),
        *("http://book.example/", "http://book.example/x", "http://x@book.example"),
        *("http://book.example:8080", "http://book.example.evil.example", "http://inner"),
        "http://book.example, http://evil.example",
    ],
)
def test_other_origin(origin: str) -> None:
    """Another host, another port, or what is no origin."""
    headers = {**INNER, "X-Forwarded-Host": "book.example, evil.example"}
    assert not is_own_origin(scope(headers), None, origin)


def test_setting_is_an_own_origin() -> None:
    """A page at GUESTBOOK_PUBLIC_URL may post though the proxy hides its name; others may not."""
    request = scope({"Host": "127.0.0.1:3000"})
    assert is_own_origin(request, "https://book.example:8443", "https://book.example:8443")
    assert not is_own_origin(request, "https://book.example:8443", "https://book.example")
    assert not is_own_origin(request, None, "https://book.example:8443")


@given(st.binary(), st.binary())
def test_any_header_leads_to_an_address(one: bytes, other: bytes) -> None:
    """No header is an error, and no address has what a page or a feed would have to escape."""
    for name in ("Forwarded", *FORWARDED, "Host"):
        headers = {name: one.decode("latin-1"), "X-Forwarded-Host": other.decode("latin-1")}
        assert not set(public_address(scope(headers), None)) & set("<>\"'&/ \\") - {"/"}


# On a server


ELSEWHERE = {"Origin": "http://book.example"}


async def post(server: Server, **headers: str) -> httpx.Response:
    async with server.client() as client:
        return await client.post("/messages", data={"text": "x"}, headers=headers)


async def test_operator_learns_once_how_to_name_the_address(serve: Serve) -> None:
    """With a proxy that hides the name, the log advises once, and the visitor gets a sentence."""
    server = await serve()
    # `Sec-Fetch-Site` is the browser's own word: no setting would change it.
    assert (await post(server, **ELSEWHERE, **{"Sec-Fetch-Site": "cross-site"})).status_code == 403
    assert "GUESTBOOK_PUBLIC_URL" not in server.lines()
    for _ in range(2):
        answer = await post(server, **ELSEWHERE, Accept="text/html")
        assert answer.status_code == 403
        assert "Another site may not post here" in answer.text
    lines = [line for line in server.lines().splitlines() if "GUESTBOOK_PUBLIC_URL" in line]
    assert len(lines) == 1
    assert "http://book.example" in lines[0]
    assert server.url in lines[0]


async def test_setting_allows_posts_and_names_the_address(serve: Serve) -> None:
    """With GUESTBOOK_PUBLIC_URL the guestbook works behind a proxy that hides the name."""
    server = await serve(GUESTBOOK_PUBLIC_URL="HTTP://Book.example:80/")
    assert (await post(server, **ELSEWHERE)).status_code == 303
    assert (await post(server, Origin=server.url)).status_code == 303
    assert (await post(server, Origin="http://evil.example")).status_code == 403
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil"}
    async with server.client() as client:
        for path in ("/wall", "/feed.atom"):
            answer = await client.get(path, headers=forged)
            assert "book.example" in answer.text
            assert "evil" not in answer.text


async def test_only_trusted_proxies_name_the_address(serve: Serve) -> None:
    """A proxy that is not in FORWARDED_ALLOW_IPS does not. (Others do: test_wall.py.)"""
    server = await serve(FORWARDED_ALLOW_IPS="192.0.2.7")
    headers = {"Host": "book.example", "X-Forwarded-Host": "other.example"}
    async with server.client() as client:
        assert "book.example" in (await client.get("/wall", headers=headers)).text
