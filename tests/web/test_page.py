"""The page of the newest messages."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.support.page import Document
from tests.support.servers import Server
from tests.support.sse import EventStream

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    return await serve_shared("pod-<a>&b")


async def test_page_has_the_newest_messages_pod_cursor_and_form(serve: Serve) -> None:
    """All that a visitor without JavaScript needs, and the cursor for the script."""
    server = await serve("pod-of-mine", GUESTBOOK_TITLE="Title <1>", GUESTBOOK_WELCOME="Hi & hello")
    async with server.client() as client:
        empty = Document((await client.get("/")).text)
        assert empty.ids == []
        assert empty.cursor == "0-0"
        ids = []
        for number in range(53):
            answer = await client.post("/messages", json={"text": f"text {number}.", "author": "Ö"})
            ids.append(answer.json()["id"])
        answer = await client.get("/")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        page = Document(answer.text)
        assert page.ids == ids[:-51:-1]
        assert "text 52." in page.text
        assert "text 3." in page.text
        assert "text 2." not in page.text
        assert page.cursor == ids[-1]
        assert "pod-of-mine" in page.text
        assert "Title <1>" in page.text
        assert "Hi & hello" in page.text
        (form,) = page.all("form")
        assert (form["method"].lower(), form["action"]) == ("post", "/messages")
        assert {"text"} == {field["name"] for field in page.all("textarea")}
        assert "author" in {field.get("name") for field in page.all("input")}


async def test_stream_continues_where_the_page_ends(pod: Server, api: httpx.AsyncClient) -> None:
    """From the cursor of the page on, the stream has what was posted later, and nothing else."""
    await api.post("/messages", json={"text": "before"})
    cursor = Document((await api.get("/")).text).cursor
    later = (await api.post("/messages", json={"text": "after"})).json()
    async with EventStream(pod.url, after=cursor) as stream:
        assert (await stream.until("message")).data == later


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'><b>",
    "</p></li></ol></main><script>",
    "</template></textarea></title></style><script>",
    "<!-- comment",
    "<![CDATA[x]]>",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "&lt;b&gt; &amp;amp; &#x3c;",
    "javascript:alert(1)",
    "https://evil.example/",
]


async def test_text_is_never_html(serve: Serve, api: httpx.AsyncClient) -> None:
    """Texts, names, title, welcome and host name are shown as they were written."""
    hostile = "<b onclick='x()'>\"&amp;{{ 7*7 }}<script>"
    server = await serve(hostile, GUESTBOOK_TITLE=hostile, GUESTBOOK_WELCOME=hostile)
    async with httpx.AsyncClient() as client:
        for text in HOSTILE:
            message = {"text": text, "author": text[:60]}
            answer = await client.post(f"{server.url}/messages", json=message)
            assert answer.json()["text"] == text
            assert answer.headers["content-type"] == "application/json"
        page = Document((await client.get(server.url)).text)
        for text in [*HOSTILE, hostile]:
            assert text in page.text
        assert page.inline == ""
    await api.post("/messages", json={"text": "plain"})
    plain = Document((await api.get("/")).text)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}


async def test_page_has_nothing_inline_and_loads_nothing_from_other_hosts(
    pod: Server, api: httpx.AsyncClient
) -> None:
    """No inline script, style or event handler, and no address of another host."""
    page = Document((await api.get("/")).text)
    assert page.inline == ""
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "srcset", "poster", "formaction"):
            address = attributes.get(name, "/")
            assert re.match(r"/(?!/)|#", address), address
    assert page.all("script")
    for script in page.all("script"):
        assert (await api.get(script["src"])).status_code == 200
    for link in page.all("link"):
        assert (await api.get(link["href"])).status_code == 200


FILES = sorted(
    path.relative_to(ROOT / "static").as_posix()
    for path in (ROOT / "static").rglob("*")
    if path.suffix in (".css", ".js", ".svg")
)


@pytest.mark.parametrize("name", FILES)
async def test_static_files_name_no_other_host(api: httpx.AsyncClient, name: str) -> None:
    """Each has its media type and loads nothing from other hosts."""
    answer = await api.get(f"/static/{name}")
    assert answer.status_code == 200
    kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kind[name.rpartition(".")[2]])
    loaded = re.sub(r"http://www\.w3\.org/\S+", "", answer.text)
    assert "://" not in re.sub(r"(?m)^\s*(//|/?\*).*$", "", loaded)
    assert "@import" not in loaded
    assert "innerHTML" not in loaded
    assert "insertAdjacentHTML" not in loaded


async def test_page_that_has_not_changed_is_not_sent_again(api: httpx.AsyncClient) -> None:
    """304 with the same ETag until there is a new message; files likewise."""
    first = await api.get("/")
    etag = first.headers["etag"]
    for given in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = await api.get("/", headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert (await api.get("/", headers={"If-None-Match": '"other"'})).status_code == 200
    await api.post("/messages", json={"text": "something new"})
    changed = await api.get("/", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag
    script = await api.get("/static/js/main.js")
    headers = {"If-None-Match": script.headers["etag"]}
    assert (await api.get("/static/js/main.js", headers=headers)).status_code == 304
