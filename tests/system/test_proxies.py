"""docs/proxies.md: its configurations, as they are printed there, in front of a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.conftest import Serve
from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually

_DOCS = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text()
_NAME = "guestbook.example.org"
_VISITOR = "127.0.0.2"
_TOKEN = "token-of-the-proxies-test"

# The rest of each configuration file, and the command that runs it.
_AROUND = {
    "nginx": """daemon off; pid {folder}/pid; error_log stderr; events {{}}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
{config} }}""",
    "apache": """ServerRoot {folder}
PidFile {folder}/pid
ErrorLog {folder}/error.log
Listen 80
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
{config}""",
    "caddy": "{{\n    admin off\n    auto_https off\n}}\n{config}",
    "haproxy": "{config}",
}
_COMMANDS = {
    "nginx": ("nginx", "-e", "stderr", "-c"),
    "apache": ("apache2", "-D", "FOREGROUND", "-f"),
    "caddy": ("caddy", "run", "--adapter", "caddyfile", "--config"),
    "haproxy": ("haproxy", "-f"),
}
# For TLS and HTTP/2 towards the browser, a line of each configuration and its replacement.
_TLS = {
    "nginx": (
        "listen 80;",
        "listen 80 ssl http2; ssl_certificate {pem}; ssl_certificate_key {pem};",
    ),
    "apache": (
        "<VirtualHost *:80>",
        "<VirtualHost *:80>\nProtocols h2 http/1.1\nSSLEngine on\nSSLCertificateFile {pem}",
    ),
    "caddy": ("    reverse_proxy", "    tls {pem} {pem}\n    reverse_proxy"),
    "haproxy": ("bind :80", "bind :80 ssl crt {pem} alpn h2,http/1.1"),
}


class Answer(NamedTuple):
    """The answers that a visitor got."""

    status: int
    version: str
    location: str
    body: str


class Visitor:
    """Curl, which finds the proxy under the guestbook's public name, as a browser does."""

    def __init__(self, url: str, authority: Path) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self._command = [
            *(
                "curl",
                "-sS",
                "--noproxy",
                "*",
                "--interface",
                _VISITOR,
                "--max-time",
                str(PATIENCE),
            ),
            *("--resolve", f"{_NAME}:{self.port}:127.0.0.1", "--cacert", str(authority)),
        ]

    async def ask(self, path: str, *options: str, origin: str | None = None) -> Answer:
        """Send a request, from the page of another site if one is named."""
        options = ("-H", f"Origin: {origin or self.url}", *options)
        written = r"\n%{http_code} %{http_version} %header{location}"
        curl = await asyncio.create_subprocess_exec(
            *self._command, "-w", written, *options, self.url + path, stdout=subprocess.PIPE
        )
        output, _ = await curl.communicate()
        body, _, last = output.decode().rpartition("\n")
        status, version, location = last.split(" ")
        return Answer(int(status), version, location, body)

    async def is_up(self) -> bool:
        return (await self.ask("/healthz", "--stderr", "/dev/null")).status == 200

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[asyncio.StreamReader]:
        curl = await asyncio.create_subprocess_exec(
            *self._command, "-N", self.url + "/events", stdout=subprocess.PIPE
        )
        assert curl.stdout is not None
        yield curl.stdout
        curl.kill()
        await curl.wait()


Front = Callable[..., Awaitable[Visitor]]


def _printed(proxy: str) -> str:
    (config,) = re.findall(rf"```{proxy}\n(.*?)```", _DOCS, re.DOTALL)
    return str(config)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An authority, and a certificate for the public name with its key in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    authority, pem = folder / "ca.pem", folder / "site.pem"
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(authority))
    ca.issue_cert(_NAME).private_key_and_cert_chain_pem.write_to_path(str(pem))
    return authority, pem


@pytest.fixture
async def front(tmp_path: Path, certificate: tuple[Path, Path]) -> AsyncIterator[Front]:
    """Starts a proxy in front of a port: `await front("nginx", port)`; returns its visitor."""
    processes: list[subprocess.Popen[bytes]] = []
    authority, pem = certificate

    async def start(proxy: str, port: int, config: str = "", *, tls: bool = False) -> Visitor:
        if shutil.which(_COMMANDS[proxy][0], path="/usr/sbin:/usr/bin") is None:
            pytest.skip(f"{proxy} is not installed")
        folder = tmp_path / f"{proxy}-{len(processes)}"
        folder.mkdir()
        config = config or _printed(proxy)
        if tls:
            line, replacement = _TLS[proxy]
            assert line in config
            config = config.replace(line, replacement.format(pem=pem))
        text = _AROUND[proxy].format(folder=folder, config=config)
        own = free_port()
        scheme = "https" if tls else "http"
        # Apart from the addresses everything is as it is printed.
        for printed, real in (
            ("guestbook:3000", f"127.0.0.1:{port}"),
            ("Listen 80", f"Listen 127.0.0.1:{own}"),
            ("listen 80", f"listen 127.0.0.1:{own}"),
            ("*:80", f"*:{own}"),
            ("bind :80", f"bind 127.0.0.1:{own}"),
            (f"{_NAME} {{", f"{scheme}://{_NAME}:{own} {{\n    bind 127.0.0.1"),
        ):
            text = text.replace(printed, real)
        file = folder / "config"
        file.write_text(text)
        with (folder / "log").open("wb") as log:
            env = {"PATH": "/usr/sbin:/usr/bin", "HOME": str(folder)}
            processes.append(
                subprocess.Popen(
                    [*_COMMANDS[proxy], file], stdout=log, stderr=log, env=env, process_group=0
                )
            )
        visitor = Visitor(f"{scheme}://{_NAME}:{own}", authority)

        async def is_up() -> bool:
            assert processes[-1].poll() is None, (folder / "log").read_text()
            return await visitor.is_up()

        await eventually(is_up)
        return visitor

    yield start
    for process in processes:
        # Apache takes its time otherwise; the group is the proxy and its workers.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


async def _works(visitor: Visitor, server: Server, version: str = "1.1") -> None:
    """Posts of the page are taken, shown at once and deleted; those of other sites are not."""
    body = ("-H", "Content-Type: application/json", "-d", '{"text": "hello"}')
    async with visitor.stream() as stream, asyncio.timeout(PATIENCE):
        await stream.readuntil(b"event: pods\n")
        posted = await visitor.ask("/messages", *body)
        assert (posted.status, posted.version) == (201, version)
        await stream.readuntil(f"data: {posted.body}\n".encode())

        form = await visitor.ask("/messages", "-d", "text=hello", "-H", "Accept: text/html")
        assert (form.status, form.location) == (303, "/")
        await stream.readuntil(b"\nid: ")

        assert posted.location == f"/messages/{json.loads(posted.body)['id']}"
        assert (await visitor.ask(posted.location)).body == posted.body
        token = ("-H", f"Authorization: Bearer {_TOKEN}")
        assert (await visitor.ask(posted.location, "-X", "DELETE", *token)).status == 204
        await stream.readuntil(b"event: deleted\n")

    assert (await visitor.ask("/messages", *body, origin="http://evil.example")).status == 403
    posts = [line for line in server.records() if line.get("method") == "POST"]
    assert {line["address"] for line in posts} == {_VISITOR}


async def _names(visitor: Visitor, url: str) -> None:
    """The wall and the feed name the address under which the visitor knows the guestbook."""
    assert f">{url.partition('://')[2]}<" in (await visitor.ask("/wall")).body
    assert f'href="{url}/"' in (await visitor.ask("/feed.atom")).body


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("proxy", _COMMANDS)
async def test_printed_configuration_works(
    serve: Serve, front: Front, proxy: str, tls: bool
) -> None:
    """Over plain HTTP, and over TLS with HTTP/2; at a port that is not the usual one."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN=_TOKEN)
    visitor = await front(proxy, server.port, tls=tls)
    await _works(visitor, server, "2" if tls else "1.1")
    await _names(visitor, visitor.url)


async def test_nginx_speaks_http_1_0_by_itself(serve: Serve, front: Front) -> None:
    """The stream then has no chunks; all else is as with HTTP/1.1."""
    config = _printed("nginx").replace("proxy_http_version 1.1;", "")
    server = await serve(GUESTBOOK_ADMIN_TOKEN=_TOKEN)
    visitor = await front("nginx", server.port, config)
    await _works(visitor, server)
    await _names(visitor, visitor.url)


async def test_two_apaches_in_a_row(serve: Serve, front: Front) -> None:
    """`X-Forwarded-Host` is a list then, and the first is the visitor's, with its port."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN=_TOKEN)
    outer = _printed("apache").replace("ProxyPreserveHost On", "")
    # As docs/proxies.md advises: this line would report the inner one's scheme.
    inner = re.sub("RequestHeader set .*", "", outer)
    port = (await front("apache", server.port, inner)).port
    visitor = await front("apache", port, outer, tls=True)
    await _works(visitor, server, "2")
    await _names(visitor, visitor.url)


async def test_bare_nginx_needs_the_setting(serve: Serve, front: Front) -> None:
    """A `proxy_pass` alone hides the address: GUESTBOOK_PUBLIC_URL is needed."""
    config = "server { listen 80; location / { proxy_pass http://guestbook:3000; } }"
    post = ("/messages", "-d", "text=hello")
    server = await serve()
    assert (await (await front("nginx", server.port, config)).ask(*post)).status == 403
    assert server.lines().count("set GUESTBOOK_PUBLIC_URL to it") == 1

    server = await serve(GUESTBOOK_PUBLIC_URL=f"http://{_NAME}")
    visitor = await front("nginx", server.port, config)
    assert (await visitor.ask(*post, origin=f"http://{_NAME}")).status == 303
    assert (await visitor.ask(*post, origin="http://evil.example")).status == 403
    await _names(visitor, f"http://{_NAME}")
