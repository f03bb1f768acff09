"""docs/proxies.md: its configurations, as they are printed there, in front of a server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.waiting import eventually

_DOCS = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text()
_NAME = "guestbook.example.org"
_VISITOR = "127.0.0.2"

# What stands around the printed part, and the command that runs it.
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
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
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

Front = Callable[..., Awaitable[str]]


def _printed(proxy: str) -> str:
    (config,) = re.findall(rf"```{proxy}\n(.*?)```", _DOCS, re.DOTALL)
    return str(config)


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    """Starts a proxy in front of a port: `await front("nginx", port)`; returns its address."""
    processes: list[subprocess.Popen[bytes]] = []

    async def start(proxy: str, port: int, config: str = "") -> str:
        if shutil.which(_COMMANDS[proxy][0], path="/usr/sbin:/usr/bin") is None:
            pytest.skip(f"{proxy} is not installed")
        folder = tmp_path / f"{proxy}-{len(processes)}"
        folder.mkdir()
        text = _AROUND[proxy].format(folder=folder, config=config or _printed(proxy))
        own = free_port()
        # Apart from the addresses everything is as it is printed.
        for printed, real in (
            ("guestbook:3000", f"127.0.0.1:{port}"),
            ("Listen 80", f"Listen 127.0.0.1:{own}"),
            ("listen 80;", f"listen 127.0.0.1:{own};"),
            ("*:80", f"*:{own}"),
            ("bind :80", f"bind 127.0.0.1:{own}"),
            (f"{_NAME} {{", f"http://{_NAME}:{own} {{\n    bind 127.0.0.1"),
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
        url = f"http://127.0.0.1:{own}"

        async def is_up() -> bool:
            assert processes[-1].poll() is None, (folder / "log").read_text()
            try:
                answer = await http.get(f"{url}/healthz", headers={"Host": _NAME})
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        async with httpx.AsyncClient(verify=False) as http:
            await eventually(is_up)
        return url

    yield start
    for process in processes:
        # Apache takes its time otherwise; the group is the proxy and its workers.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


async def _post(url: str, origin: str = f"http://{_NAME}") -> httpx.Response:
    """Post as a browser does over plain HTTP, where it sends no `Sec-Fetch-Site`."""
    visitor = httpx.AsyncHTTPTransport(local_address=_VISITOR)
    headers = {"Host": _NAME, "Origin": origin, "Accept": "application/json"}
    async with httpx.AsyncClient(base_url=url, transport=visitor) as http:
        return await http.post("/messages", json={"text": "hello"}, headers=headers)


async def _wall(url: str) -> str:
    async with httpx.AsyncClient(base_url=url, verify=False) as http:
        return (await http.get("/wall", headers={"Host": _NAME})).text


async def _works(url: str, server: Server) -> None:
    """The stream runs, posts of the page are taken, those of other sites are not."""
    async with EventStream(url, Host=_NAME) as stream:
        await stream.until("pods")
        posted = await _post(url)
        assert posted.status_code == 201
        assert (await stream.until("message")).data == posted.json()
    assert (await _post(url, "http://evil.example")).status_code == 403
    lines = map(json.loads, server.lines().splitlines())
    posts = [line for line in lines if line.get("method") == "POST"]
    assert {line["address"] for line in posts} == {_VISITOR}


@pytest.mark.parametrize("proxy", _COMMANDS)
async def test_printed_configuration_works(serve: Serve, front: Front, proxy: str) -> None:
    """Posts, the stream, the wall's address, and the visitor's address in the log."""
    server = await serve()
    url = await front(proxy, server.port)
    await _works(url, server)
    assert f">{_NAME}<" in await _wall(url)


async def test_two_apaches_in_a_row(serve: Serve, front: Front) -> None:
    """`X-Forwarded-Host` is a list then, and the first is the visitor's."""
    server = await serve()
    config = _printed("apache").replace("ProxyPreserveHost On", "")
    inner = await front("apache", server.port, config)
    url = await front("apache", int(inner.rpartition(":")[2]), config)
    await _works(url, server)
    assert f">{_NAME}<" in await _wall(url)


async def test_bare_nginx_needs_the_setting(serve: Serve, front: Front) -> None:
    """A `proxy_pass` alone hides the address: GUESTBOOK_PUBLIC_URL says it."""
    config = "server { listen 80; location / { proxy_pass http://guestbook:3000; } }"
    server = await serve()
    assert (await _post(await front("nginx", server.port, config))).status_code == 403
    assert server.lines().count("set GUESTBOOK_PUBLIC_URL to it") == 1

    server = await serve(GUESTBOOK_PUBLIC_URL=f"http://{_NAME}")
    url = await front("nginx", server.port, config)
    assert (await _post(url)).status_code == 201
    assert (await _post(url, "http://evil.example")).status_code == 403
    assert f">{_NAME}<" in await _wall(url)
