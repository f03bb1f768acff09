"""The wall: its address for visitors, and the colours of pods."""

from __future__ import annotations

from xml.etree import ElementTree

import httpx
import pytest

from guestbook.web.pages.renderer import hue
from tests.conftest import Serve
from tests.support.messages import names, post_all
from tests.support.page import Document
from tests.support.servers import Server

ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture(scope="module")
async def pod(serve_shared: Serve) -> Server:
    return await serve_shared("pod-é")


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"Host": "Example.org:8080"}, "http://example.org:8080"),
        (
            {"Host": "x", "X-Forwarded-Host": "a.example, b", "X-Forwarded-Proto": "https,http"},
            "https://a.example",
        ),
        ({"Host": "fallback", "X-Forwarded-Host": '"><script>evil'}, "http://fallback"),
        ({"Host": ""}, None),
    ],
    ids=str,
)  # fmt: skip
async def test_wall_shows_the_address_of_the_request(
    pod: Server, api: httpx.AsyncClient, headers: dict[str, str], address: str | None
) -> None:
    """As text and as a QR code, and in the feed; which it is, is in test_public_url.py."""
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
    (message_id,) = await post_all(api, "new on the wall")
    changed = await api.get("/wall", headers={"Host": "h0.example"})
    assert changed.headers["etag"] not in etags
    assert Document(changed.text).ids[0] == message_id
    assert names(changed.headers["vary"]) >= {
        *("forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto")
    }


# Colours


def test_colours_come_from_fnv() -> None:
    """The reference values of FNV-1a, 32 bits, so that the script can compute the same."""
    assert hue("") == "c5"  # of 0x811C9DC5
    assert hue("a") == "2c"  # of 0xE40C292C
    assert hue("foobar") == "68"  # of 0xBF9CF968


async def test_pages_have_the_colour_of_their_pod(api: httpx.AsyncClient) -> None:
    """The colour is in the page, without JavaScript."""
    await api.post("/messages", json={"text": "coloured"})
    wall = (await api.get("/wall")).text
    assert f'data-hue="{hue("pod-é")}"' in wall
