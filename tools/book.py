"""A guestbook to look at: real servers, and what people may have written."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import httpx
from tests.processes import Server

MESSAGES: list[tuple[str | None, str]] = [
    ("Ada", "First! And it was on everybody's screen before I had lifted my finger."),
    ("Grace", "Hello from the back row."),
    (None, "Is this thing on?"),
    ("Margaret", "It is. Even with Redis unplugged, says the speaker. Let us see."),
    ("Zoë", "Merci pour l’accueil ! Le tutoriel est ici : https://example.org/tutoriel"),
    ("سلمى", "مرحباً بالجميع، هذه أول مشاركة لي (١٢٣)"),
    ("Ken", "kubectl delete pod guestbook-0\n# … and nothing happened. That is the point!"),
    ("美咲", "すてきなページですね。仙台から見ています 🎏"),
    ("Radia", "I scaled it to three: look at the colours."),
    ("Edsger", "Simplicity is a great virtue but it requires hard work to achieve it."),
    (None, "Who serves me? pod-a. And now? pod-b. Nice."),
    ("Barbara", "See (as promised) https://en.wikipedia.org/wiki/Liskov_substitution_principle."),
]


async def write(server: Server, messages: Sequence[tuple[str | None, str]] = MESSAGES) -> None:
    """Posts messages one after the other."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        for author, text in messages:
            answer = await client.post("/messages", json={"author": author, "text": text})
            answer.raise_for_status()


def chromium() -> str:
    """The system's browser."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    raise SystemExit("There is no Chromium: install the package chromium.")
