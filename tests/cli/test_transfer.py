"""Export and import on the command line."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import pytest
from redis.asyncio import Redis

from guestbook import __version__
from guestbook.cli.formats import Format
from guestbook.cli.restore import ImportFileError, restore
from guestbook.core import Retention
from guestbook.storage import Archive, RedisURL, create_client
from tests.conftest import Serve
from tests.support.messages import exported, store, texts
from tests.support.servers import command_env, guestbook
from tests.support.valkey import Valkey


async def test_export_and_import_give_same_messages(
    serve: Serve, redis_url: str, shared_valkey: Valkey, tmp_path: Path
) -> None:
    """An export that is imported into an empty guestbook, once or twice, restores its messages."""
    here = await serve()
    there_url = shared_valkey.new_database()
    async with here.client() as client:
        for number in range(20):
            message = {
                "text": f"line\nand {number} é \u2028",
                "author": "Ada" if number % 2 else "",
            }
            await client.post("/messages", json=message)
    file = tmp_path / "messages.jsonl"
    done = guestbook("export", str(file), redis=redis_url)
    assert done.stderr == b"guestbook: exported 20 messages\n"
    assert guestbook("export", redis=redis_url).stdout == file.read_bytes()

    first = guestbook("import", str(file), redis=there_url)
    assert first.stderr == b"guestbook: imported 20 messages, 0 were there\n"
    again = guestbook("import", "-", redis=there_url, given=file.read_bytes())
    assert again.stderr == b"guestbook: imported 0 messages, 20 were there\n"
    other = await serve("pod-b", redis=there_url)
    async with here.client() as left, other.client() as right:
        listings = [await each.get("/messages?limit=1000") for each in (left, right)]
    assert listings[0].json() == listings[1].json()


async def test_older_messages_are_refused_by_newer_guestbook(serve: Serve, redis_url: str) -> None:
    """A stream only grows at its end: messages that have no place in it are reported."""
    server = await serve()
    async with server.client() as client:
        await client.post("/messages", json={"text": "new"})
    answer = guestbook("import", "-", redis=redis_url, given=exported(5))
    assert answer.returncode == 2
    assert b"1 message older than the guestbook's newest one" in answer.stderr


@pytest.mark.slow
async def test_import_notices_an_export_that_was_cut_off(redis_url: str) -> None:
    """All its messages are imported, with one line on standard error and status 1."""
    await store(redis_url, *["x"] * 10)
    whole = guestbook("export", redis=redis_url).stdout
    first, *messages, last = lines = whole.splitlines(keepends=True)
    assert json.loads(first) == {"export": "guestbook", "version": __version__}
    assert json.loads(last) == {"end": True, "messages": 10}
    cases: list[tuple[list[bytes], bool]] = [
        (lines, True),
        (lines + lines, True),
        (lines + messages, True),
        ([*lines[:-1], last.rstrip()], True),
        ([first], False),
        ([first, *messages], False),
        ([first, *messages, *lines], False),
        ([*lines, *lines[:5]], False),
        ([first, *messages[2:], last], False),
        ([first, *messages, messages[0], last], False),
        # A file without the first line does not claim to be complete.
        (messages, True),
        (messages[:4], True),
        ([*messages[:4], last], True),
    ]
    for given, is_complete in cases:
        done = guestbook("import", "-", redis=redis_url, given=b"".join(given))
        there = sum(line in messages for line in given)
        expected = f"guestbook: imported 0 messages, {there} were there\n"
        if not is_complete:
            expected += "guestbook: the file is not a complete export: it was cut off, or edited\n"
        assert (done.stderr.decode(), done.returncode) == (expected, 0 if is_complete else 1)


def test_export_cut_off_in_a_line_is_imported_up_to_it(redis_url: str) -> None:
    """Wherever a download stopped, even inside a character."""
    first = b'{"export": "guestbook", "version": "1.0"}\n'
    lines = [exported(1, "\u00e9"), exported(2, "\u00e9")]
    half = lines[1].index("\u00e9".encode()) + 1
    for cut in (1, half, len(lines[1]) - 2):
        done = guestbook("import", "-", redis=redis_url, given=first + lines[0] + lines[1][:cut])
        assert done.returncode == 1
        assert done.stderr.endswith(b" complete export: it was cut off, or edited\n")
        assert done.stderr.count(b"\n") == 2
    whole = guestbook("import", "-", redis=redis_url, given=b"".join(lines))
    assert whole.stderr == b"guestbook: imported 1 message, 1 were there\n"
    for given in (lines[0] + lines[1][:-2], first + lines[1][:-2] + b"\n" + lines[0], first[:9]):
        assert guestbook("import", "-", redis=redis_url, given=given).returncode == 2


def test_empty_file_is_not_imported(redis_url: str) -> None:
    """An export was cut off before its first byte: also that of an empty guestbook has lines."""
    done = guestbook("import", "-", redis=redis_url)
    assert (done.stderr, done.returncode) == (b"guestbook: the file is empty\n", 2)
    whole = guestbook("export", "-", redis=redis_url).stdout
    done = guestbook("import", "-", redis=redis_url, given=whole)
    assert (done.stderr, done.returncode) == (b"guestbook: imported 0 messages, 0 were there\n", 0)


def test_listed_messages_can_be_imported(redis_url: str, shared_valkey: Valkey) -> None:
    """`guestbook list --json`, with the oldest first, is a file that `import` takes."""
    lines = [exported(number) for number in range(1, 4)]
    assert guestbook("import", "-", redis=redis_url, given=b"".join(lines)).returncode == 0
    listed = guestbook("list", "--json", redis=redis_url).stdout.splitlines(keepends=True)
    there = shared_valkey.new_database()
    done = guestbook("import", "-", redis=there, given=b"".join(reversed(listed)))
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
    assert guestbook("list", "--json", redis=there).stdout == b"".join(listed)


def test_messages_in_which_nothing_is_visible_are_left_out(redis_url: str) -> None:
    """An export of a guestbook that accepted them is imported, and they are reported."""
    lines = [b'{"export": "guestbook"}', b'{"end": true, "messages": 2}']
    lines[1:1] = [
        b'{"id": "%d-0", "author": "\\u3164", "text": "%s", "pod": "p"}' % (number, text)
        for number, text in ((1, rb"\u200b"), (2, b"x"))
    ]
    done = guestbook("import", "-", redis=redis_url, given=b"\n".join(lines))
    assert (done.returncode, done.stderr.decode().splitlines()) == (
        0,
        [
            "guestbook: imported 1 message, 0 were there",
            "guestbook: left out 1 message without a visible character",
        ],
    )
    (listed,) = map(json.loads, guestbook("list", "--json", redis=redis_url).stdout.splitlines())
    assert (listed["text"], listed["author"]) == ("x", None)


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.txt", "x.json", "x.xlsx"])
def test_other_format_is_none(name: str) -> None:
    """A name that promises another format than is written chooses none."""
    with pytest.raises(ValueError, match="should end in"):
        Format.of(Path(name))


def test_unknown_format_is_refused(redis_url: str, tmp_path: Path) -> None:
    """The command names the formats and writes nothing; --format settles it."""
    file = tmp_path / "x.jsonl.gz"
    refused = guestbook("export", str(file), redis=redis_url)
    assert refused.returncode == 2
    assert refused.stderr.decode() == (
        f"guestbook: {file}: its name should end in .jsonl, .csv or .html, "
        "or --format say what to write (nothing is compressed)\n"
    )
    assert not list(tmp_path.iterdir())
    done = guestbook("export", str(file), "--format", "csv", redis=redis_url)
    assert done.returncode == 0
    assert file.read_bytes().startswith(b"id,")


_GOOD = exported(5)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b'{"id": "x", "text": "x", "pod": "p"}',
        b'{"id":"6-0","text":"","pod":""}',
        b'{"id":"6-0","text":"x","pod":"\\ud800"}',
        b'{"id":"99999999999999-0","text":"x","pod":"p"}',
        b'{"id":"6-1000000000","text":"x","pod":"p"}',
        b'{"id":"6-0","text":"x","pod":"p","edited_at":"yesterday"}',
        b'{"id":"6-0","text":"x","pod":"p","edited_at":1}',
        b"[" * 70_000,
        b'{"end": true}',
        b'{"end": true, "messages": "x"}',
    ],
    ids=lambda line: line[:30].decode(),
)
async def test_import_finds_bad_line(redis_url: str, line: bytes) -> None:
    """A line that is no message ends the import with its number."""
    async with create_client(RedisURL.parse(redis_url), timeout=5) as client:
        store = Archive(client, Retention(1000, 0))
        with pytest.raises(ImportFileError) as error:
            await restore(store, io.BytesIO(_GOOD + line), lambda _: None)
    assert re.match(r"line 2[ :][^\n]+$", str(error.value))


def test_import_names_bad_line(redis_url: str) -> None:
    """The command ends with status 2, and that error as its one line."""
    answer = guestbook("import", "-", redis=redis_url, given=_GOOD + b"[" * 70_000)
    assert answer.returncode == 2
    assert answer.stderr == (
        b"guestbook: line 2 is not a message as `guestbook export` writes it\n"
    )


def test_import_names_a_file_that_cannot_be_read(redis_url: str, tmp_path: Path) -> None:
    """An error while a file is read is not reported as one of Redis."""
    for file, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file or directory"),
        (Path("/proc/self/mem"), "Input/output error"),
    ):
        answer = guestbook("import", str(file), redis=redis_url)
        assert answer.returncode == 2
        assert answer.stderr.decode() == f"guestbook: {file}: {reason}\n"


async def test_legacy_list_is_taken_over_once(serve: Serve, redis_url: str) -> None:
    """The original's list becomes messages in its order; a second run imports only new items."""
    async with Redis.from_url(redis_url) as client:
        await client.rpush("guestbook", "first", "", "second", "x" * 1500)
        first = guestbook("import", "--legacy-list", "guestbook", redis=redis_url)
        assert first.stderr == b"guestbook: imported 3 messages\n"
        await client.rpush("guestbook", "third")
        again = guestbook("import", "--legacy-list", "guestbook", redis=redis_url)
        assert again.stderr == b"guestbook: imported 1 message\n"
    server = await serve()
    async with server.client() as http:
        said = await texts(http)
    assert said == ["third", "x" * 500, "x" * 1000, "second", "first"]


def test_redis_away_is_one_line() -> None:
    """A command that cannot reach Redis ends with one line that names the variable."""
    answer = guestbook("export", redis="redis://:secret@127.0.0.1:1")
    assert answer.returncode == 2
    assert answer.stderr.startswith(b"guestbook: REDIS_URL: Redis at 127.0.0.1:1")
    assert answer.stderr.count(b"\n") == 1
    assert b"secret" not in answer.stderr


async def test_reader_of_an_export_may_leave(serve: Serve, redis_url: str) -> None:
    """`guestbook export | head -1` ends as other programs do: silently, by SIGPIPE."""
    server = await serve()
    async with server.client() as client:
        for _ in range(300):
            await client.post("/messages", json={"text": "x" * 1000})
    command = f"{sys.executable} -m guestbook export; echo $? >&2"
    answer = subprocess.run(
        ["/bin/bash", "-c", f"({command}) | head -n 1 | wc -l"],
        env={"REDIS_URL": redis_url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert answer.stdout.strip() == b"1"
    assert answer.stderr.strip() == b"141"


async def test_export_for_spreadsheets_and_to_print(
    serve: Serve, redis_url: str, tmp_path: Path
) -> None:
    """CSV and book have every message as data: no formula, no markup, no external resource."""
    server = await serve()
    texts = [
        '=HYPERLINK("http://x")',
        'a,b\n"c"; d',
        "<script>alert(1)</script> & é",
        "-1",
        "＝1",
        "hello;=cmd|'/C calc'!A0; +1;bye",
        "a\n=1+1\n-b",
        "Mon\t-1\t\tWed\n\tThu",
    ]
    guarded = {
        texts[5]: "hello;'=cmd|'/C calc'!A0;' +1;bye",
        texts[6]: "a\n'=1+1\n'-b",
        texts[7]: "Mon\t'-1\t\tWed\n\tThu",
    }
    async with server.client() as http:
        for text in texts:
            await http.post("/messages", json={"text": text, "author": "@Ada <b>"})
        posted = (await http.get("/messages")).json()["messages"][::-1]
    table, book = tmp_path / "messages.csv", tmp_path / "Book"
    for file, *options in ((table,), (book, "--format", "html")):
        command = ["export", str(file), *options]
        done = guestbook(*command, redis=redis_url, GUESTBOOK_TITLE="Our <book>")
        assert (done.returncode, done.stderr) == (0, b"guestbook: exported 8 messages\n")
    assert sorted(tmp_path.glob("*.partial")) == []

    raw = table.read_bytes().decode()
    assert raw.startswith("id,posted_at,author,text,pod\r\n")
    rows = list(csv.DictReader(io.StringIO(raw, newline="")))
    assert [row["id"] for row in rows] == [message["id"] for message in posted]
    expected = ["'" + text if text[0] in "=-＝" else guarded.get(text, text) for text in texts]
    assert [row["text"] for row in rows] == expected
    assert {row["author"] for row in rows} == {"'@Ada <b>"}
    assert {row["pod"] for row in rows} == {"pod-a"}

    html = book.read_text("utf-8")
    assert "<script" not in html
    assert "<title>Our &lt;book&gt;</title>" in html
    said = [unescape(text) for text in re.findall(r'<p dir="auto">(.*?)</p>', html, re.DOTALL)]
    assert said == texts
    assert html.count("@Ada &lt;b&gt;") == 8
    assert "8 messages" in html
    assert not re.search(r"(src|href)=|url\(|@import", html)

    nowhere = guestbook("export", str(tmp_path / "no" / "x"), redis=redis_url)
    assert nowhere.returncode == 2
    assert nowhere.stderr.decode().endswith("x.partial: No such file or directory\n")


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_number(redis_url: str, tmp_path: Path) -> None:
    """Import and export need no more memory for ten times as many messages."""
    peaks: dict[str, list[int]] = {"import": [], "export": []}
    for number in (1_000, 10_000):
        file = tmp_path / f"{number}.jsonl"
        with file.open("w") as lines:
            for n in range(1, number + 1):
                message = {"id": f"{n}-0", "author": "Ada", "text": "x" * 500, "pod": "p"}
                lines.write(json.dumps(message) + "\n")
        for command, path in (("import", file), ("export", tmp_path / "book.HTM")):
            process = subprocess.Popen(
                [sys.executable, "-m", "guestbook", command, str(path)],
                env=command_env(redis_url, GUESTBOOK_MAX_MESSAGES="100000"),
                stderr=subprocess.PIPE,
            )
            _, status, usage = await asyncio.to_thread(os.wait4, process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            assert process.stderr is not None
            process.stderr.close()
            peaks[command].append(usage.ru_maxrss)
    assert (tmp_path / "book.HTM").stat().st_size > 10_000 * 500
    for few, many in peaks.values():
        assert many < 1.2 * few


async def test_import_keeps_within_what_is_kept(redis_url: str) -> None:
    """Messages that are too old or too many are left out, and both are reported."""
    now = time.time_ns() // 1_000_000
    ids = [now - 7_200_000 + n for n in range(3)] + [now - 60_000 + n for n in range(5)]
    lines = b"".join(map(exported, ids))
    kept = {"GUESTBOOK_MAX_AGE": "1h", "GUESTBOOK_MAX_MESSAGES": "4"}
    done = guestbook("import", "-", redis=redis_url, given=lines, **kept)
    assert (done.returncode, done.stderr.decode().splitlines()) == (
        0,
        [
            "guestbook: imported 5 messages, 0 were there",
            "guestbook: left out 3 messages older than GUESTBOOK_MAX_AGE",
            "guestbook: only the newest 4 are kept, see GUESTBOOK_MAX_MESSAGES",
        ],
    )
    again = guestbook("import", "-", redis=redis_url, given=lines, **kept)
    assert again.returncode == 0
    assert b"imported 0 messages, 4 were there" in again.stderr
    async with Redis.from_url(redis_url) as redis:
        assert await redis.xlen("{guestbook}:events") == 4
