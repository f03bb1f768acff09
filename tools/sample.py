"""A sample guestbook: real servers with sample messages."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
from playwright.async_api import Browser, async_playwright

from tests.support.servers import Server
from tests.support.valkey import Valkey

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


@contextlib.asynccontextmanager
async def serve() -> AsyncIterator[tuple[Server, Valkey]]:
    """Run a server that is ready, and its Valkey."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        valkey = Valkey(Path(folder) / "valkey").start()
        stack.callback(valkey.kill)
        server = Server(Path(folder) / "log", valkey.address).start()
        stack.callback(server.stop)
        yield await server.ready(), valkey


async def write(server: Server, messages: Sequence[tuple[str | None, str]] = MESSAGES) -> None:
    """Post messages one after the other."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        for author, text in messages:
            answer = await client.post("/messages", json={"author": author, "text": text})
            answer.raise_for_status()


@contextlib.asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Run the system's browser."""
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )


def chromium() -> str:
    """Return the system's browser."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell"):
        found = shutil.which(name)
        if found:
            return found
    raise SystemExit("There is no Chromium: install the package chromium.")
