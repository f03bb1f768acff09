"""The findings of a long run, as text and in docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from guestbook import __version__
from tests.chaos.harness import Bounds, Report
from tests.chaos.load import Flood, Idle, SlowReaders, Storm
from tests.chaos.verdict import Tally

_BEGIN = "<!-- what `make faults` found: -->"
_END = "<!-- until here -->"
# Memory may differ by so much in a run of a few minutes.
# The log limits the frames, and not the texts beside them, which take more beyond Latin.
_GROWTH = 0.20

Load = SlowReaders | Storm | Flood | Idle


@dataclass
class Findings:
    """The findings of all runs and loads."""

    seed: int
    seconds: float
    readers: int
    runs: dict[str, Report] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not self.broken and all(
            run.is_clean and growth(run) <= _GROWTH for run in self.runs.values()
        )


def growth(run: Report) -> float:
    """Return how much more memory the server used at the end than in the first minute."""
    first, last = run.memory_kib
    return last / first - 1


def version(binary: Path) -> str:
    """Return the name and version of a Redis server."""
    output = subprocess.run(
        [str(binary), "--version"], capture_output=True, text=True, check=True
    ).stdout
    name = "Valkey" if "valkey" in output.lower() else "Redis"
    found = re.search(r"v=(\S+)", output)
    return f"{name} {found[1]}" if found else name


def write(document: Path, text: str) -> None:
    """Put the text between the markers of the document."""
    before, _, rest = document.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    document.write_text(f"{before}{_BEGIN}\n\n{text}\n{_END}{after}")


def markdown(findings: Findings) -> str:
    """Return the findings as Markdown."""
    today = datetime.now(UTC).date().isoformat()
    summary = (
        f"On {today}, `make faults SECONDS={findings.seconds:.0f} SEED={findings.seed}`, "
        f"{findings.readers} readers; guestbook "
        f"{__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.release().partition('-')[0]}, {os.cpu_count()} cores."
    )
    parts = [summary, *(_run(name, run) for name, run in findings.runs.items())]
    parts.append("\n".join(f"- {_load(each)}" for each in findings.loads))
    if findings.broken:
        parts.append("\n".join(["**Broken:**", "", *(f"- {each}" for each in findings.broken)]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _run(name: str, run: Report) -> str:
    lines = [
        f"### {name}",
        "",
        "| fault | times | messages | deliveries | lost | doubled | disordered | noticed | over |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for fault in sorted(run.times):
        tally = run.verdict.tallies[fault]
        bounds = run.bounds[fault]
        lines.append(_row(fault, str(run.times[fault]), tally, bounds))
    quiet = [tally for name, tally in run.verdict.tallies.items() if name not in run.times]
    lines.append(_row("between them", "", sum(quiet, Tally()), None))
    lines.append(_row("**all**", str(run.times.total()), run.verdict.total, None))
    first, last = run.memory_kib
    memory = (
        f"{run.approved:,} messages were held and approved, {run.refused:,} refused. "
        f"{run.visits:,} streams were opened, {run.verdict.resets} reset. "
        f"The process that was not restarted had {first / 1024:.1f} MiB in the first minute, "
        f"{last / 1024:.1f} MiB at the end ({growth(run):+.1%})."
    )
    lines += ["", memory]
    violations = [
        f"{what}: {times}" for what, times in (run.verdict.violations + run.complaints).items()
    ]
    if violations:
        lines += ["", "**Broken:**", "", *(f"- {each}" for each in violations)]
    return "\n".join(lines)


def _row(name: str, times: str, tally: Tally, bounds: Bounds | None) -> str:
    seconds = ["", ""]
    if bounds is not None:
        seconds = [f"{took:.1f} s" if took else "" for took in (bounds.unready, bounds.ready)]
    cells = [
        name,
        times,
        f"{tally.messages:,}",
        f"{tally.deliveries:,}",
        str(tally.lost),
        str(tally.doubled),
        str(tally.disordered),
        *seconds,
    ]
    return f"| {' | '.join(cells)} |"


def _load(found: Load) -> str:
    if isinstance(found, SlowReaders):
        return (
            f"Slow readers: of {found.streams:,} streams {found.stalled} stopped to read while "
            f"{found.megabytes:.0f} MB were published. The process grew by "
            f"{found.growth_kib / 1024:.1f} MiB; the kernel kept {found.unsent_bytes // 1024} KiB "
            f"at most for a stream; a batch took {found.ratio:.2f} times as long as before to "
            "reach all others. The slow ones were dropped, came back, and missed nothing."
        )
    if isinstance(found, Storm):
        return (
            f"Reconnect storm: {found.streams:,} streams of a server that was killed came to "
            f"another one within a second. {found.seconds:.1f} s after the kill all of them had "
            f"what they had missed; Redis got {found.commands} commands in that time."
        )
    if isinstance(found, Flood):
        counts = ", ".join(f"{n:,} times {status}" for status, n in sorted(found.statuses.items()))
        return (
            f"Flood of posts: 200 connections, Redis stopped meanwhile. Answers: {counts}; "
            f"the longest took {found.longest:.1f} s; the streams had everything, in order."
        )
    return (
        f"Idle stream: {found.seconds:.0f} s without an event, through a proxy that cuts "
        f"connections silent for 60 s; {found.pings} pings, and then a message came."
    )
