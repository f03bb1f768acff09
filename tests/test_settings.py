"""The settings: their defaults, wrong values, what Kubernetes injects, and their table."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from guestbook import settings
from guestbook.core.policy import PostRate
from guestbook.settings import SettingsError, Variable
from tests.conftest import Serve
from tests.support.ports import free_port
from tests.support.servers import guestbook

SECRET = "s3cret"
DOCS = Path(__file__).parents[1] / "docs" / "settings.md"

# As Kubernetes sets them in every pod if there are Services named redis and guestbook.
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


# Each variable: its setting, the default, what the environment may have, and what that means.
SETTINGS: dict[str, tuple[str, object, str, object]] = {
    "REDIS_URL": ("redis_url", "localhost:6379", f"redis://a:{SECRET}@redis:6380/2", "redis:6380"),
    "HOST": ("host", "0.0.0.0", "127.0.0.1", "127.0.0.1"),
    "PORT": ("port", 3000, "8080", 8080),
    "GUESTBOOK_PUBLIC_URL": (
        *("public_url", None),
        *(" HTTPS://Book.Example:443/ ", "https://book.example"),
    ),
    "GUESTBOOK_ALLOW_ORIGINS": (
        *("allow_origins", ()),
        *("https://a.example, http://B.example:8080/", ("https://a.example", "http://b.example:8080")),
    ),
    "GUESTBOOK_TITLE": ("title", None, "Our book <3", "Our book <3"),
    "GUESTBOOK_WELCOME": ("welcome", None, "Grüezi", "Grüezi"),
    "GUESTBOOK_AUDIENCE": ("audience", "engineers", "Guests", "guests"),
    "GUESTBOOK_ADMIN_TOKEN": ("admin_token", None, SECRET, SecretStr(SECRET)),
    "GUESTBOOK_MODERATION": ("moderation", "off", "Before", "before"),
    "GUESTBOOK_MAX_MESSAGES": ("max_messages", 10_000, "7", 7),
    # Fifty years reach back to after 1970, and so to a valid id.
    "GUESTBOOK_MAX_AGE": ("max_age", None, "18250d", 18_250 * 86_400),
    "GUESTBOOK_MAX_STREAMS": ("max_streams", 10_000, "8", 8),
    "GUESTBOOK_MAX_STREAMS_PER_ADDRESS": ("max_streams_per_address", None, "9", 9),
    "GUESTBOOK_POST_RATE": ("post_rate", PostRate(20, 10), "3/2m", PostRate(3, 120)),
    "GUESTBOOK_UNDO_SECONDS": ("undo_seconds", 300, "60", 60),
    "GUESTBOOK_LEGACY_API": ("legacy_api", False, "true", True),
    "GUESTBOOK_LAB": ("lab", False, "true", True),
    "GUESTBOOK_WAIT_REPLICAS": ("wait_replicas", 0, "2", 2),
    "GUESTBOOK_DRAIN_SECONDS": ("drain_seconds", 1, "2.5", 2.5),
    "GUESTBOOK_MAX_CONNECTIONS": ("max_connections", 10_000, "10", 10),
    "GUESTBOOK_MAX_HEAD_BYTES": ("max_head_bytes", 32 * 1024, "2048", 2048),
    "GUESTBOOK_REQUEST_SECONDS": ("request_seconds", 10, "3.5", 3.5),
    "GUESTBOOK_KEEP_ALIVE_SECONDS": ("keep_alive_seconds", 75, "4.5", 4.5),
    "GUESTBOOK_LOG_LEVEL": ("log_level", "info", "WARNING", "warning"),
    "GUESTBOOK_LOG_FORMAT": ("log_format", None, "json", "json"),
}  # fmt: skip


def _chosen(name: str) -> object:
    """Return the value of a setting, of Redis's the address."""
    value: object = getattr(settings.load(), name)
    return str(value) if name == "redis_url" else value


def test_names_are_the_documented_ones() -> None:
    """Three variables have no prefix, the rest has it, and there is no GUESTBOOK_PORT."""
    assert {variable.name for variable in settings.variables()} == SETTINGS.keys()


@pytest.mark.parametrize("variable", SETTINGS)
def test_setting_has_its_default_and_can_be_made(
    environment: pytest.MonkeyPatch, variable: str
) -> None:
    """An empty variable, as a manifest may have it, counts as unset."""
    name, default, written, meaning = SETTINGS[variable]
    assert _chosen(name) == default
    environment.setenv(variable, "")
    assert _chosen(name) == default
    environment.setenv(variable, written)
    assert _chosen(name) == meaning


def test_retention_is_number_and_age(environment: pytest.MonkeyPatch) -> None:
    """Redis's scripts take the age in milliseconds."""
    environment.setenv("GUESTBOOK_MAX_MESSAGES", "7")
    environment.setenv("GUESTBOOK_MAX_AGE", "12h")
    assert settings.load().retention == (7, 12 * 3600 * 1000)


def test_printed_settings_show_no_secret(environment: pytest.MonkeyPatch) -> None:
    """Settings that are printed, in a log or a traceback, show neither token nor password."""
    environment.setenv("REDIS_URL", f"redis://ada:{SECRET}@redis")
    environment.setenv("GUESTBOOK_ADMIN_TOKEN", SECRET)
    chosen = settings.load()
    assert SECRET not in f"{chosen} {chosen!r} {chosen.redis_url}"


@pytest.mark.parametrize(
    ("written", "rate"),
    [("1/s", PostRate(1, 1)), ("100/h", PostRate(100, 3600)), ("off", None), ("OFF", None)],
)
def test_posting_rates(
    environment: pytest.MonkeyPatch, written: str, rate: PostRate | None
) -> None:
    """A rate is a number in a time, or off."""
    environment.setenv("GUESTBOOK_POST_RATE", written)
    assert settings.load().post_rate == rate


def test_kubernetes_service_variables_change_nothing(environment: pytest.MonkeyPatch) -> None:
    """The variables of Services named redis and guestbook do not disturb the settings."""
    before = settings.load()
    for name, value in KUBERNETES.items():
        environment.setenv(name, value)
    assert settings.load() == before


WRONG: dict[str, list[str]] = {
    "REDIS_URL": [
        f"http://:{SECRET}@redis",
        f"redis://:12/{SECRET}@redis",
        f"redis+sentinel://:{SECRET}@redis",
        f"{SECRET}\n{SECRET}://redis",
    ],
    "PORT": ["tcp://10.96.0.7:3000", "65536", "-1"],
    "GUESTBOOK_PUBLIC_URL": [
        *("book.example", "ftp://x", "https://", "https://x/book", "https://x?y"),
        *(f"https://user:{SECRET}@book.example", "https://b\u00fccher.example"),
    ],
    "GUESTBOOK_TITLE": ["not \udcff UTF-8"],
    "GUESTBOOK_ADMIN_TOKEN": ["not \udcff UTF-8"],
    "GUESTBOOK_ALLOW_ORIGINS": ["a.example", "https://a.example,", "*,https://a.example"],
    "GUESTBOOK_MAX_MESSAGES": ["0", "many", "9" * 5000],
    "GUESTBOOK_MAX_AGE": ["30", "0d", "1.5h", "99999d"],
    "GUESTBOOK_MAX_STREAMS": ["-1", "1.5"],
    "GUESTBOOK_MAX_STREAMS_PER_ADDRESS": ["0", "on"],
    "GUESTBOOK_POST_RATE": ["20", "0/10s", "20/0s", "20/10", "20/10s\nx"],
    "GUESTBOOK_UNDO_SECONDS": ["-1", "86401"],
    "GUESTBOOK_LEGACY_API": ["perhaps"],
    "GUESTBOOK_WAIT_REPLICAS": ["-1"],
    "GUESTBOOK_DRAIN_SECONDS": ["-1", "nan", "inf", "1s"],
    "GUESTBOOK_MAX_CONNECTIONS": ["0"],
    "GUESTBOOK_MAX_HEAD_BYTES": ["1000", "65536"],
    "GUESTBOOK_REQUEST_SECONDS": ["0"],
    "GUESTBOOK_KEEP_ALIVE_SECONDS": ["inf"],
    "GUESTBOOK_LOG_LEVEL": ["loud"],
    "GUESTBOOK_LOG_FORMAT": ["xml"],
    "FORWARDED_ALLOW_IPS": ["abc", "10.0.0.1, proxy.example", "10.0.0.1/8"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
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


def _refusal(name: str, value: str) -> str:
    env = {"HOST": "127.0.0.1", "PORT": str(free_port()), name: value}
    done = guestbook("serve", redis="", given=b"", **env)
    err = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b""), err
    assert len(err.splitlines()) == 1, err
    assert name in err
    assert "Traceback" not in err
    assert SECRET not in err
    return err


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
    _refusal(name, value)


def test_port_in_use_ends_the_start() -> None:
    """A port that is in use is named in one line."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "in use" in _refusal("PORT", str(other.getsockname()[1]))


@pytest.mark.parametrize("value", ["", "*", "127.0.0.1", "10.0.0.0/8, ::1 ,192.0.2.7", "fd00::/8"])
def test_addresses_of_proxies_are_accepted(environment: pytest.MonkeyPatch, value: str) -> None:
    """FORWARDED_ALLOW_IPS takes what uvicorn takes: addresses, networks, or all."""
    environment.setenv("FORWARDED_ALLOW_IPS", value)
    settings.load()


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
