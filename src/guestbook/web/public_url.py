"""The public address of the guestbook.

It is the setting `GUESTBOOK_PUBLIC_URL`, else what trusted proxies report, else `Host`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import Scope

from guestbook.core import Host, parse_origin

VARY = "Forwarded, X-Forwarded-Host, X-Forwarded-Port, X-Forwarded-Proto"
"""The headers, other than Host, on which the address depends."""

TRUSTED = "guestbook.trusted"
"""The ASGI extension that tells whether FORWARDED_ALLOW_IPS lists the other end."""

# RFC 7239, section 4: parameters of one proxy, separated by semicolons; proxies by commas.
_PARAMETER = re.compile(r'\s*([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*(;|,|$)', re.ASCII)


class _Forwarded(NamedTuple):
    """The original request, as proxies report it."""

    scheme: str
    host: Host | None
    port: int | None


def public_address(scope: Scope, configured: str | None) -> str:
    """Return an address such as `https://guestbook.example.org`.

    Without the setting it comes from headers, which a client may forge, but then only that client
    sees the result. Invalid hosts are skipped.
    """
    if configured:
        return configured
    headers = Headers(scope=scope)
    # Other servers do not tell: they have their own settings for proxies.
    is_trusted = scope.get("extensions", {}).get(TRUSTED, True)
    forwarded = _read_forwarded(headers) if is_trusted else _Forwarded("", None, None)
    host = forwarded.host or Host.parse(headers.get("host", "")) or _own_host(scope)
    host = _with_port(host, forwarded.port)
    # A client names port 443 only for TLS.
    scheme = forwarded.scheme or ("https" if host.port == 443 else scope["scheme"])
    return f"{scheme}://{host.authority}"


def is_own_origin(scope: Scope, configured: str | None, origin: str) -> bool:
    """Whether a browser's `Origin` is the guestbook's: its host and port under any of its names.

    `Host` counts, because the guestbook may be reached past its proxy. The headers of proxies count
    from any sender, because a browser lets no page of another site set them. The scheme does not
    count, because not every proxy reports it.
    """
    parsed = parse_origin(origin)
    if parsed is None or origin.endswith("/"):
        return False
    return parsed[1].authority in _authorities(scope, configured)


def _authorities(scope: Scope, configured: str | None) -> Iterator[str]:
    if parsed := parse_origin(configured or ""):
        yield parsed[1].authority
    headers = Headers(scope=scope)
    forwarded = _read_forwarded(headers)
    for host in (forwarded.host, Host.parse(headers.get("host", ""))):
        if host is not None:
            yield host.authority
            yield _with_port(host, forwarded.port).authority


def _read_forwarded(headers: Headers) -> _Forwarded:
    """Read `Forwarded` (RFC 7239), else the headers that came before it.

    Each proxy adds to a list: the first value is that of the proxy that the client talks to.
    """
    given = _first_element(",".join(headers.getlist("forwarded")))

    def first(parameter: str, header: str) -> str:
        value = given.get(parameter) or headers.get(header, "").partition(",")[0]
        return value.strip().lower()

    scheme = first("proto", "x-forwarded-proto")
    port = first("port", "x-forwarded-port")
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536
    return _Forwarded(
        scheme if scheme in ("http", "https") else "",
        Host.parse(first("host", "x-forwarded-host")),
        int(port) if is_port else None,
    )


def _first_element(header: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    position = 0
    while match := _PARAMETER.match(header, position):
        name, quoted, token, end = match.groups()
        parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted else token or ""
        if end != ";":
            return parameters
        position = match.end()
    # If an element is malformed, do not trust the rest of it.
    return {}


def _with_port(host: Host, port: int | None) -> Host:
    """Return the host with the port that a proxy reports apart from it."""
    return host if port is None or host.port is not None else Host(host.name, port)


def _own_host(scope: Scope) -> Host:
    name, port = scope.get("server") or ("", None)
    host = Host.parse(f"[{name}]" if ":" in name else name)
    return Host(host.name if host else "localhost", port)
