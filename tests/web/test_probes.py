"""The routes for operators: probes, the environment, metrics."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from guestbook import __version__
from tests.conftest import Serve
from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import allowed, eventually

SECRET = "s3cret"
TOKEN = "t0ken-of-the-admin"

SERVICES = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "KUBERNETES_SERVICE_PORT_HTTPS": "443",
    "KUBERNETES_PORT": "tcp://10.96.0.1:443",
    "REDIS_MASTER_SERVICE_HOST": "fd00::7",
    "REDIS_MASTER_PORT_6379_TCP": "tcp://[fd00::7]:6379",
    "REDIS_MASTER_PORT_6379_TCP_ADDR": "fd00::7",
    "REDIS_MASTER_PORT_6379_TCP_PORT": "6379",
    "REDIS_MASTER_PORT_6379_TCP_PROTO": "tcp",
}
POD = {
    "POD_NAME": "guestbook-5f4d-abc12",
    "POD_IP": "10.1.2.3",
    "POD_NAMESPACE": "book",
    "NODE_NAME": "node-7",
}
SECRETS = {
    "GUESTBOOK_ADMIN_TOKEN": TOKEN,
    "FOO_SERVICE_HOST": f"redis://:{SECRET}@x",
    "BAR_SERVICE_PORT": SECRET,
    "BAZ_PORT": f"tcp://:{SECRET}@10.0.0.1:1",
    "BAZ_PORT_80_TCP": f"tcp://10.0.0.1:80?password={SECRET}",
    "BAZ_PORT_80_TCP_ADDR": f"{SECRET}.example",
    "PASSWORD": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "POD_PASSWORD": SECRET,
    "HOSTNAME_TOKEN": SECRET,
}


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve, shared_valkey: Valkey) -> Server:
    """A server in an environment like that of Kubernetes, with secrets in it."""
    # The shared Valkey has no password for its default user, so that it takes any.
    redis = shared_valkey.new_database(f"default:{SECRET}@")
    return await serve_shared(POD["POD_NAME"], redis=redis, **SERVICES, **POD, **SECRETS)


# /env


async def test_env_is_json_with_one_variable_a_line(api: httpx.AsyncClient) -> None:
    """`grep HOSTNAME` finds the pod, and only the pod."""
    answer = await api.get("/env")
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    shown = answer.json()
    assert all(isinstance(value, str) for value in shown.values())
    for name, value in shown.items():
        (line,) = [line for line in answer.text.splitlines() if f'"{name}"' in line]
        assert json.loads("{" + line.strip().rstrip(",") + "}") == {name: value}
    found = [line for line in answer.text.splitlines() if "HOSTNAME" in line]
    assert len(found) == 1
    assert "guestbook-5f4d-abc12" in found[0]
    assert answer.text.endswith("\n")


async def test_env_shows_what_kubernetes_says_of_the_pod(api: httpx.AsyncClient) -> None:
    """Host, pod, node, namespace, version, and the variables of Services."""
    shown = (await api.get("/env")).json()
    assert shown["HOSTNAME"] == "guestbook-5f4d-abc12"
    assert {name: shown.get(name) for name in POD} == POD
    assert {name: shown.get(name) for name in SERVICES} == SERVICES
    assert __version__ in shown.values()


async def test_env_shows_no_secret(pod: Server, api: httpx.AsyncClient) -> None:
    """`/env` shows only variables on the list, and no names or values of secrets."""
    answer = await api.get("/env")
    assert SECRET not in answer.text
    assert TOKEN not in answer.text
    shown = answer.json()
    assert not set(shown) & set(SECRETS)
    assert not [name for name in shown if "TOKEN" in name or "PASSWORD" in name]
    assert "PATH" not in shown
    assert "HOME" not in shown
    assert "REDIS_URL" not in shown or SECRET not in shown["REDIS_URL"]


# /healthz and /ready


async def test_probes_of_a_pod_that_is_well(api: httpx.AsyncClient) -> None:
    """200 and JSON that is not cached."""
    for path in ("/healthz", "/ready"):
        answer = await api.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert "reasons" not in answer.json()


async def test_probes_without_redis(serve: Serve) -> None:
    """Alive from the start and not ready, for reasons that contain no password."""
    redis = f"redis://ada:{SECRET}@127.0.0.1:{free_port()}"
    server = await serve("", redis=redis, is_ready=False)
    async with server.client() as client:
        # An empty HOSTNAME is none: then it is the machine's own.
        assert (await client.get("/env")).json()["HOSTNAME"] == socket.gethostname()
        alive, ready = await client.get("/healthz"), await client.get("/ready")
        assert alive.status_code == 200
        assert ready.status_code == 503
        reasons = ready.json()["reasons"]
        assert reasons
        assert all(isinstance(reason, str) and reason for reason in reasons)
        assert "redis" in " ".join(reasons).lower()
        assert ready.elapsed.total_seconds() < allowed(1)
        page = await client.get("/")
        assert page.status_code == 200
        assert SECRET not in ready.text + page.text + server.lines()


async def test_any_pod_says_whether_another_is_alive(serve: Serve) -> None:
    """It knows by heartbeats; an unknown pod is not alive."""
    one, other = await serve("pod-a"), await serve("pod-b")
    for name in ("pod-a", "pod-b"):
        for server in (one, other):
            await server.until(f"/healthz?pod={name}", 200)
    other.freeze()
    try:
        await one.until("/healthz?pod=pod-b", 503)
        await one.until("/healthz", 200)
        async with one.client() as client:
            for name in ("pod-b", "pod-c", "", "%00"):
                answer = await client.get(f"/healthz?pod={name}")
                assert (answer.status_code, answer.json()["status"]) == (503, "not alive")
    finally:
        other.thaw()


async def _reports(server: Server, reason: str) -> None:
    """Wait until /ready has this among its reasons."""
    async with server.client() as client:

        async def is_named() -> bool:
            answer = await client.get("/ready")
            assert answer.status_code == 503
            return reason in answer.text

        await eventually(is_named)


async def test_wrong_password_is_a_reason(serve: Serve, shared_valkey: Valkey) -> None:
    """Redis rejects the connection: the reason is this. (That it is not shown: nothing_leaks.)"""
    redis = shared_valkey.new_database(f"nobody:{SECRET}@")
    await _reports(await serve(redis=redis, is_ready=False), "password")


async def test_what_answers_and_is_not_redis_is_a_reason(serve: Serve, pod: Server) -> None:
    """For instance the address of a web server."""
    server = await serve(redis=f"127.0.0.1:{pod.port}", is_ready=False)
    await _reports(server, "is not Redis")
    assert "Traceback" not in server.lines()
