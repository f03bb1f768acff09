"""Writers, which retry a message with its key until it is acknowledged; some edit or delete it.

From time to time messages are held; then each is approved or refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import httpx

from tests.chaos.site import TOKEN, Site

_TIMEOUT = 8.0
_PAUSE = 0.1
# One of so many messages is edited, is deleted, has no key, is posted again once acknowledged, is
# read.
_EDITED, _DELETED, _KEYLESS, _REPEATED, _READ = 5, 15, 10, 10, 5
# One held message in so many is refused, or decided about by two moderators.
_REFUSED, _CONTESTED = 4, 3
_MODERATION_SECONDS = 3.0
_WORDS = "Sometimes ünïcode, sometimes 日本語, sometimes an emoji 🎉, always some words more. "


class Writers:
    """Some writers, and the answers that they got."""

    def __init__(
        self, site: Site, rng: Random, complain: Callable[[str], None], *, pause: float
    ) -> None:
        self._site = site
        self._rng = rng
        self._complain = complain
        self._pause = pause
        self._is_over = asyncio.Event()
        self.acknowledged: dict[str, str] = {}
        """The ids, by text."""
        self.edited: dict[str, str] = {}
        """The last texts of edited messages, by id."""
        self.deleted: set[str] = set()
        self.approved: set[str] = set()
        self.refused: set[str] = set()
        """Texts that no reader may see."""
        self.attempted: set[str] = set()
        """Texts that were sent once, without a key, and may have been refused."""

    async def write(self, count: int) -> None:
        """Run `count` writers until `finish`; return when all their messages are acknowledged."""
        async with (
            httpx.AsyncClient(
                timeout=_TIMEOUT, verify=False, limits=httpx.Limits(max_connections=None)
            ) as self._http,
            asyncio.TaskGroup() as group,
        ):
            for number in range(count):
                group.create_task(self._write(number))
            group.create_task(self._switch_moderation())

    def finish(self) -> None:
        """Start no new message."""
        self._is_over.set()

    async def _switch_moderation(self) -> None:
        """Have messages held for a while, again and again."""
        while not self._is_over.is_set():
            for mode in ("before", "off"):
                await self._retry("PATCH", "/control", {"moderation": mode})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_MODERATION_SECONDS):
                        await self._is_over.wait()

    async def _write(self, writer: int) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            words = _WORDS * self._rng.randint(0, 12)
            text = f"{writer}/{number} {words}".strip()
            if self._rng.randrange(_KEYLESS) == 0:
                await self._attempt(text)
            else:
                await self._post(text, key=f"{writer}-{number}-{self._rng.random()}")
            await asyncio.sleep(self._rng.uniform(0, 2 * self._pause))

    async def _post(self, text: str, key: str) -> None:
        answer = await self._retry("POST", "/messages", {"text": text}, key=key)
        message = answer.json()
        if message["text"] != text:
            self._complain(f"posted {text!r}, and {message['text']!r} was acknowledged")
        if answer.status_code == 202:
            await self._decide(message, key)
            return
        self.acknowledged[text] = message["id"]
        if self._rng.randrange(_READ) == 0:
            await self._read_own(answer)
        if self._rng.randrange(_REPEATED) == 0:
            again = await self._retry("POST", "/messages", {"text": "other words"}, key=key)
            if again.json() != message:
                self._complain(f"the same key returned {message} and {again.json()}")
        if self._rng.randrange(_EDITED) == 0:
            await self._edit(message["id"], text, key)
        if self._rng.randrange(_DELETED) == 0:
            own = key if self._rng.random() < 0.5 else None
            await self._retry("DELETE", f"/messages/{message['id']}", key=own)
            self.deleted.add(message["id"])

    async def _decide(self, held: dict[str, Any], key: str) -> None:
        """Approve or refuse a held message, then post it again: its author learns of it."""
        path, text = f"/held/{held['id']}", held["text"]
        is_refused = self._rng.randrange(_REFUSED) == 0
        if is_refused:
            await self._retry("DELETE", path)
            self.refused.add(text)
        moderators = 0 if is_refused else 1 + (self._rng.randrange(_CONTESTED) == 0)
        approvals = [self._retry("POST", f"{path}/approve") for _ in range(moderators)]
        answers = await asyncio.gather(*approvals)
        answers.append(await self._retry("POST", "/messages", {"text": text}, key=key))
        found = {answer.json().get("id") for answer in answers}
        if len(found) > 1 or is_refused != (None in found):
            self._complain(f"{held['id']} was decided about as {found}")
        elif not is_refused:
            self.approved.add(text)
            self.acknowledged[text] = found.pop()

    async def _edit(self, message_id: str, text: str, key: str) -> None:
        """Edit a message, and again while no request is left that may still be carried out."""
        path = f"/messages/{message_id}"
        for number in range(self._rng.randint(1, 3)):
            edited = f"{text} edited {number}"
            answer = await self._send("PATCH", path, {"text": edited}, key=key)
            is_repeated = answer is None or answer.status_code != 200
            if is_repeated:
                answer = await self._retry("PATCH", path, {"text": edited}, key=key)
            if answer is not None and answer.status_code == 403:
                # Moderation was switched on; an attempt before that may have been carried out.
                self.edited.pop(message_id, None)
                return
            if answer is None or answer.status_code != 200 or answer.json()["text"] != edited:
                self._complain(f"the edit of {message_id} was not made: {answer}")
            self.edited[message_id] = edited
            if is_repeated:
                return

    async def _attempt(self, text: str) -> None:
        """Post once, without a key, as a simple client does."""
        self.attempted.add(text)
        answer = await self._send("POST", "/messages", {"text": text})
        if answer is not None and answer.status_code == 201:
            self.acknowledged[text] = answer.json()["id"]

    async def _read_own(self, answer: httpx.Response) -> None:
        """Read the message from the pod that acknowledged it: it must be there."""
        url = answer.request.url.join(answer.headers["location"])
        try:
            found = await self._http.get(url)
        except httpx.TransportError:
            return
        if found.status_code not in (200, 503):
            self._complain(f"{url} is {found.status_code} right after it was posted")

    async def _retry(
        self, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> httpx.Response:
        """Repeat a request to any server until it succeeds."""
        is_patient = self._rng.random() < 0.5
        while True:
            answer = await self._send(method, path, body, key=key)
            # A deletion with a lost answer finds nothing the second time.
            if answer is not None and answer.status_code not in (429, 503):
                return answer
            pause = _PAUSE
            if answer is not None and is_patient:
                pause = float(answer.headers["retry-after"])
            await asyncio.sleep(pause)

    async def _send(
        self, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> httpx.Response | None:
        """Send a request to one server; return None if it is not answered."""
        server = self._rng.choice(self._site.servers)
        headers = {} if key is None else {"Idempotency-Key": key}
        if key is None and path != "/messages":
            headers["Authorization"] = f"Bearer {TOKEN}"
        try:
            answer = await self._http.request(method, server.url + path, json=body, headers=headers)
        except httpx.TransportError:
            return None
        is_refusal = answer.status_code in (429, 503)
        if is_refusal and not answer.headers.get("retry-after", "").isdigit():
            self._complain(f"{answer.status_code} without Retry-After")
            return None
        is_decided = answer.status_code == 403 and answer.json()["code"] in ("refused", "approved")
        if not (is_refusal or is_decided or answer.status_code in (200, 201, 202, 204, 404)):
            self._complain(f"{method} {path}: {answer.status_code}: {answer.text[:200]}")
            await asyncio.sleep(1)
            return None
        return answer
