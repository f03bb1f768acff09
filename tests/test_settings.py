"""The settings: their defaults, wrong values, what Kubernetes injects, and their table."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from guestbook import settings
from guestbook.core.policy import PostRate
from guestbook.settings import SettingsError, Variable
from tests.conftest import Serve
from tests.support.ports import free_port
from tests.support.servers import guestbook

SECRET = "s3cret"
DOCS = Path(__file__).parents[1] / "docs" / "settings.md"

# As Kubernetes sets them in every pod beside Services named redis and guestbook.
KUBERNETES = {
    "REDIS_PORT": "tcp://10.96.0.7:6379",
    "REDIS_SERVICE_HOST": "10.96.0.7",
    "REDIS_SERVICE_PORT": "6379",
    "REDIS_PORT_6379_TCP": "tcp://10.96.0.7:6379",
    "GUESTBOOK_PORT": "tcp://10.96.0.8:80",
    "GUESTBOOK_SERVICE_HOST": "10.96.0.8",
    "GUESTBOOK_SERVICE_PORT": "80",
    "GUESTBOOK_SERVICE_PORT_HTTP": "80",
    "GUESTBOOK_PORT_80_TCP": "tcp://10.96.0.8:80",
    "GUESTBOOK_PORT_80_TCP_PROTO": "tcp",
    "GUESTBOOK_PORT_80_TCP_PORT": "80",
    "GUESTBOOK_PORT_80_TCP_ADDR": "10.96.0.8",
    "KUBERNETES_PORT": "tcp://10.96.0.1:443",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any setting."""
    for name in os.environ:
        if name.startswith("GUESTBOOK_") or name.upper() in ("REDIS_URL", "HOST", "PORT"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_defaults_are_the_documented_ones(environment: pytest.MonkeyPatch) -> None:
    """With nothing in the environment everything has its documented default."""
    chosen = settings.load()
    assert str(chosen.redis_url) == "localhost:6379"
    assert (chosen.host, chosen.port) == ("0.0.0.0", 3000)
    assert chosen.allow_origins == ()
    assert chosen.admin_token is None
    assert chosen.moderation == "off"
    assert chosen.max_messages == 10_000
    assert chosen.max_age is None
    assert chosen.max_streams == 10_000
    assert chosen.max_streams_per_address is None
    assert chosen.post_rate == PostRate(20, 10)
    assert chosen.undo_seconds == 300
    assert chosen.legacy_api is chosen.lab is False
    assert chosen.wait_replicas == 0
    assert chosen.drain_seconds == 1
    assert (chosen.title, chosen.welcome) == (None, None)
    assert chosen.audience == "engineers"
    assert (chosen.max_connections, chosen.max_head_bytes) == (10_000, 32 * 1024)
    assert (chosen.request_seconds, chosen.keep_alive_seconds) == (10, 75)
    assert chosen.log_level == "info"
    assert chosen.log_format is None


def test_names_are_the_documented_ones() -> None:
    """Three variables have no prefix, the rest has it, and there is no GUESTBOOK_PORT."""
    assert {variable.name for variable in settings.variables()} == {
        "REDIS_URL",
        "HOST",
        "PORT",
        "GUESTBOOK_PUBLIC_URL",
        "GUESTBOOK_ALLOW_ORIGINS",
        "GUESTBOOK_TITLE",
        "GUESTBOOK_WELCOME",
        "GUESTBOOK_AUDIENCE",
        "GUESTBOOK_ADMIN_TOKEN",
        "GUESTBOOK_MODERATION",
        "GUESTBOOK_MAX_MESSAGES",
        "GUESTBOOK_MAX_AGE",
        "GUESTBOOK_MAX_STREAMS",
        "GUESTBOOK_MAX_STREAMS_PER_ADDRESS",
        "GUESTBOOK_POST_RATE",
        "GUESTBOOK_UNDO_SECONDS",
        "GUESTBOOK_LEGACY_API",
        "GUESTBOOK_LAB",
        "GUESTBOOK_WAIT_REPLICAS",
        "GUESTBOOK_DRAIN_SECONDS",
        "GUESTBOOK_MAX_CONNECTIONS",
        "GUESTBOOK_MAX_HEAD_BYTES",
        "GUESTBOOK_REQUEST_SECONDS",
        "GUESTBOOK_KEEP_ALIVE_SECONDS",
        "GUESTBOOK_LOG_LEVEL",
        "GUESTBOOK_LOG_FORMAT",
    }


def test_every_setting_can_be_made(environment: pytest.MonkeyPatch) -> None:
    """Each variable reaches its setting."""
    made = {
        "REDIS_URL": f"redis://ada:{SECRET}@redis:6380/2",
        "HOST": "127.0.0.1",
        "PORT": "8080",
        "GUESTBOOK_PUBLIC_URL": "https://book.example",
        "GUESTBOOK_ALLOW_ORIGINS": "https://a.example, http://B.example:8080/",
        "GUESTBOOK_TITLE": "Our book <3",
        "GUESTBOOK_WELCOME": "Grüezi",
        "GUESTBOOK_AUDIENCE": "Guests",
        "GUESTBOOK_ADMIN_TOKEN": SECRET,
        "GUESTBOOK_MODERATION": "Before",
        "GUESTBOOK_MAX_MESSAGES": "7",
        "GUESTBOOK_MAX_AGE": "12h",
        "GUESTBOOK_MAX_STREAMS": "8",
        "GUESTBOOK_MAX_STREAMS_PER_ADDRESS": "9",
        "GUESTBOOK_POST_RATE": "5/m",
        "GUESTBOOK_UNDO_SECONDS": "60",
        "GUESTBOOK_LEGACY_API": "true",
        "GUESTBOOK_LAB": "true",
        "GUESTBOOK_WAIT_REPLICAS": "2",
        "GUESTBOOK_DRAIN_SECONDS": "2.5",
        "GUESTBOOK_MAX_CONNECTIONS": "10",
        "GUESTBOOK_MAX_HEAD_BYTES": "2048",
        "GUESTBOOK_REQUEST_SECONDS": "3.5",
        "GUESTBOOK_KEEP_ALIVE_SECONDS": "4.5",
        "GUESTBOOK_LOG_LEVEL": "WARNING",
        "GUESTBOOK_LOG_FORMAT": "json",
    }
    assert set(made) == {variable.name for variable in settings.variables()}
    for name, value in made.items():
        environment.setenv(name, value)
    chosen = settings.load()
    assert str(chosen.redis_url) == "redis:6380"
    assert (chosen.host, chosen.port) == ("127.0.0.1", 8080)
    assert chosen.allow_origins == ("https://a.example", "http://b.example:8080")
    assert (chosen.title, chosen.welcome) == ("Our book <3", "Grüezi")
    assert chosen.audience == "guests"
    assert chosen.admin_token is not None
    assert chosen.admin_token.get_secret_value() == SECRET
    assert chosen.moderation == "before"
    assert (chosen.max_messages, chosen.max_streams, chosen.max_streams_per_address) == (7, 8, 9)
    assert chosen.max_age == 12 * 3600
    assert chosen.retention == (7, 12 * 3600 * 1000)
    assert chosen.post_rate == PostRate(5, 60)
    assert (chosen.legacy_api, chosen.lab, chosen.wait_replicas, chosen.drain_seconds) == (
        True,
        True,
        2,
        2.5,
    )
    assert (chosen.max_connections, chosen.max_head_bytes) == (10, 2048)
    assert (chosen.request_seconds, chosen.keep_alive_seconds) == (3.5, 4.5)
    assert (chosen.log_level, chosen.log_format) == ("warning", "json")


def test_printed_settings_show_no_secret(environment: pytest.MonkeyPatch) -> None:
    """Settings that are printed, in a log or a traceback, show neither token nor password."""
    environment.setenv("REDIS_URL", f"redis://ada:{SECRET}@redis")
    environment.setenv("GUESTBOOK_ADMIN_TOKEN", SECRET)
    chosen = settings.load()
    assert SECRET not in f"{chosen} {chosen!r} {chosen.redis_url}"


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("20/10s", PostRate(20, 10)),
        ("1/s", PostRate(1, 1)),
        ("3/2m", PostRate(3, 120)),
        ("100/h", PostRate(100, 3600)),
        ("off", None),
        ("OFF", None),
    ],
)
def test_posting_rates(
    environment: pytest.MonkeyPatch, written: str, rate: PostRate | None
) -> None:
    """A rate is a number in a time, or off."""
    environment.setenv("GUESTBOOK_POST_RATE", written)
    assert settings.load().post_rate == rate


@pytest.mark.parametrize("name", [variable.name for variable in settings.variables()])
def test_empty_value_counts_as_unset(environment: pytest.MonkeyPatch, name: str) -> None:
    """An empty variable, as a manifest may have it, counts as unset."""
    unset = settings.load()
    environment.setenv(name, "")
    assert settings.load() == unset


def test_kubernetes_service_variables_change_nothing(environment: pytest.MonkeyPatch) -> None:
    """Services named redis and guestbook beside the pod do not disturb the settings."""
    before = settings.load()
    for name, value in KUBERNETES.items():
        environment.setenv(name, value)
    assert settings.load() == before


async def test_server_starts_among_kubernetes_service_variables(serve: Serve) -> None:
    """The variables of Services do not disturb the start either."""
    server = await serve(**KUBERNETES)
    assert server.process is not None
    assert server.process.poll() is None


WRONG = [
    ("REDIS_URL", f"http://:{SECRET}@redis"),
    ("REDIS_URL", f"redis://:{SECRET}@redis:port"),
    ("REDIS_URL", f"redis://:12/{SECRET}@redis"),
    ("REDIS_URL", f"redis://:{SECRET}@redis?unknown=1"),
    ("REDIS_URL", f"rediss://:{SECRET}@redis?ssl_cert_reqs=perhaps"),
    ("REDIS_URL", f"redis+sentinel://:{SECRET}@redis"),
    ("REDIS_URL", f"{SECRET}\n{SECRET}://redis"),
    ("GUESTBOOK_ALLOW_ORIGINS", "a.example"),
    ("GUESTBOOK_ALLOW_ORIGINS", "https://a.example,"),
    ("GUESTBOOK_ALLOW_ORIGINS", "*,https://a.example"),
    ("PORT", "tcp://10.96.0.7:3000"),
    ("PORT", "65536"),
    ("PORT", "-1"),
    ("GUESTBOOK_MAX_MESSAGES", "0"),
    ("GUESTBOOK_MAX_MESSAGES", "many"),
    ("GUESTBOOK_MAX_MESSAGES", "9" * 5000),
    ("GUESTBOOK_MAX_AGE", "30"),
    ("GUESTBOOK_MAX_AGE", "0d"),
    ("GUESTBOOK_MAX_AGE", "1.5h"),
    ("GUESTBOOK_MAX_AGE", "99999d"),
    ("GUESTBOOK_MAX_STREAMS", "-1"),
    ("GUESTBOOK_MAX_STREAMS", "1.5"),
    ("GUESTBOOK_MAX_STREAMS_PER_ADDRESS", "0"),
    ("GUESTBOOK_MAX_STREAMS_PER_ADDRESS", "on"),
    ("GUESTBOOK_POST_RATE", "20"),
    ("GUESTBOOK_POST_RATE", "0/10s"),
    ("GUESTBOOK_POST_RATE", "20/0s"),
    ("GUESTBOOK_POST_RATE", "20/10"),
    ("GUESTBOOK_POST_RATE", "20/10s\nx"),
    ("GUESTBOOK_UNDO_SECONDS", "-1"),
    ("GUESTBOOK_UNDO_SECONDS", "86401"),
    ("GUESTBOOK_LEGACY_API", "perhaps"),
    ("GUESTBOOK_WAIT_REPLICAS", "-1"),
    ("GUESTBOOK_DRAIN_SECONDS", "-1"),
    ("GUESTBOOK_DRAIN_SECONDS", "nan"),
    ("GUESTBOOK_DRAIN_SECONDS", "inf"),
    ("GUESTBOOK_DRAIN_SECONDS", "1s"),
    ("GUESTBOOK_MAX_CONNECTIONS", "0"),
    ("GUESTBOOK_MAX_HEAD_BYTES", "1000"),
    ("GUESTBOOK_MAX_HEAD_BYTES", "65536"),
    ("GUESTBOOK_REQUEST_SECONDS", "0"),
    ("GUESTBOOK_KEEP_ALIVE_SECONDS", "inf"),
    *(
        ("GUESTBOOK_PUBLIC_URL", value)
        for value in ("book.example", "ftp://x", "https://", "https://x/book", "https://x?y")
    ),
    ("GUESTBOOK_PUBLIC_URL", f"https://user:{SECRET}@book.example"),
    ("GUESTBOOK_PUBLIC_URL", "https://b\u00fccher.example"),
    ("GUESTBOOK_LOG_LEVEL", "loud"),
    ("GUESTBOOK_LOG_FORMAT", "xml"),
    ("FORWARDED_ALLOW_IPS", "abc"),
    ("FORWARDED_ALLOW_IPS", "10.0.0.1, proxy.example"),
    ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_value_is_refused_in_one_line(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The error names the variable and the reason in one line, without the password."""
    environment.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        settings.load()
    said = str(refused.value)
    assert said.startswith(f"{name}: ")
    assert len(said.splitlines()) == 1
    assert SECRET not in said
    assert len(said) < 300


def _assert_refused(name: str, value: str) -> None:
    env = {"HOST": "127.0.0.1", "PORT": str(free_port()), name: value}
    done = guestbook("serve", redis="", given=b"", **env)
    err = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b""), err
    assert len(err.splitlines()) == 1, err
    assert name in err
    assert "Traceback" not in err
    assert SECRET not in err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"redis://:12/{SECRET}@redis"),
        ("GUESTBOOK_POST_RATE", "20/10"),
        # Whichever way the resolver refuses it.
        ("HOST", "a..b"),
        ("HOST", "no such host"),
    ],
)
def test_wrong_value_ends_the_start(name: str, value: str) -> None:
    """A wrong value ends the start with status 2 and one line that names the variable."""
    _assert_refused(name, value)


def test_port_in_use_ends_the_start() -> None:
    """A port that is in use is named in one line, with the reason."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        _assert_refused("PORT", str(other.getsockname()[1]))


@pytest.mark.parametrize("value", ["", "*", "127.0.0.1", "10.0.0.0/8, ::1 ,192.0.2.7", "fd00::/8"])
def test_addresses_of_proxies_are_accepted(environment: pytest.MonkeyPatch, value: str) -> None:
    """FORWARDED_ALLOW_IPS takes what uvicorn takes: addresses, networks, or all."""
    environment.setenv("FORWARDED_ALLOW_IPS", value)
    settings.load()


def test_public_url_is_read_as_browsers_write_it(environment: pytest.MonkeyPatch) -> None:
    """In lower case, without a default port or a slash at the end."""
    environment.setenv("GUESTBOOK_PUBLIC_URL", " HTTPS://Book.Example:443/ ")
    assert settings.load().public_url == "https://book.example"


def test_longest_age_is_accepted(environment: pytest.MonkeyPatch) -> None:
    """Fifty years reach back to after 1970, and so to a valid id."""
    environment.setenv("GUESTBOOK_MAX_AGE", "18250d")
    assert settings.load().max_age == 18250 * 86400


def test_misspelt_settings_are_found() -> None:
    """Unknown names are found with the most similar setting; Kubernetes's names are ignored."""
    others = {
        "GUESTBOOK_STREAMS_SERVICE_HOST": "",
        "GUESTBOOK_STREAMS_PORT_80_TCP_ADDR": "",
        "GUESTBOOK_TITLE": "",
        "guestbook_max_age": "",
        "PATH": "",
    }
    assert settings.unknown_variables({**KUBERNETES, **others}) == {}
    assert settings.unknown_variables(
        ["GUESTBOOK_TITEL", "GUESTBOOK_ADMINTOKEN", "GUESTBOOK_XYZZY"]
    ) == {
        "GUESTBOOK_TITEL": "GUESTBOOK_TITLE",
        "GUESTBOOK_ADMINTOKEN": "GUESTBOOK_ADMIN_TOKEN",
        "GUESTBOOK_XYZZY": "",
    }


async def test_misspelt_setting_is_logged_once(serve: Serve) -> None:
    """One warning at the start names it; Kubernetes's variables cause none."""
    server = await serve(GUESTBOOK_TITEL="Our book", **KUBERNETES)
    warnings = [record for record in server.records() if record["level"] == "warning"]
    assert [(w["name"], w["did_you_mean"]) for w in warnings] == [
        ("GUESTBOOK_TITEL", "GUESTBOOK_TITLE")
    ]


def _documented() -> list[Variable]:
    rows = []
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and cells[0].startswith("`"):
            name, default, meaning = cells
            rows.append(Variable(name.strip("`"), default.strip("`"), meaning))
    return rows


def test_documented_table_is_the_code() -> None:
    """docs/settings.md has every setting, in order, with its default and its meaning."""
    assert "| Variable | Default | Meaning |" in DOCS.read_text().splitlines()
    assert _documented() == settings.variables()
