"""Pages other than the newest messages: languages, files, older pages, one message, errors."""

from __future__ import annotations

import re
import tomllib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.support.messages import ADMIN, BROWSER, TOKEN, names, post_all, store
from tests.support.page import Document
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.web.test_page import ROOT

PAGES = ("/", "/wall", "/feed.atom")


@pytest.fixture(scope="module")
async def api(pod: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Its client, which does not accept compressed bodies."""
    headers = {"Accept-Encoding": "identity"}
    async with pod.client(headers=headers) as client:
        yield client


# Languages


@pytest.mark.parametrize("path", PAGES)
async def test_page_is_in_the_language_of_the_visitor(api: httpx.AsyncClient, path: str) -> None:
    """The headers name the language for browsers and caches."""
    english = await api.get(path)
    french = await api.get(path, headers={"Accept-Language": "fr-CH, fr;q=0.9, en;q=0.8"})
    for answer, language, title in ((english, "en", "Guestbook"), (french, "fr", "Livre d’or")):
        assert answer.headers["content-language"] == language
        assert f'lang="{language}"' in answer.text
        assert f">{title}<" in answer.text
        assert names(answer.headers["vary"]) >= {"accept-language", "accept-encoding"}
    assert english.headers["etag"] != french.headers["etag"]
    headers = {"Accept-Language": "fr", "If-None-Match": french.headers["etag"]}
    assert (await api.get(path, headers=headers)).status_code == 304


async def test_title_and_welcome_of_the_operator_are_not_translated(serve: Serve) -> None:
    """They are the same in every language."""
    server = await serve(GUESTBOOK_TITLE="Our book", GUESTBOOK_WELCOME="Grüezi")
    async with server.client() as client:
        for path in PAGES:
            for language in ("en", "fr"):
                page = (await client.get(path, headers={"Accept-Language": language})).text
                assert "Our book" in page
                assert "Grüezi" in page


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        ("text=", {}, "Your message is empty: write at least one character."),
        (
            "text=",
            {"Accept-Language": "fr"},
            "Votre message est vide\u00a0: écrivez au moins un caractère.",
        ),
        (
            f"text={'x%0D%0A' * 501}",
            {"Accept-Language": "fr"},
            "Votre message compte 1001 caractères\u00a0: 1000 au maximum.",
        ),
        (
            f"text=x&author={'y' * 61}",
            {"Accept-Language": "fr"},
            "Votre nom compte 61 caractères\u00a0: 60 au maximum.",
        ),
        (
            "text=x",
            {"Accept-Language": "fr", "Origin": "https://evil.example"},
            "Un autre site ne peut pas écrire ici en votre nom.",
        ),
        (f"text={'x' * 20_000}", {"Accept-Language": "fr"}, "C’est trop long."),
        ("text=%FF", {"Accept-Language": "fr"}, "Le livre d’or n’a pas pu accepter cet envoi."),
    ],
)
async def test_form_is_rejected_in_the_language_of_the_visitor(
    api: httpx.AsyncClient, body: str, headers: dict[str, str], reason: str
) -> None:
    """Without JavaScript, too, visitors read the reason in their language."""
    answer = await api.post("/messages", content=body, headers={**BROWSER, **headers})
    assert answer.status_code in (403, 413, 422)
    assert reason in Document(answer.text).text
    assert answer.headers["content-language"] == headers.get("Accept-Language", "en")


async def test_page_has_a_sentence_for_each_rule(api: httpx.AsyncClient) -> None:
    """The script takes it by the code in the API's answer, in the visitor's language."""
    words = tomllib.loads((ROOT / "templates/words.toml").read_text())
    for language, sentences in words.items():
        page = Document((await api.get("/", headers={"Accept-Language": language})).text)
        for field in ("text", "author"):
            (place,) = (p for p in page.all("p") if p.get("id") == f"{field}-problem")
            shown = {name: value for name, value in place.items() if name.startswith("data-")}
            prefix = f"{field}_"
            assert shown == {
                f"data-{key.removeprefix(prefix)}": sentence
                for key, sentence in sentences.items()
                if key.startswith(prefix)
            }
            assert "data-too_long" in shown


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "text", "missing"),
        ({"text": " "}, "text", "empty"),
        ({"text": "x" * 1001}, "text", "too_long"),
        ({"text": 1}, "text", "not_a_string"),
        ({"text": "x", "author": "y" * 61}, "author", "too_long"),
    ],
)
async def test_api_has_a_code_for_each_reason(
    api: httpx.AsyncClient, body: dict[str, Any], field: str, code: str
) -> None:
    """Programs read the code; the sentence for people stays English."""
    answer = await api.post("/messages", json=body, headers={"Accept-Language": "fr"})
    (error,) = answer.json()["errors"]
    assert (error["field"], error["code"]) == (field, code)
    assert answer.json()["detail"] == f"{field}: {error['reason']}"
    assert re.match(r"is |must ", error["reason"])
    assert error.get("numbers", {}).keys() == ({"n", "max"} if code == "too_long" else set())
    assert all(str(number) in error["reason"] for number in error.get("numbers", {}).values())


# Compressed


@pytest.mark.parametrize("path", [*PAGES, "/static/js/main.js", "/static/guestbook.css"])
async def test_page_is_compressed_for_clients_that_accept_it(
    api: httpx.AsyncClient, path: str
) -> None:
    """The same page in fewer bytes, with an ETag of its own."""
    await post_all(api, "something " * 90)
    plain = await api.get(path)
    packed = await api.get(path, headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    assert packed.headers["etag"] != plain.headers["etag"]
    for answer, encoding in ((plain, "identity"), (packed, "gzip")):
        headers = {"Accept-Encoding": encoding, "If-None-Match": answer.headers["etag"]}
        again = await api.get(path, headers=headers)
        assert (again.status_code, again.headers["etag"]) == (304, answer.headers["etag"])
        assert names(again.headers["vary"]) >= {"accept-encoding"}


# Files


async def test_page_names_its_files_by_their_content(api: httpx.AsyncClient) -> None:
    """All below one hash, where they may be cached for good; plain names lead to the same."""
    for path in ("/", "/wall"):
        page = Document((await api.get(path)).text)
        addresses = [script["src"] for script in page.all("script")]
        addresses += [
            link["href"]
            for link in page.all("link")
            if link["rel"] in ("icon", "stylesheet", "modulepreload")
        ]
        assert len({address.split("/")[2] for address in addresses}) == 1
        for address in addresses:
            answer = await api.get(address)
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            plain = await api.get(re.sub(r"/[0-9a-f]{12}/", "/", address))
            assert plain.headers["cache-control"] == "no-cache"
            assert (plain.content, plain.headers["etag"]) == (
                answer.content,
                answer.headers["etag"],
            )


@pytest.mark.parametrize("name", ["js/main.js", "guestbook.css", "icon.svg"])
async def test_file_of_another_version_is_the_file_of_this_one(
    api: httpx.AsyncClient, name: str
) -> None:
    """During a rolling update a page's files may be asked of any pod; none is cached for good."""
    plain = await api.get(f"/static/{name}")
    other = await api.get(f"/static/0123456789ab/{name}")
    assert (other.status_code, other.content) == (200, plain.content)
    assert other.headers["content-type"] == plain.headers["content-type"]
    assert other.headers["cache-control"] == "no-cache"
    headers = {"If-None-Match": other.headers["etag"]}
    assert (await api.get(f"/static/0123456789ab/{name}", headers=headers)).status_code == 304


async def test_there_are_no_other_files(api: httpx.AsyncClient) -> None:
    """404 below any hash and without one; and nothing can be posted to a file."""
    files = ("", "guestbook.000000000000.js", "nothing.js", "js/types.d.ts", "js", "../words.toml")
    for name in (*files, "000000000000/nothing.js", "000000000000"):
        assert (await api.get(f"/static/{name}")).status_code == 404, name
    assert (await api.post("/static/js/main.js")).status_code == 405


async def test_page_is_light(api: httpx.AsyncClient) -> None:
    """Page, style and all modules of the script are less than 25 KB as they are sent."""
    await post_all(api, *(f"A message as people write them, number {n}." for n in range(50)))
    headers = {"Accept-Encoding": "gzip"}
    page = await api.get("/", headers=headers)
    files = set(re.findall(r'"(/static/[^"]+\.(?:js|css))"', page.text))
    answers = [page, *[await api.get(file, headers=headers) for file in files]]
    # Those in folders are loaded by the wall, moderators, authors and the open panel of pods.
    modules = {path.name for path in (ROOT / "static/js").glob("*.js")}
    assert {file.rpartition("/")[2] for file in files} == {"guestbook.css", *modules}
    sizes = {answer.url.path: int(answer.headers["content-length"]) for answer in answers}
    assert sum(sizes.values()) < 25_000, sizes


async def test_comments_are_not_sent(api: httpx.AsyncClient) -> None:
    """Comments and indentation are left out; the lines of code keep their numbers."""
    for path in sorted((ROOT / "static").rglob("*.[cj]s*")):
        name = path.relative_to(ROOT / "static").as_posix()
        sent = (await api.get(f"/static/{name}")).text.splitlines()
        for line, original in zip(sent, path.read_text().splitlines(), strict=True):
            assert not re.search(r"^ |^// |/\*|\*/", line)
            if not re.search(r"// |/\*", original):
                assert line == original.strip()


# Older pages


async def test_older_messages_are_pages_of_their_own(serve: Serve) -> None:
    """The links lead to the first message, each message once, and back to the newest."""
    server = await serve()
    async with server.client() as client:
        assert not re.findall(r"/\?before=", (await client.get("/")).text)
        ids = await post_all(client, *map(str, range(120)))
        seen: list[str] = []
        address = "/"
        while address:
            answer = await client.get(address)
            assert answer.status_code == 200
            page = Document(answer.text)
            seen += page.ids
            hrefs = {link["href"] for link in page.all("a")}
            assert ("/" in hrefs) or address == "/"
            (address,) = {href for href in hrefs if href.startswith("/?before=")} or {""}
        assert seen == ids[::-1]
        headers = {"If-None-Match": answer.headers["etag"]}
        assert (await client.get(str(answer.url), headers=headers)).status_code == 304


async def test_older_page_reaches_what_only_redis_has(redis_url: str, serve: Serve) -> None:
    """Messages that are not in the memory of the pod are read from Redis, page by page."""
    await store(redis_url, *["x"] * 100)
    # A pod's memory holds as many entries as it would keep; it trims only when it posts.
    server = await serve(GUESTBOOK_MAX_MESSAGES="10")
    async with server.client() as client:
        page = Document((await client.get("/?before=60")).text)
        assert page.ids == [f"{number}-0" for number in range(59, 9, -1)]
        page = Document((await client.get("/?before=10-0")).text)
        assert page.ids == [f"{number}-0" for number in range(9, 0, -1)]
        assert not [link for link in page.all("a") if "before" in link["href"]]


@pytest.mark.parametrize("before", ["", "x"])
async def test_older_page_needs_an_id(api: httpx.AsyncClient, before: str) -> None:
    """422 that names the parameter."""
    answer = await api.get(f"/?before={before}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "before"


async def test_other_parameters_do_not_matter(api: httpx.AsyncClient) -> None:
    """A link from another site with parameters of its own leads to the same page."""
    assert (await api.get("/?utm_source=x")).text == (await api.get("/")).text


async def test_older_page_while_redis_is_away(valkey: Valkey, serve: Serve) -> None:
    """Older messages that are in memory are served."""
    server = await serve(redis=valkey.address)
    async with server.client() as client:
        ids = await post_all(client, *map(str, range(60)))
        valkey.kill()
        page = await client.get(f"/?before={ids[50]}")
        assert Document(page.text).ids == ids[:50][::-1]


# The page of one message, and pages in place of others

FRENCH = {"Accept": BROWSER["Accept"], "Accept-Language": "fr"}


async def test_message_has_a_page(serve: Serve) -> None:
    """However many are newer: to a browser the page that shows it alone, to others JSON."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN=TOKEN)
    async with server.client() as client:
        ids = await post_all(client, "the <first>", *map(str, range(55)))
        path = f"/messages/{ids[0]}"
        answer = await client.get(path, headers=FRENCH)
        page = Document(answer.text)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert names(answer.headers["vary"]) >= {"accept", "accept-language"}
        assert page.ids == ids[:1]
        assert "the <first>" in page.text
        assert "Messages les plus récents" in page.text
        assert {"href": "/", "class": "button", "id": "newest"} in page.all("a")
        again = {**FRENCH, "If-None-Match": answer.headers["etag"]}
        assert (await client.get(path, headers=again)).status_code == 304
        assert (await client.head(path, headers=BROWSER)).headers["content-type"] == (
            "text/html; charset=utf-8"
        )
        for accept in ("*/*", "application/json", "application/json, text/html"):
            answer = await client.get(path, headers={"Accept": accept})
            assert answer.json()["id"] == ids[0]
            assert names(answer.headers["vary"]) >= {"accept"}

        await client.delete(path, headers=ADMIN)
        gone = await client.get(path, headers=FRENCH)
        assert gone.status_code == 404
        assert "Ce message a été supprimé, ou n’a jamais existé." in Document(gone.text).text


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/nothing", 404, "Il n’y a rien à cette adresse."),
        ("/static/nothing", 404, "Il n’y a rien à cette adresse."),
        ("/messages/nonsense", 404, "Ce message a été supprimé, ou n’a jamais existé."),
        ("/?before=rubbish", 422, "Cette adresse contient une erreur."),
        ("/?before=", 422, "Cette adresse contient une erreur."),
        ("/messages?limit=0", 422, "Cette adresse contient une erreur."),
        ("/events?after=x", 422, "Cette adresse contient une erreur."),
    ],
)
async def test_browser_gets_a_page_in_place_of_an_error(
    api: httpx.AsyncClient, path: str, status: int, reason: str
) -> None:
    """In its language, with a way to the newest messages; others get the problem."""
    answer = await api.get(path, headers=FRENCH)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-language"] == "fr"
    assert answer.headers["cache-control"] == "no-store"
    page = Document(answer.text)
    assert reason in page.text
    assert {"href": "/", "class": "button"} in page.all("a")
    assert page.inline == ""
    assert page.all("script") == []
    for accept in ("*/*", "application/json", "text/event-stream", "image/png,*/*"):
        answer = await api.get(path, headers={"Accept": accept})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert names(answer.headers["vary"]) >= {"accept"}


async def test_other_methods_get_a_page_too(api: httpx.AsyncClient) -> None:
    """A form of another page that leads to a wrong place: 405, with `Allow`."""
    answer = await api.post("/wall", headers=BROWSER)
    assert answer.status_code == 405
    assert "The guestbook cannot answer this request." in answer.text
    assert names(answer.headers["allow"]) >= {"get"}


async def test_form_of_a_tool_gets_a_problem(api: httpx.AsyncClient) -> None:
    """curl accepts anything, and would show a page of HTML."""
    form = {**BROWSER, "Accept": "*/*"}
    for body, status in (("text=", 422), (f"text={'x' * 20_000}", 413)):
        answer = await api.post("/messages", content=body, headers=form)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_browser_gets_a_page_while_redis_is_away(valkey: Valkey, serve: Serve) -> None:
    """For messages that are not in memory: 503, and when to come again."""
    valkey.kill()
    server = await serve(redis=valkey.address, is_ready=False)
    async with server.client() as client:
        for path in ("/?before=9-0", "/messages/9-0"):
            answer = await client.get(path, headers=BROWSER)
            assert answer.status_code == 503
            assert answer.headers["retry-after"].isdigit()
            assert "can't be read right now" in Document(answer.text).text
