"""Type the tutorial's commands on the cluster of the current context, and compare the answers.

    python -m tools.tutorial [--list] [FILE]

A console block of the document is a list of commands (`$ `) with their expected answers. A comment
before the block describes further actions of the reader:

    <!-- tutorial: skip -->         another kind of cluster, or nothing to compare
    <!-- tutorial: background -->   a window of its own, open until the next heading
    <!-- tutorial: run COMMAND -->  what is done in the browser or inside a container
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "tutorial.md"

# Commands that only look are repeated until the output is right; a CronJob takes five minutes.
_LOOKS = re.compile(r"kubectl (get|describe|logs|top|exec|rollout (status|history))\b|curl ")
_PATIENCE_SECONDS = 330.0
_PAUSE_SECONDS = 2.0
_COMMAND_SECONDS = 180.0
# For what the reader ends with Ctrl+C, and for streams, which have no end.
_ENDLESS_SECONDS = 20.0
_ENDLESS = re.compile(r"curl -N\b|get .*-w$|port-forward")

# Text that differs between clusters, and its placeholder; the order matters.
_MASKS = [
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\w{3}, \d\d \w{3} \d{4} [\d:]+ [+-]\d{4}", "TIME"),
    (r"\b\d{13}(-\d+)?\b", "ID"),
    (r"pvc-[0-9a-f-]{36}", "VOLUME"),
    (r"\b\d{1,3}(\.\d{1,3}){3}\b", "ADDRESS"),
    (r"\b(\w[\w-]*control-plane|minikube)\b", "NODE"),
    # A template's hash and a pod's ending; a configuration's hash; a job's time.
    (r"\b([a-z][a-z-]*)-(?=\w*\d)[a-z0-9]{8,10}(-[a-z0-9]{5})?\b", r"\1-…"),
    (r"\b(kube-api-access|nginx-daemonset|example-job)-[a-z0-9]{5}\b", r"\1-…"),
    (r"\(x\d+ over [\dhms]+\)", "(TIMES)"),
    (r" from default namespace", ""),
    (r"3000:3\d{4}/", "3000:PORT/"),
    (r"(throttled\w*) \d+", r"\1 N"),
    (r'"(retry|now|streams)":\s*\d+|(retry): \d+', "NUMBER"),
    (r"\(?\b(\d+[dhms])+( ago\))?(?!\w)", "AGE"),
    (r"<none>|<unset>", "NONE"),
    (r"<pending>", "ADDRESS"),
    (r"\bNAME\b", "guestbook-…"),
    (r"\b\d+\.\d+\.\d+(\.dev\d+)?(\+[\w.]+)?", "VERSION"),
    (r"\s+", " "),
]


@dataclass
class Command:
    """A command, the line where it stands, and the lines that are printed after it."""

    line: int
    text: str
    is_background: bool = False
    answer: list[str] = field(default_factory=list)


@dataclass
class Section:
    """A heading, and the commands below it."""

    title: str
    commands: list[Command] = field(default_factory=list)


def parse(document: str) -> list[Section]:
    """Return the sections of the document that have commands to type."""
    sections = [Section("")]
    marks: list[str] = []
    lines = enumerate(document.splitlines(), start=1)
    for number, line in lines:
        if line.startswith("#"):
            sections.append(Section(line.strip("# ")))
        elif mark := re.fullmatch(r"<!-- tutorial: (.+) -->", line):
            marks.append(mark[1])
        elif line.startswith("```"):
            block = list(_block(lines))
            commands = sections[-1].commands
            commands += [Command(number, m[4:]) for m in marks if m.startswith("run ")]
            if line == "```console" and "skip" not in marks:
                commands += _commands(block, "background" in marks)
            marks.clear()
    return [section for section in sections if section.commands]


def _block(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if line == "```":
            return
        yield number, line


def _commands(block: list[tuple[int, str]], is_background: bool) -> Iterator[Command]:
    command: Command | None = None
    is_complete = True
    for number, line in block:
        if is_complete and line.startswith("$ "):
            if command is not None:
                yield command
            command = Command(number, line[2:], is_background or line.endswith(" &"))
            is_complete = _is_complete(command.text)
        elif command is not None and not is_complete:
            command.text += "\n" + line
            is_complete = _is_complete(command.text)
        elif command is not None:
            command.answer.append(line)
    if command is not None:
        yield command


def _is_complete(text: str) -> bool:
    """Ask the shell whether more lines have to follow."""
    if text.endswith("\\"):
        return False
    checked = subprocess.run(
        ["bash", "-n"], input=text, capture_output=True, text=True, check=False
    )
    # A here-document without its end is only a warning.
    return checked.returncode == 0 and not checked.stderr


def mask(line: str) -> str:
    """Return a line of an answer without what differs from cluster to cluster."""
    for pattern, replacement in _MASKS:
        line = re.sub(pattern, replacement, line)
    return line.strip()


def missing(expected: list[str], printed: str) -> list[str]:
    """Return the expected lines that were not printed. Their order depends on random names."""
    lines = Counter(map(mask, printed.splitlines()))
    wanted = [line for line in expected if line.strip() and line != "^C"]
    return [line for line in wanted if not _take(lines, mask(line))]


def _take(lines: Counter[str], line: str) -> bool:
    lines[line] -= 1
    return lines[line] >= 0


class Reader:
    """Types commands, and keeps the windows of a section open."""

    def __init__(self) -> None:
        self._windows: list[subprocess.Popen[bytes]] = []
        context = _ask("kubectl config current-context")
        self._is_kind = context.startswith("kind-")
        self._node = _ask("kubectl get nodes -o jsonpath='{.items[0].metadata.name}'")

    def type(self, command: Command) -> str | None:
        """Run the command; return its output if it differs from the document's."""
        if command.is_background:
            text = self._on_this_cluster(command.text).removesuffix("&")
            self._windows.append(_start(text, subprocess.DEVNULL))
            return None
        until = time.monotonic() + (_PATIENCE_SECONDS if _LOOKS.match(command.text) else 0)
        is_endless = "^C" in command.answer or _ENDLESS.search(command.text) is not None
        while True:
            text = self._on_this_cluster(command.text)
            status, printed = _run(text, _ENDLESS_SECONDS if is_endless else _COMMAND_SECONDS)
            is_right = not missing(command.answer, printed)
            if is_right and (status == 0 or is_endless or command.answer):
                return None
            if time.monotonic() > until:
                return printed or f"nothing, and status {status}"
            time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Close the windows."""
        for window in self._windows:
            os.killpg(window.pid, signal.SIGTERM)
            window.wait()
        self._windows.clear()

    def _on_this_cluster(self, text: str) -> str:
        """Put in the names that only a reader at this cluster knows."""
        _, _, for_kind = text.partition("  # kind")
        if self._is_kind and for_kind and "\n" not in text:
            text = "kind" + for_kind
        elif text.startswith(("kubectl", "sed")):
            text = re.sub(r"\bminikube\b", self._node, text)
        text = text.replace("exec -it", "exec -i")
        if re.search(r"\bNAME\b|guestbook-[a-z0-9]+-[a-z0-9]{5}\b", text):
            pod = _ask("kubectl get pods -l app=guestbook -o jsonpath='{.items[0].metadata.name}'")
            text = re.sub(r"\bNAME\b|guestbook-[a-z0-9]{8,10}-[a-z0-9]{5}\b", pod, text)
        return text


def _start(text: str, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["bash", "-c", text],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _run(text: str, seconds: float) -> tuple[int, str]:
    """Return a command's status and what it printed, also if it had to be ended."""
    process = _start(text, subprocess.PIPE)
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        printed, _ = process.communicate()
    return process.returncode, printed.decode(errors="replace")


def _ask(text: str) -> str:
    status, printed = _run(text, _COMMAND_SECONDS)
    if status:
        sys.exit(f"tutorial: {text}\n{printed}")
    return printed.strip()


def main() -> None:
    """List the commands, or type them until one is not answered as it stands there."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("file", nargs="?", type=Path, default=DOCUMENT, metavar="FILE")
    arguments.add_argument("--list", action="store_true", help="only print the commands")
    chosen = arguments.parse_args()
    sections = parse(chosen.file.read_text())
    reader = None if chosen.list else Reader()
    for section in sections:
        print(f"\n== {section.title}", flush=True)
        for command in section.commands:
            print(f"{chosen.file.name}:{command.line} $ {command.text}", flush=True)
            printed = reader.type(command) if reader else None
            if printed is not None:
                sys.exit("\n".join(["expected:", *command.answer, "", "printed:", printed]))
        if reader:
            reader.close()


if __name__ == "__main__":
    main()
