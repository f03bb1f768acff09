"""The settings: environment variables, read once at the start."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from guestbook.core import (
    SECONDS,
    Moderation,
    PostRate,
    Retention,
    parse_duration,
    parse_origin,
    serialise_origin,
)
from guestbook.storage import RedisURL

PREFIX = "GUESTBOOK_"
# The variables that Kubernetes sets in every pod for Services named guestbook or guestbook-*.
_OF_KUBERNETES = re.compile(
    r"GUESTBOOK_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)
_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(s|m|h)", re.ASCII)
# An age that reaches back before 1970 is before the first id that Redis can have.
_AGE_MAX_DAYS = 18_250


class SettingsError(Exception):
    """A setting has a wrong value; the text names the variable and what it may be."""


def _parsed(parse: Callable[[str], object]) -> BeforeValidator:
    """Parse a text with `parse`; any other value is a default, and stays."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _or_off(parse: Callable[[str], object]) -> BeforeValidator:
    """Parse a text with `parse`; "off" is None."""
    return _parsed(lambda value: None if value.lower() == "off" else parse(value))


def _parse_rate(value: str) -> PostRate:
    match = _RATE.fullmatch(value)
    if match is None:
        raise ValueError("should look like 20/10s (posts in seconds; also m, h) or be off")
    rate = PostRate(int(match[1]), int(match[2] or 1) * SECONDS[match[3]])
    if 0 in rate:
        raise ValueError("should allow at least one post in at least one second, or be off")
    return rate


def _parse_age(value: str) -> int:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error} or be off") from None
    if seconds > _AGE_MAX_DAYS * SECONDS["d"]:
        raise ValueError(f"should be at most {_AGE_MAX_DAYS}d, or off to keep messages for good")
    return seconds


def _parse_public_url(value: str) -> str:
    parsed = parse_origin(value.strip())
    if parsed is None:
        raise ValueError("should look like https://guestbook.example.org, without a path")
    return serialise_origin(*parsed)


def _parse_origins(value: str) -> tuple[str, ...]:
    if value.strip() == "*":
        return ("*",)
    # As browsers write them: in lower case, without a path.
    return tuple(_parse_public_url(origin) for origin in value.split(","))


def _strip(value: str) -> str | None:
    # A token from a file often has the file's line end.
    return value.strip() or None


_Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class Settings(BaseSettings):
    """All settings, each with its description."""

    model_config = SettingsConfigDict(
        use_attribute_docstrings=True,
        env_prefix=PREFIX,
        env_ignore_empty=True,
        enable_decoding=False,
        extra="ignore",
        frozen=True,
        validate_default=True,
        arbitrary_types_allowed=True,
    )

    redis_url: Annotated[RedisURL, _parsed(RedisURL.parse), Field(alias="REDIS_URL")] = (
        "localhost:6379"  # type: ignore[assignment]  # parsed by the validator
    )
    """Where Redis is: host:port, redis+sentinel://host:port,…/master,
    redis+cluster://host:port,…, redis://, rediss:// or unix://."""
    # Pods must be reachable from outside.
    host: str = Field(default="0.0.0.0", alias="HOST")  # noqa: S104
    """The address to listen on (unset or ::, all IPv4 and IPv6 addresses)."""
    port: int = Field(default=3000, ge=0, le=65535, alias="PORT")
    """The port to listen on (0: any free one)."""
    public_url: Annotated[str | None, _parsed(_parse_public_url)] = None
    """The address that visitors know, such as https://guestbook.example.org
    (unset: from the headers of trusted proxies, else from Host)."""
    allow_origins: Annotated[tuple[str, ...], _parsed(_parse_origins)] = ()
    """Other sites whose pages may use the API in a browser,
    such as https://a.example,https://b.example, or * for all (unset: none)."""
    title: str | None = None
    """The page's heading (unset: Guestbook, in the visitor's language)."""
    welcome: str | None = None
    """The sentence below the heading (unset: one in the visitor's language)."""
    audience: Annotated[Literal["engineers", "guests"], _parsed(str.lower)] = "engineers"
    """engineers or guests: for guests the page and the wall leave out pods, versions
    and the lab."""
    admin_token: Annotated[SecretStr | None, _parsed(_strip)] = None
    """The token with which moderators use HTTP and /moderate (unset: they cannot);
    if it is set, the lab needs it too."""
    moderation: Annotated[Moderation, _parsed(str.lower)] = "off"
    """off, or before: messages wait until a moderator approves them.
    Can be switched while the guestbook runs."""
    max_messages: int = Field(default=10_000, ge=1, le=10_000_000)
    """How many of the newest messages are kept; their edits and deletions count too."""
    max_age: Annotated[int | None, _or_off(_parse_age)] = "off"  # type: ignore[assignment]
    """How long messages are kept, such as 30d or 12h, or off."""
    max_streams: int = Field(default=10_000, ge=1)
    """How many event streams one process may serve."""
    max_streams_per_address: Annotated[int | None, _or_off(str)] = Field(
        default="off",  # type: ignore[assignment]
        ge=1,
    )
    """How many event streams one client address may open in one process, or off."""
    post_rate: Annotated[PostRate | None, _or_off(_parse_rate)] = "20/10s"  # type: ignore[assignment]
    """How often one client address may post, counted across all pods, or off."""
    # At most a day: the Idempotency-Key that proves authorship is kept no longer.
    undo_seconds: int = Field(default=300, ge=0, le=86_400)
    """How many seconds authors may edit or take back their messages (0: never)."""
    legacy_api: bool = False
    """Serve the original application's /lrange, /rpush and /info."""
    lab: bool = False
    """Allow breaking pods on purpose: POST /lab/{pod}/{action}."""
    wait_replicas: int = Field(default=0, ge=0)
    """How many replicas of Redis must have a message before it is acknowledged."""
    drain_seconds: float = Field(default=1, ge=0, le=3600, allow_inf_nan=False)
    """How many seconds the process takes to close its streams when it stops."""
    max_connections: int = Field(default=10_000, ge=1)
    """How many connections one process keeps in addition to its streams:
    beyond that it closes the one that has been idle the longest."""
    max_head_bytes: int = Field(default=32 * 1024, ge=1024, le=65_535)
    """The largest head of a request in bytes: request line and headers."""
    request_seconds: _Seconds = 10
    """How many seconds a client may take to send a request, head and body."""
    keep_alive_seconds: _Seconds = 75
    """How many seconds a connection stays open while its client neither sends nor reads."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _parsed(str.lower)] = "info"
    """The lowest level that is logged."""
    log_format: Annotated[Literal["text", "json"] | None, _parsed(str.lower)] = None
    """text or json (unset: text on a terminal, else json)."""

    @field_validator("*", mode="before")
    @classmethod
    def _check_encoding(cls, value: object) -> object:
        # Python has half a surrogate pair for a byte that is not UTF-8.
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("is not valid UTF-8") from None
        return value

    @property
    def listen_host(self) -> str:
        """Return HOST, or `::` (all IPv4 and IPv6 addresses) if it is not set."""
        return self.host if "host" in self.model_fields_set else "::"

    @property
    def retention(self) -> Retention:
        """Return how many messages are kept, and for how long."""
        return Retention(self.max_messages, (self.max_age or 0) * 1000)


def are_traces_wanted(variables: Mapping[str, str]) -> bool:
    """Return whether OpenTelemetry's own variables name an exporter or its address."""
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = variables.get("OTEL_TRACES_EXPORTER")
    where = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return exporter != "none" if exporter else any(variables.get(name) for name in where)


class Variable(NamedTuple):
    """A setting, as the documents list it."""

    name: str
    default: str
    meaning: str


def load() -> Settings:
    """Read the environment. Raises SettingsError, with one line, for the first wrong value."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    _check_proxies(os.environ.get("FORWARDED_ALLOW_IPS", ""))
    return settings


def variables() -> list[Variable]:
    """Return every setting with its variable's name, its default and its meaning."""
    return [
        Variable(
            _variable(name),
            # true and false are in lower case, as they are written in the environment.
            "" if field.default in (None, ()) else str(field.default).lower(),
            " ".join((field.description or "").split()).removesuffix("."),
        )
        for name, field in Settings.model_fields.items()
    ]


def unknown_variables(names: Iterable[str]) -> dict[str, str]:
    """Return unknown GUESTBOOK_* variables, each with the most similar setting."""
    # The common prefix would make any two names similar.
    known = {variable.name.removeprefix(PREFIX): variable.name for variable in variables()}
    similar = {}
    for name in sorted(map(str.upper, names)):
        if name.startswith(PREFIX) and not _OF_KUBERNETES.fullmatch(name):
            matches = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1)
            similar[name] = known[matches[0]] if matches else ""
    return {name: other for name, other in similar.items() if name != other}


def _check_proxies(value: str) -> None:
    """Check uvicorn's own variable, because uvicorn believes no proxy if it is wrong."""
    for proxy in filter(None, map(str.strip, value.split(","))):
        try:
            if proxy != "*":
                ipaddress.ip_network(proxy)
        except ValueError:
            raise SettingsError(
                f"FORWARDED_ALLOW_IPS: {proxy[:50]!a} should be an IP address or a network"
            ) from None


def _variable(field: str) -> str:
    return Settings.model_fields[field].alias or PREFIX + field.upper()


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = str(first["loc"][0])
    name = _variable(place) if place in Settings.model_fields else place
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{name}: {reason[:1].lower()}{reason[1:]}"
