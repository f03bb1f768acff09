"""The tool that types the tutorial: how it reads the document, and compares answers.

Typing the commands needs a cluster: see `make tutorial`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.tutorial import DOCUMENT, Command, mask, missing, parse

DOCUMENTS = [DOCUMENT, DOCUMENT.with_name("tutoriel.md")]


@pytest.fixture(scope="module")
def commands() -> list[Command]:
    """Return all commands that are typed."""
    return [c for section in parse(DOCUMENT.read_text()) for c in section.commands]


def test_every_command_is_found_whole(commands: list[Command]) -> None:
    """Here-documents and loops too; each answer belongs to the command before it."""
    assert len(commands) > 120
    texts = [command.text for command in commands]
    (script,) = [text for text in texts if text.startswith("cat > /tmp/post.sh")]
    assert script.endswith("sort /tmp/codes.txt | uniq -c\nEOF")
    (pod,) = [command for command in commands if "describe pod oom-test" in command.text]
    assert pod.answer[0].split() == ["State:", "Terminated"]
    assert not any(line.startswith("$ ") for command in commands for line in command.answer)
    assert not any(text.startswith("minikube") and "# kind" not in text for text in texts)


def test_files_of_the_commands_exist(commands: list[Command]) -> None:
    """Every manifest that is applied is in the repository."""
    root = DOCUMENT.parents[1]
    named = {m for c in commands for m in re.findall(r"manifests/[\w./-]+", c.text)}
    assert len(named) > 15
    assert [name for name in named if not (root / name).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_mark_is_one_that_the_tool_knows(path: Path) -> None:
    """A mark with a spelling mistake would be passed over."""
    marks = re.findall(r"<!--(.*)-->", path.read_text())
    known = re.compile(r" tutorial: (skip|background|run \S.*) ")
    assert [m for m in marks if not known.fullmatch(m)] == []


def test_both_languages_have_the_same_commands() -> None:
    """Only words differ: a title, a comment, and the placeholder for a name."""
    differing = re.compile(r'TITLE="[^"]*"|WELCOME="[^"]*"|  +#.*|\b(NAME|NOM)\b')
    english, french = (
        [differing.sub("", line) for line in path.read_text().splitlines() if line.startswith("$ ")]
        for path in DOCUMENTS
    )
    assert french == english


SAME = [
    ("redis    1/1     Running   0          20s", "redis   1/1   Running   0     3m12s"),
    (
        "guestbook-6d5c7f9b48-2xkqp   1/1     Running   0          1h",
        "guestbook-84c9f6d5b-zzq4m   1/1   Running   0   4s",
    ),
    (
        "guestbook-6d5c7f9b48-5hx7m   1/1     Running   1 (12s ago)   2m",
        "guestbook-7fd9c8d6b7-b5c8x   1/1   Running   1 (1m4s ago)   90s",
    ),
    (
        "frontend   LoadBalancer   10.96.87.112   <pending>     3000:31873/TCP   5s",
        "frontend   LoadBalancer   10.97.1.2   172.18.0.9     3000:30021/TCP   1d",
    ),
    (
        'data: {"id":"1795461339006-0","author":null,"posted_at":"2026-11-23T19:15:39.006Z"}',
        'data: {"id":"1801230000000-12","author":null,"posted_at":"2027-01-29T10:40:00.000Z"}',
    ),
    (
        '{"export": "guestbook", "version": "0.1.0"}',
        '{"export": "guestbook", "version": "0.1.0.dev12+g1234abc"}',
    ),
    ("throttled_usec 71530114", "throttled_usec 9"),
    ('pod "redis" deleted', 'pod "redis" deleted from default namespace'),
    ("configmap/guestbook-8g76g97f9h created", "configmap/guestbook-b5k4h2m9tt created"),
    ("node/minikube labeled", "node/guestbook-try-control-plane labeled"),
]


@pytest.mark.parametrize(("written", "printed"), SAME)
def test_what_differs_between_clusters_does_not_count(written: str, printed: str) -> None:
    """Addresses, ages, the ends of names, versions, times."""
    assert missing([written], f"a line before\n{printed}\na line after") == []


DIFFERENT = [
    ("redis    1/1     Running   0          20s", "redis   0/1   Running   0     20s"),
    ("redis    1/1     Running   0          20s", "redis   1/1   Running   1     20s"),
    ("deployment.apps/redis created", "deployment.apps/redis configured"),
    ("    150 201", "    149 201"),
    ("guestbook   3/3     3            3           1h", "guestbook   2/3   3   2   1h"),
    ("      Exit Code:    137", "      Exit Code:    143"),
    ("3         <none>", "2         <none>"),
]


@pytest.mark.parametrize(("written", "printed"), DIFFERENT)
def test_what_the_course_teaches_does_count(written: str, printed: str) -> None:
    """States, counts, statuses and reasons."""
    assert missing([written], printed) == [written]


def test_each_expected_line_needs_a_line_of_its_own() -> None:
    """Three pods are not two, in whichever order they are listed."""
    pods = ["guestbook-6d5c7f9b48-2xkqp 1/1", "guestbook-6d5c7f9b48-8w7zd 1/1"]
    printed = "guestbook-7b8f6d59c4-kk4mt 1/1\nguestbook-7b8f6d59c4-5sgwn 1/1\n"
    assert missing(pods, printed) == []
    assert missing([*pods, "guestbook-6d5c7f9b48-tn5lc 1/1"], printed) != []


def test_mask_leaves_plain_sentences_alone() -> None:
    """They are compared to the letter."""
    for line in ("Hello, Kubernetes!", "No resources found in default namespace.", "PONG"):
        assert mask(line) == line
