"""`POST /messages`: what is accepted, and what a post with a known key does."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from datetime import datetime
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestbook.core.messages import EntryId, InvalidMessageError, NewMessage
from tests.conftest import Serve, two_pods
from tests.support.messages import ADMIN, BROWSER, FORM, JSON, as_bytes, fresh, post, problem, texts
from tests.support.page import Document
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


async def test_json_post_is_created(api: httpx.AsyncClient) -> None:
    """201, the message in the documented form, and a Location from which it can be read."""
    answer = await api.post("/messages", json={"text": " hello\r\nthere ", "author": " Ada "})
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    message = answer.json()
    assert list(message) == ["id", "author", "text", "posted_at", "pod"]
    assert (message["text"], message["author"]) == ("hello\nthere", "Ada")
    assert message["pod"] == "pod-a"
    assert str(EntryId.parse(message["id"])) == message["id"]
    posted_at = datetime.fromisoformat(message["posted_at"])
    assert round(posted_at.timestamp() * 1000) == EntryId.parse(message["id"]).ms
    assert abs(posted_at.timestamp() - time.time()) < 10
    assert answer.headers["location"] == f"/messages/{message['id']}"
    assert (await api.get(answer.headers["location"])).json() == message


@pytest.mark.parametrize("author", [{}, {"author": None}, {"author": "  "}])
async def test_json_post_without_a_name(api: httpx.AsyncClient, author: dict[str, str]) -> None:
    """The author is null, in whatever way it is missing."""
    answer = await api.post("/messages", json={"text": "x", **author})
    assert (answer.status_code, answer.json()["author"]) == (201, None)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_may_have_a_charset(api: httpx.AsyncClient, content_type: str) -> None:
    """Parameters and the case of the media type are ignored."""
    headers = {"Content-Type": content_type}
    answer = await api.post("/messages", content='{"text":"é"}'.encode(), headers=headers)
    assert (answer.status_code, answer.json()["text"]) == (201, "é")


async def test_unknown_members_are_ignored(api: httpx.AsyncClient) -> None:
    """A client of a later version may send more; it cannot set what the server decides."""
    forged = {"text": "x", "id": "1-0", "pod": "evil", "posted_at": "never", "more": [1]}
    message = (await api.post("/messages", json=forged)).json()
    assert message["pod"] == "pod-a"
    assert message["id"] != "1-0"


@pytest.mark.parametrize("headers", [FORM, BROWSER])
async def test_form_post_is_redirected_to_the_page(
    api: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    """303 to `/`, which shows the message: this is how it works without JavaScript."""
    text = fresh("form & <b>")
    body = urlencode({"text": text, "author": "Zoë"})
    answer = await api.post("/messages", content=body, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    newest = Document((await api.get("/")).text).messages[0]
    assert (newest["text"], newest["author"]) == (text, "Zoë")


async def test_form_is_read_as_browsers_write_it(api: httpx.AsyncClient) -> None:
    """A plus sign is a space, a line ends in CR LF, and an empty name is no name."""
    await api.post("/messages", content="text=a+b%2Bc%0D%0Ad%26&author=", headers=FORM)
    newest = (await api.get("/messages?limit=1")).json()["messages"][0]
    assert (newest["text"], newest["author"]) == ("a b+c\nd&", None)


async def test_longest_message_is_accepted(api: httpx.AsyncClient) -> None:
    """1000 and 60 characters, each four bytes long, however they are escaped."""
    longest = {"text": "😀" * 1000, "author": "😀" * 60}
    for content in (json.dumps(longest), json.dumps(longest, ensure_ascii=False)):
        answer = await api.post("/messages", content=content.encode(), headers=JSON)
        assert (answer.status_code, answer.json()["text"]) == (201, longest["text"])
    assert (await api.post("/messages", data=longest)).status_code == 303


async def test_every_read_on_the_same_pod_shows_a_post_at_once(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """List, message and page show it without a delay while another pod posts, too."""

    async def disturb() -> None:
        while True:
            await post(other, fresh("noise"))

    noise = asyncio.create_task(disturb())
    try:
        for _ in range(20):
            message = await post(api, fresh())
            listing, one, page, since = await asyncio.gather(
                api.get("/messages"),
                api.get(f"/messages/{message['id']}"),
                api.get("/"),
                api.get(f"/messages?after={EntryId.parse(message['id']).before()}"),
            )
            assert message in listing.json()["messages"]
            assert one.json() == message
            assert message["id"] in Document(page.text).ids
            assert since.json()["messages"][0] == message
    finally:
        noise.cancel()
        await asyncio.gather(noise, return_exceptions=True)


awkward = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("<>&\"'`{}%\\/\r\n\t\0\x0b\x1b\x7f\x85\u2028\u202e\ufeff\ufffe a"),
    ),
    max_size=200,
)


@settings(max_examples=40, deadline=None)
@given(text=awkward, author=st.none() | awkward)
async def test_any_text_comes_back_the_same_everywhere(
    api: httpx.AsyncClient, text: str, author: str | None
) -> None:
    """Normalised once, the text is the same in the answer, the message, the list and the page."""
    answer = await api.post("/messages", json={"text": text, "author": author})
    try:
        new = NewMessage.parse(text, author)
    except InvalidMessageError as refused:
        problem(answer, 422, refused.field)
        return
    message = answer.json()
    assert (message["text"], message["author"]) == (new.text, new.author)
    assert (await api.get(f"/messages/{message['id']}")).json() == message
    assert (await api.get("/messages?limit=1")).json()["messages"] == [message]
    shown = Document((await api.get("/")).text).messages[0]
    assert (shown["id"], shown["text"]) == (message["id"], new.text)
    if new.author:
        assert shown["author"] == new.author


# The posting rate


@pytest.fixture(scope="module")
async def limited(serve_shared: Serve, shared_valkey: Valkey) -> list[Server]:
    """Two pods with a posting rate."""
    redis = shared_valkey.new_database()
    return await two_pods(serve_shared, redis=redis, GUESTBOOK_POST_RATE="4/h")


def whole_seconds(answer: httpx.Response) -> int:
    """Return `Retry-After`, which must be in whole seconds."""
    value = answer.headers["retry-after"]
    assert value.isdigit()
    return int(value)


async def test_rate_is_counted_across_pods(limited: list[Server]) -> None:
    """Two posts on each pod are four; another address is counted separately."""
    one, two = (pod.url for pod in limited)

    async def say(client: httpx.AsyncClient, pod: str, **headers: str) -> httpx.Response:
        return await client.post(f"{pod}/messages", json={"text": fresh()}, headers=headers)

    async with httpx.AsyncClient() as client:
        statuses = [(await say(client, pod)).status_code for pod in (one, two, one, two)]
        assert statuses == [201, 201, 201, 201]
        for pod in (one, two):
            refused = await say(client, pod)
            problem(refused, 429)
            assert 1 <= whole_seconds(refused) <= 3600
        typed = {"text": "not <lost>", "author": "Ada"}
        answer = await client.post(f"{two}/messages", data=typed, headers=BROWSER)
        assert answer.status_code == 429
        assert 1 <= whole_seconds(answer) <= 3600
        assert Document(answer.text).typed == typed
        # A proxy on this machine is trusted.
        for address in ("10.0.0.7", "::ffff:10.0.0.8", "::ffff:10.0.0.9", "2001:db8::1"):
            statuses = [
                (await say(client, pod, **{"X-Forwarded-For": address})).status_code
                for pod in (one, two, one, two, one)
            ]
            assert statuses == [201, 201, 201, 201, 429]
        for pod in (one, two):
            assert (await client.get(f"{pod}/messages")).status_code == 200
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await say(client, one)).status_code == 201


async def test_retry_after_is_correct(serve: Serve) -> None:
    """A post succeeds after that time, and not before."""
    server = await serve(GUESTBOOK_POST_RATE="1/2s")
    async with server.client() as client:
        await post(client, "first")
        refused = await client.post("/messages", json={"text": "second"})
        assert refused.status_code == 429
        told = whole_seconds(refused)
        assert told in (1, 2)

        async def is_taken() -> bool:
            answer = await client.post("/messages", json={"text": "second"})
            return answer.status_code == 201

        await eventually(is_taken, within=told, every=0.05)
        assert await texts(client) == ["second", "first"]


# Idempotency-Key


async def test_same_key_returns_the_same_message(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """On any pod, any number of times, and whatever the text is then."""
    key, text = {"Idempotency-Key": fresh("key")}, fresh()
    first = await post(api, text, **key)
    for client, again in itertools.product((other, api), (text, "something else")):
        assert await post(client, again, **key) == first
    answer = await other.post("/messages", data={"text": text}, headers=key)
    assert answer.status_code == 303
    assert (await texts(api)).count(text) == 1
    assert "something else" not in await texts(api)


async def test_same_key_at_the_same_time_stores_one_message(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """Twenty simultaneous posts on two pods store one message, and all return it."""
    key = {"Idempotency-Key": fresh("key")}
    said = [fresh("at once") for _ in range(20)]
    clients = itertools.cycle((api, other))
    messages = await asyncio.gather(*(post(next(clients), text, **key) for text in said))
    assert all(message == messages[0] for message in messages)
    kept = await texts(api)
    assert [text for text in said if text in kept] == [messages[0]["text"]]


async def test_other_keys_are_other_messages(api: httpx.AsyncClient) -> None:
    """Keys are compared literally: case, length and braces matter; 128 characters fit."""
    base = fresh("Key")
    keys = [base, base.lower(), base + "!", "{" + base + "}", base + "~" * (128 - len(base)), "!"]
    messages = [await post(api, "x", **{"Idempotency-Key": key}) for key in keys]
    assert len({message["id"] for message in messages}) == len(keys)
    again = [await post(api, "x", **{"Idempotency-Key": key}) for key in keys]
    assert again == messages


@pytest.mark.parametrize(
    "key", ["", "two words", "a\tb", "x" * 129, "x" * 5000, "\u00ff", "Ã©"], ids=lambda key: key[:9]
)
async def test_invalid_key_is_rejected(api: httpx.AsyncClient, key: str) -> None:
    """422 that names the header: a client that sends a key relies on it."""
    text = fresh()
    headers = as_bytes({**JSON, "Idempotency-Key": key})
    answer = await api.post("/messages", content=json.dumps({"text": text}), headers=headers)
    problem(answer, 422, "Idempotency-Key")
    assert text not in await texts(api)


async def test_second_key_is_rejected(api: httpx.AsyncClient) -> None:
    """Which of two keys counts would be a guess."""
    text = fresh()
    keys = [("Idempotency-Key", fresh("one")), ("Idempotency-Key", fresh("two"))]
    problem(await api.post("/messages", json={"text": text}, headers=keys), 422, "Idempotency-Key")
    assert text not in await texts(api)


async def test_known_key_is_answered_above_the_rate(limited: list[Server]) -> None:
    """A repeated post is answered on every pod; a new one is rejected."""
    async with httpx.AsyncClient(headers={"X-Forwarded-For": "10.0.0.1"}) as client:

        async def say(pod: Server, key: str) -> httpx.Response:
            headers = {"Idempotency-Key": key}
            return await client.post(f"{pod.url}/messages", json={"text": key}, headers=headers)

        answers = [await say(pod, "one") for pod in limited * 5]
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        others = [await say(pod, fresh("other")) for pod in limited * 3]
        assert others[-1].status_code == 429
        assert (await say(limited[0], "one")).json() == answers[0].json()


async def test_key_does_not_restore_a_deleted_message(
    api: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    """After a deletion the same key still returns the message, and stores nothing."""
    key, text = {"Idempotency-Key": fresh("key")}, fresh()
    first = await post(api, text, **key)
    assert (await api.delete(f"/messages/{first['id']}", headers=ADMIN)).status_code == 204
    assert (await post(other, text, **key))["id"] == first["id"]
    assert text not in await texts(api)
