"""No server may reveal a secret of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit


class Watch:
    """Looks for the secrets of all servers of this session in their answers and logs."""

    def __init__(self) -> None:
        self._secrets: set[bytes] = set()
        self._logs: set[Path] = set()
        self._leaks: list[str] = []

    def learn(self, env: Mapping[str, str], log: Path) -> None:
        """A server is about to be started; it will write this log."""
        url = urlsplit(env["REDIS_URL"])
        passwords = [value for name, value in parse_qsl(url.query) if name.endswith("password")]
        passwords.append(url.netloc.rpartition("@")[0].partition(":")[2])
        token = env.get("GUESTBOOK_ADMIN_TOKEN", "").strip()
        for secret in (token, *passwords, *map(unquote, passwords)):
            if secret:
                self._secrets.add(secret.encode())
        self._logs.add(log)

    def look(self, where: str, said: bytes) -> None:
        """Record a secret that was found in an answer."""
        self._leaks += [f"{secret!r} in {where}" for secret in self._secrets if secret in said]

    def leaks(self) -> list[str]:
        """The leaked secrets, logs included."""
        for log in self._logs:
            if log.exists():
                self.look(str(log), log.read_bytes())
        return self._leaks


watch = Watch()
