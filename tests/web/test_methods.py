"""Methods and preconditions, as RFC 9110 has them."""

from __future__ import annotations

import httpx
import pytest

from tests.support.messages import ADMIN, problem

ALLOWED = {
    "/": "GET, HEAD, OPTIONS",
    "/messages": "GET, HEAD, OPTIONS, POST",
    "/events": "GET, OPTIONS",
    "/healthz": "GET, HEAD, OPTIONS",
    "/static/guestbook.css": "GET, HEAD, OPTIONS",
    "/static/none": "GET, HEAD, OPTIONS",
    "/held/events": "GET, OPTIONS",
    "/held/1-0": "DELETE, OPTIONS",
}


@pytest.mark.parametrize("path", ALLOWED)
async def test_options_and_a_wrong_method_name_the_right_ones(
    api: httpx.AsyncClient, path: str
) -> None:
    """HEAD too, where it works."""
    options = await api.options(path)
    assert options.status_code == 204
    assert options.headers["allow"] == ALLOWED[path]
    wrong = await api.put(path)
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == ALLOWED[path]
    head = await api.head(path)
    assert (head.status_code == 405) == ("HEAD" not in ALLOWED[path])
    assert (await api.options("/none")).status_code == 404


@pytest.mark.parametrize("path", ["/", "/static/guestbook.css", "/feed.atom"])
async def test_if_match_wants_the_current_version(api: httpx.AsyncClient, path: str) -> None:
    """A page that has changed since, or another encoding of it, does not match."""
    etag = (await api.get(path)).headers["etag"]
    for wanted in (etag, "*", f'"other", {etag}'):
        assert (await api.get(path, headers={"If-Match": wanted})).status_code == 200
    for wanted in ('"other"', f"W/{etag}"):
        answer = await api.get(path, headers={"If-Match": wanted})
        problem(answer, 412)


async def test_message_without_an_etag_matches_none(api: httpx.AsyncClient) -> None:
    """Then nothing is deleted or stored."""
    posted = await api.post("/messages", json={"text": "kept"})
    path = posted.headers["location"]
    for method, where in (("DELETE", path), ("POST", "/messages")):
        answer = await api.request(
            method, where, headers={**ADMIN, "If-Match": '"a"'}, json={"text": "not stored"}
        )
        assert answer.status_code == 412
    for method, where, token, status in (
        ("DELETE", path, {}, 401),
        ("DELETE", "/messages/1-0", ADMIN, 404),
        ("PATCH", "/control", {}, 401),
        ("PATCH", "/control", ADMIN, 412),
        ("DELETE", "/held/1-0", {}, 401),
        ("DELETE", "/bans/192.0.2.1", ADMIN, 412),
        ("PUT", path, ADMIN, 405),
        ("POST", "/none", {}, 404),
    ):
        # The condition comes after the checks of every request.
        headers = {**token, "If-Match": '"a"'}
        answer = await api.request(method, where, headers=headers, json={})
        assert answer.status_code == status, (method, where)
    newest = (await api.get("/messages?limit=1")).json()["messages"]
    assert [each["text"] for each in newest] == ["kept"]
    # Methods that select no version ignore conditions (RFC 9110, section 13.2.1).
    assert (await api.options(path, headers={"If-Match": '"a"'})).status_code == 204
    deleted = await api.delete(path, headers={**ADMIN, "If-Match": "*"})
    assert deleted.status_code == 204
