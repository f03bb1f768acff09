"""A sample guestbook: real servers with sample messages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import httpx

from tests.support.servers import Server

MESSAGES: list[tuple[str | None, str]] = [
    ("Ada", "First! And it was on everybody’s screen before I had lifted my finger."),
    ("Grace", "Hello from the back row."),
    (None, "Is this thing on?"),
    ("Margaret", "It is. Even with Redis unplugged, says the speaker. Let us see."),
    ("Zoë", "Merci pour l’accueil ! On vous lit depuis Lausanne."),
    ("سلمى", "مرحباً بالجميع، هذه أول مشاركة لي"),
    ("Ken", "$ kubectl delete pod guestbook-6d9f7c5b8-x2kqp\n… and my page did not even blink."),
    ("Radia", "Two pods, two colours. Now watch me scale it."),
    (None, "Who serves me? The violet one. And now? The red one. Nice."),
    ("Ελένη", "Καλημέρα από τη Θεσσαλονίκη!"),
    ("Barbara", "The slides are here (with the exercises): https://example.org/slides"),
    ("Linus", "I tried very hard to lose a message. It is still there."),
]


async def write(server: Server, messages: Sequence[tuple[str | None, str]] = MESSAGES) -> None:
    """Post messages one after the other."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        for author, text in messages:
            answer = await client.post("/messages", json={"author": author, "text": text})
            answer.raise_for_status()


def chromium() -> str:
    """Return the system's browser."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell"):
        found = shutil.which(name)
        if found:
            return found
    raise SystemExit("There is no Chromium: install the package chromium.")
