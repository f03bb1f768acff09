"""Everything beside the API: languages, older pages, the wall, the feed, the files."""

from __future__ import annotations

import re
import tomllib
import warnings
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from guestbook.core import normalise
from guestbook.storage.keys import EVENTS
from guestbook.web.pages.renderer import hue
from tests.conftest import Serve
from tests.support.servers import Server
from tests.support.valkey import Valkey, redis_client
from tests.support.waiting import eventually
from tests.web.test_page import ROOT, Document

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import feedparser

ATOM = "{http://www.w3.org/2005/Atom}"
PAGES = ("/", "/wall", "/feed.atom")
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    return await serve_shared("pod-é", GUESTBOOK_ADMIN_TOKEN="open-sesame")


@pytest.fixture(scope="module")
async def api(pod: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Its client, which does not accept compressed bodies."""
    headers = {"Accept-Encoding": "identity"}
    async with pod.client(headers=headers) as client:
        yield client


async def post(api: httpx.AsyncClient, *texts: str, author: str | None = None) -> list[str]:
    """Post messages and return their ids."""
    answers = [await api.post("/messages", json={"text": t, "author": author}) for t in texts]
    return [answer.json()["id"] for answer in answers]


def names(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",")}


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
    answer = await api.post("/messages", content=body, headers={**FORM, **headers})
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


# Compressed


@pytest.mark.parametrize("path", [*PAGES, "/static/js/main.js", "/static/guestbook.css"])
async def test_page_is_compressed_for_clients_that_accept_it(
    api: httpx.AsyncClient, path: str
) -> None:
    """The same page in fewer bytes, with an ETag of its own."""
    await post(api, "something " * 90)
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


@pytest.mark.parametrize(
    "name",
    [
        "",
        "guestbook.000000000000.js",
        "nothing.js",
        "js/types.d.ts",
        "000000000000/nothing.js",
        "000000000000",
        "js",
        "../words.toml",
    ],
)
async def test_there_are_no_other_files(api: httpx.AsyncClient, name: str) -> None:
    """404 below any hash and without one; and nothing can be posted to a file."""
    assert (await api.get(f"/static/{name}")).status_code == 404
    assert (await api.post("/static/js/main.js")).status_code == 405


async def test_page_is_light(api: httpx.AsyncClient) -> None:
    """Page, style and all modules of the script are less than 25 KB as they are sent."""
    await post(api, *(f"A message as people write them, number {n}." for n in range(50)))
    headers = {"Accept-Encoding": "gzip"}
    page = await api.get("/", headers=headers)
    files = set(re.findall(r'"(/static/[^"]+\.(?:js|css))"', page.text))
    answers = [page, *[await api.get(file, headers=headers) for file in files]]
    # The others are loaded where there is a lab, by the wall, by authors and by moderators;
    # those in folders where the panel of pods is open.
    others = {"lab.js", "wall.js", "own.js", "moderate.js", "held.js", "switches.js", "keys.js"}
    modules = {path.name for path in (ROOT / "static/js").glob("*.js")} - others
    assert {file.rpartition("/")[2] for file in files} == {"guestbook.css", *modules}
    assert sum(int(answer.headers["content-length"]) for answer in answers) < 25_000


async def test_comments_are_not_sent(api: httpx.AsyncClient) -> None:
    """Nor is indentation; the code is, and its lines keep their numbers."""
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
        ids = await post(client, *map(str, range(120)))
        seen: list[str] = []
        address = "/"
        while address:
            answer = await client.get(address)
            assert answer.status_code == 200
            page = Document(answer.text)
            seen += page.messages
            hrefs = {link["href"] for link in page.all("a")}
            assert ("/" in hrefs) or address == "/"
            (address,) = {href for href in hrefs if href.startswith("/?before=")} or {""}
        assert seen == ids[::-1]
        headers = {"If-None-Match": answer.headers["etag"]}
        assert (await client.get(str(answer.url), headers=headers)).status_code == 304


async def test_older_page_reaches_what_only_redis_has(
    shared_valkey: Valkey, redis_url: str, serve: Serve
) -> None:
    """Messages that are not in the memory of the pod are read from Redis, page by page."""
    async with redis_client(redis_url) as redis, redis.pipeline() as pipeline:
        for number in range(1, 2501):
            pipeline.xadd(EVENTS, {"text": "x" * 4000 + str(number)}, id=f"{number}-0")
        await pipeline.execute()
    server = await serve()
    async with server.client() as client:
        page = Document((await client.get("/?before=60")).text)
        assert page.messages == [f"{number}-0" for number in range(59, 9, -1)]
        page = Document((await client.get("/?before=10-0")).text)
        assert page.messages == [f"{number}-0" for number in range(9, 0, -1)]
        assert not [link for link in page.all("a") if "before" in link["href"]]


@pytest.mark.parametrize("before", ["", "x", "-1", "99999999999999999999", "1-0-0", "%00"])
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
        ids = await post(client, *map(str, range(60)))
        valkey.kill()
        page = await client.get(f"/?before={ids[50]}")
        assert Document(page.text).messages == ids[:50][::-1]


# The wall


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"Host": "example.org"}, "http://example.org"),
        ({"Host": "Example.org:8080"}, "http://example.org:8080"),
        ({"Host": "[::1]:3000"}, "http://[::1]:3000"),
        ({"Host": "x", "X-Forwarded-Proto": "https"}, "https://x"),
        (
            {"Host": "x", "X-Forwarded-Host": "a.example, b", "X-Forwarded-Proto": "https,http"},
            "https://a.example",
        ),
        ({"Host": "fallback", "X-Forwarded-Host": '"><script>'}, "http://fallback"),
        ({"Host": "fallback", "X-Forwarded-Host": "user@evil"}, "http://fallback"),
        ({"Host": "fallback", "X-Forwarded-Host": "evil/path?x"}, "http://fallback"),
        ({"Host": "fallback", "X-Forwarded-Host": "x" * 129}, "http://fallback"),
        ({"Host": "fallback", "X-Forwarded-Proto": "javascript"}, "http://fallback"),
        ({"Host": "a_b*"}, None),
        ({"Host": ""}, None),
    ],
    ids=str,
)  # fmt: skip
async def test_wall_shows_the_address_of_the_request(
    pod: Server, api: httpx.AsyncClient, headers: dict[str, str], address: str | None
) -> None:
    """As text and as a QR code, behind a proxy too; an invalid host is ignored."""
    answer = await api.get("/wall", headers=headers)
    assert answer.status_code == 200
    expected = address or pod.url
    page = Document(answer.text)
    assert expected.partition("//")[2] in page.text
    assert "evil" not in answer.text
    assert page.inline == ""
    assert page.all("svg")
    assert not [given for _, given in page.elements if "style" in given]
    feed = ElementTree.fromstring((await api.get("/feed.atom", headers=headers)).content)
    links = {link.get("rel"): link.get("href") for link in feed.findall(f"{ATOM}link")}
    assert links == {"self": f"{expected}/feed.atom", "alternate": f"{expected}/"}


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost:3000", True),
        ("127.0.0.1", True),
        ("[::1]:3000", True),
        ("guestbook.localhost", True),
        ("localhost.example.org", False),
        ("192.0.2.1:3000", False),
    ],
)
async def test_wall_warns_of_an_address_for_this_computer_alone(
    api: httpx.AsyncClient, host: str, is_local: bool
) -> None:
    """A telephone that scans `localhost` finds itself."""
    wall = (await api.get("/wall", headers={"Host": host})).text
    assert ("Only this computer can open this address" in Document(wall).text) == is_local


async def test_wall_changes_with_address_and_messages(api: httpx.AsyncClient) -> None:
    """Each address has its own wall, for any number of addresses; a new message changes it."""
    etags = set()
    for number in range(80):
        etags.add((await api.get("/wall", headers={"Host": f"h{number}.example"})).headers["etag"])
    assert len(etags) == 80
    again = await api.get("/wall", headers={"Host": "h0.example"})
    assert again.headers["etag"] in etags
    (message_id,) = await post(api, "new on the wall")
    changed = await api.get("/wall", headers={"Host": "h0.example"})
    assert changed.headers["etag"] not in etags
    assert Document(changed.text).messages[0] == message_id
    assert names(changed.headers["vary"]) >= {
        *("forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto")
    }


# The page of one message, and pages in place of others

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FRENCH = {**BROWSER, "Accept-Language": "fr"}


async def test_message_has_a_page(serve: Serve) -> None:
    """However many are newer: to a browser the page that shows it alone, to others JSON."""
    server = await serve(GUESTBOOK_ADMIN_TOKEN="open-sesame")
    async with server.client() as client:
        ids = await post(client, "the <first>", *map(str, range(55)))
        path = f"/messages/{ids[0]}"
        answer = await client.get(path, headers=FRENCH)
        page = Document(answer.text)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert names(answer.headers["vary"]) >= {"accept", "accept-language"}
        assert page.messages == ids[:1]
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

        headers = {"Authorization": "Bearer open-sesame"}
        await client.delete(path, headers=headers)
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
    form = {**FORM, "Accept": "*/*"}
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


# The feed


def parsed(answer: httpx.Response) -> Any:
    """Return the feed as a feed reader understands it."""
    found = feedparser.parse(answer.content, response_headers=dict(answer.headers))
    assert not found.bozo, found.get("bozo_exception")
    assert found.version == "atom10"
    return found


async def test_feed_has_the_newest_messages(serve: Serve) -> None:
    """The newest 50, with names, times and texts as they were posted; ids that stay."""
    server = await serve("pod-a", GUESTBOOK_ADMIN_TOKEN="open-sesame")
    async with server.client() as client:
        empty = parsed(await client.get("/feed.atom"))
        assert empty.entries == []
        assert empty.feed.updated == "1970-01-01T00:00:00.000Z"
        await post(client, *map(str, range(50)))
        await post(client, "<b>bold</b> & http://a.b\n second line", author="Ada")
        answer = await client.get("/feed.atom")
        assert answer.headers["content-type"] == "application/atom+xml; charset=utf-8"
        feed = parsed(answer)
        stored = (await client.get("/messages?limit=50")).json()["messages"]
        assert [entry.content[0].value for entry in feed.entries] == [m["text"] for m in stored]
        assert {entry.content[0].type for entry in feed.entries} == {"text/plain"}
        assert [entry.updated for entry in feed.entries] == [m["posted_at"] for m in stored]
        assert feed.feed.updated == stored[0]["posted_at"]
        newest = feed.entries[0]
        assert (newest.author, feed.entries[1].author) == ("Ada", "Anonymous")
        assert newest.link == f"{server.url}/messages/{stored[0]['id']}"
        ids = [entry.id for entry in feed.entries]
        assert len(set(ids)) == 50
        assert all(re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", each) for each in ids)

        elsewhere = parsed(await client.get("/feed.atom", headers={"Host": "other.example"}))
        assert [entry.id for entry in elsewhere.entries] == ids
        assert elsewhere.feed.id != feed.feed.id
        headers = {"Authorization": "Bearer open-sesame"}
        await client.delete(f"/messages/{stored[0]['id']}", headers=headers)
        after = await client.get("/feed.atom", headers={"If-None-Match": answer.headers["etag"]})
        assert after.status_code == 200
        assert parsed(after).entries[0].id == ids[1]


async def test_feed_is_shown_in_a_browser(api: httpx.AsyncClient) -> None:
    """As XML with a style: Firefox would save a feed as a file."""
    await post(api, "one")
    answer = await api.get("/feed.atom", headers=BROWSER)
    assert answer.headers["content-type"].partition(";")[0] == "text/xml"
    assert names(answer.headers["vary"]) >= {"accept"}
    style = re.search(r'<\?xml-stylesheet href="([^"]+)"', answer.text)
    assert style is not None
    assert (await api.get(style[1])).headers["content-type"].startswith("text/css")


def children(element: ElementTree.Element) -> list[str]:
    return [child.tag.removeprefix(ATOM) for child in element]


async def test_feed_has_what_the_standard_requires(api: httpx.AsyncClient) -> None:
    """RFC 4287, section 4.1: each of these exactly once, times in the format of RFC 3339."""
    await post(api, "one")
    feed = ElementTree.fromstring((await api.get("/feed.atom")).content)
    assert feed.tag == f"{ATOM}feed"
    for element in (feed, *feed.findall(f"{ATOM}entry")):
        for required in ("id", "title", "updated"):
            assert children(element).count(required) == 1
        updated = element.findtext(f"{ATOM}updated") or ""
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", updated)
    for entry in feed.findall(f"{ATOM}entry"):
        assert children(entry).count("author") == children(entry).count("content") == 1


HOSTILE = [
    "]]><x/>&amp;&#0;",
    "\ufffe\uffff\U0001fffe",
    "<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>&y;",
    "\u202e\u2028\u0085x \u200b",
]


async def test_feed_changes_no_direction_beyond_titles_and_names(api: httpx.AsyncClient) -> None:
    """An override in a message or a name stays out of a feed reader's list."""
    await post(api, "\u202eevil \u2067" + "x" * 100, author="\u202eAda\u2066")
    answer = await api.get("/feed.atom")
    entry = parsed(answer).entries[0]
    assert (entry.title, entry.author) == ("evil " + "x" * 54 + "…", "Ada")
    assert entry.content[0].value.startswith("\u202eevil")


async def test_nothing_breaks_the_feed(redis_url: str, serve: Serve) -> None:
    """Neither messages nor characters in Redis that XML does not allow."""
    server = await serve()
    async with server.client() as client:
        await post(client, *HOSTILE, author="\ufffe<&>")
        async with redis_client(redis_url) as redis:
            fields = {
                "text": b"\x00\x01\x08\x1b\xff\xed\xa0\x80",
                "author": b"\x00\xff",
                "pod": b"\x02",
            }
            raw_id = await redis.xadd(EVENTS, fields)

        async def has_it() -> bool:
            return (await client.get(f"/messages/{raw_id}")).status_code == 200

        await eventually(has_it)
        answer = await client.get("/feed.atom")
        texts = [entry.content[0].value for entry in parsed(answer).entries]
        assert len(texts) == len(HOSTILE) + 1
        elements = ElementTree.fromstring(answer.content).findall(f"{ATOM}entry")
        contents = [element.findtext(f"{ATOM}content") for element in elements]
        assert contents[1:] == [
            re.sub("[\ufffe\uffff]", "\ufffd", normalise(text)) for text in reversed(HOSTILE)
        ]
        assert set(contents[0] or "") == {"\ufffd"}


async def test_feed_is_unavailable_until_it_is_complete(valkey: Valkey, serve: Serve) -> None:
    """A feed reader must not see an empty feed before the pod has read the messages."""
    valkey.kill()
    server = await serve(redis=valkey.address, is_ready=False)
    async with server.client() as client:
        answer = await client.get("/feed.atom")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0


# Colours


def test_colours_come_from_fnv() -> None:
    """The reference values of FNV-1a, 32 bits, so that the script can compute the same."""
    assert hue("") == "c5"  # of 0x811C9DC5
    assert hue("a") == "2c"  # of 0xE40C292C
    assert hue("foobar") == "68"  # of 0xBF9CF968


async def test_pages_have_the_colour_of_their_pod(api: httpx.AsyncClient) -> None:
    """The colour is in the page, without JavaScript."""
    wall = (await api.get("/wall")).text
    assert f'data-hue="{hue("pod-é")}"' in wall
