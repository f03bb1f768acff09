"""Write `docs/performance.md` and its plots from `results.json`.

python -m bench.report [RESULTS] [FOLDER]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
Result = dict[str, Any]

NAMES = {
    "floor": "C loop (floor)",
    "nchan": "nchan (nginx)",
    "guestbook": "guestbook",
    "sse_starlette": "sse-starlette",
    "fastapi_sse": "FastAPI's SSE",
}
COLOURS = {
    "floor": "#777777",
    "nchan": "#2a7f4f",
    "guestbook": "#c2410c",
    "sse_starlette": "#2563eb",
    "fastapi_sse": "#7c3aed",
}


class Goal(NamedTuple):
    """A row of the table."""

    what: str
    goal: str
    measured: str
    is_met: bool


def goals(result: Result) -> list[Goal]:
    """Return the goals and the measured values."""
    rows: list[Goal] = []
    if "fan_out" in result:
        for level in compared(result):
            rows += _fan_out(result["fan_out"], level)
    if "steady" in result:
        rows.append(_steady(result["steady"]))
    if "crowd" in result:
        for level, crowd in sorted(result["crowd"].items(), key=lambda item: int(item[0])):
            rows += _crowd(crowd, int(level))
    if "posts" in result:
        rows += _posts(result["posts"])
    if "page" in result:
        rows += _page(result["page"])
    if "start" in result:
        seconds = result["start"]["seconds"]
        rows.append(
            Goal("start, to the first 200 of `/ready`", "1 s", f"{seconds:.2f} s", seconds <= 1)
        )
    return rows


def compared(result: Result) -> list[str]:
    """Return the numbers of streams that have goals."""
    return list(map(str, sorted({min(1000, result["streams"]), result["streams"]})))


def _fan_out(fan_out: Result, level: str) -> Iterable[Goal]:
    def ratio(kind: str, other: str) -> float:
        return float(own[kind]["cpu_us"] / fan_out[other][level][kind]["cpu_us"])

    own = fan_out["guestbook"][level]
    count = f"{int(level):,} streams"
    to_floor = ratio("single", "floor")
    at_most = 1.25 if int(level) <= 1000 else 1.15
    yield _ratio(f"CPU for a delivery, single events, {count}", "the C loop", at_most, to_floor)
    if "nchan" in fan_out:
        to_nchan = ratio("single", "nchan")
        yield _ratio(f"the same, {count}", "nchan", 0.75, to_nchan)
    to_floor = ratio("burst", "floor")
    yield _ratio(f"CPU for a delivery, bursts of 50, {count}", "the C loop", 1.5, to_floor)
    packets = own["burst"]["packets"]
    yield Goal(
        f"packets to a stream for a burst of 50, {count}", "1", f"{packets:.2f}", packets <= 1.05
    )


def _ratio(what: str, other: str, at_most: float, measured: float) -> Goal:
    return Goal(what, f"{at_most:g} × {other}", f"{measured:.3g} ×", measured <= at_most)


def _steady(steady: Result) -> Goal:
    p99 = steady["latency_ms"]["p99"]
    share = (
        f"{steady['cpu_share']:.0%} of the core, {steady['events_per_packet']:.0f} events a packet"
    )
    return Goal(
        f"1,000 events/s to {steady['streams']:,} streams: all, in order, once; p99 from `XADD`",
        "50 ms",
        f"{p99:.1f} ms ({share})",
        p99 <= 50 and steady["delivered"] == steady["events"] * steady["streams"],
    )


def _crowd(crowd: Result, level: int) -> Iterable[Goal]:
    count = f"{level:,} streams"
    if "floor_open_us" in crowd:
        to_floor = crowd["open_us"] / crowd["floor_open_us"]
        yield _ratio(f"CPU to open a stream with a cursor, {count}", "the C loop", 9, to_floor)
    pss = crowd["pss_kib"]
    yield Goal(f"user memory of an idle stream, {count}", "1.5 KiB", f"{pss:.2f} KiB", pss <= 1.5)
    if "idle_share" not in crowd:
        return
    share = crowd["idle_share"]
    yield Goal(f"idle with {count}", "1 % of a core", f"{share:.2%}", share <= 0.01)
    without, held = crowd["redis_commands_without"], crowd["redis_commands_with"]
    yield Goal(
        f"Redis commands a second, without streams and with {level:,}",
        "the same",
        f"{without:.1f}, {held:.1f}",
        held <= without * 1.2 + 1,
    )
    for name, ready in crowd["ready"].items():
        p99 = ready["answer_ms"]["p99"]
        yield Goal(
            f"p99 of `GET /ready` during events to {count}, {name}",
            "15 ms",
            f"{p99:.1f} ms",
            p99 <= 15,
        )
    stop = crowd["stop"]
    yield Goal(
        f"SIGTERM: all {count} ended properly, and the process gone",
        "2 s (1 s, and 1 s of drain)",
        f"{stop['ended_cleanly']:,} in {stop['seconds']:.2f} s",
        stop["seconds"] <= 2 and stop["ended_cleanly"] == stop["bye"] == stop["streams"],
    )


def _posts(posts: Result) -> Iterable[Goal]:
    usual = "a FastAPI route with a bare `XADD`"
    for kind, what, at_most in (
        ("sequential", "one by one", 1.5),
        ("flood", "200 at a time", 0.7),
    ):
        for key, name in (("with_key", "with an idempotency key"), ("without_key", "without one")):
            each = posts[key][kind]
            ratio = each["guestbook"]["cpu_us"] / each["usual"]["cpu_us"]
            yield _ratio(f"CPU of a post, {name}, {what}", usual, at_most, ratio)
    flood = posts["with_key"]["flood"]["guestbook"]
    connections, reads = flood["redis_connections"], flood["redis_reads_per_post"]
    yield Goal(
        "posts, 200 at a time: connections to Redis, and how often Redis had to read for one",
        "shared",
        f"{connections}, {reads:.2f}",
        connections <= 10 and reads < 1,
    )


def _page(page: Result) -> Iterable[Goal]:
    for key, name, at_most in (
        ("whole", f"`GET /`, {page['bytes'] / 1024:.0f} KiB", 1.6),
        ("not_modified", "`GET /`, 304 on the ETag", 1.3),
    ):
        ratio = page[key]["cpu_us"] / page["usual"]["cpu_us"]
        yield _ratio(f"CPU of {name}", "FastAPI's least answer", at_most, ratio)


# Plots


def _levels(each: Result) -> list[str]:
    return sorted(each, key=int)


def plot_cpu(fan_out: Result, path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=False)
    for panel, kind, title in zip(
        panels, ("single", "burst"), ("one event at a time", "50 events at once"), strict=True
    ):
        for name in _present(fan_out):
            each = fan_out[name]
            points = {int(n): each[n][kind]["cpu_us"] for n in _levels(each) if kind in each[n]}
            style = {"color": COLOURS[name], "label": NAMES[name]}
            panel.plot(list(points), list(points.values()), "o-", **style)
        panel.set(xscale="log", yscale="log", xlabel="open streams", title=title)
    panels[0].set_ylabel("CPU of the server for a delivery, µs")
    panels[0].legend(fontsize="small")
    _save(figure, path)


def _present(fan_out: Result) -> list[str]:
    return [name for name in NAMES if name in fan_out]


def plot_memory(fan_out: Result, path: Path) -> None:
    names = [name for name in _present(fan_out) if name != "floor"]
    values = []
    for name in names:
        each = fan_out[name]
        values.append(each[_levels(each)[-1]]["pss_kib"])
    figure, panel = plt.subplots(figsize=(7, 2.6))
    bars = panel.barh([NAMES[n] for n in names], values, color=[COLOURS[n] for n in names])
    panel.bar_label(bars, fmt="%.1f", padding=3)
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.set_xlabel("user memory of a stream, KiB")
    _save(figure, path)


def plot_latency(result: Result, path: Path) -> None:
    figure, panel = plt.subplots(figsize=(7, 4))
    fan_out = result["fan_out"]
    for name in _present(fan_out):
        each = fan_out[name]
        level = _levels(each)[-1]
        _curve(panel, each[level]["single"]["latency_ms"], NAMES[name], color=COLOURS[name])
    if "steady" in result:
        steady = result["steady"]
        label = f"guestbook, 1,000 events/s to {steady['streams']:,}"
        _curve(panel, steady["latency_ms"], label, color=COLOURS["guestbook"], linestyle="--")
    panel.set(
        xscale="log",
        xlabel=f"from publishing to the client, ms (one event to {int(level):,} streams)",
        ylabel="share of deliveries",
        ylim=(0, 1.02),
    )
    panel.legend(fontsize="small")
    _save(figure, path)


def _curve(panel: Any, latency: Result, label: str, **style: str) -> None:
    shares, seen = [], 0
    for _, count in latency["buckets"]:
        seen += count
        shares.append(seen / latency["count"])
    panel.plot([value for value, _ in latency["buckets"]], shares, label=label, **style)


def plot_polling(polling: Result, path: Path) -> None:
    figure, panel = plt.subplots(figsize=(7, 4))
    curves = {
        "polling": ("polling, FastAPI and Redis", "#2563eb", "o-"),
        "legacy": ("polling the guestbook's `/lrange`", "#7c3aed", "o-"),
        "streaming": ("streams of the guestbook", COLOURS["guestbook"], "o-"),
    }
    for key, (label, colour, style) in curves.items():
        levels = _levels(polling[key])
        shares = [polling[key][n]["cpu_share"] * 100 for n in levels]
        panel.plot([int(n) for n in levels], shares, style, color=colour, label=label)
    panel.axhline(100, color="#777777", linewidth=0.8)
    panel.set(
        xscale="log",
        yscale="log",
        xlabel="open pages, with one new message a second",
        ylabel="CPU of the server, % of a core",
    )
    panel.legend(fontsize="small")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    for panel in figure.axes:
        panel.grid(visible=True, which="major", linewidth=0.3)
        panel.set_axisbelow(True)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


# The page


def page(result: Result) -> str:
    """Return the text of `docs/performance.md`."""
    machine, versions = result["machine"], result["versions"]
    rows = goals(result)
    table = [
        f"| {row.what} | {row.goal} | {row.measured} | {'yes' if row.is_met else '**no**'} |"
        for row in rows
    ]
    parts = [
        "# Performance",
        (
            f"Measured on {result['date']} with `make bench` "
            f"({', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}) "
            f"on {machine['cores']} cores of an {machine['cpu']}, {machine['memory_gib']} GiB, "
            f"{machine['kernel']}, Python {machine['python']} (built "
            f"{'with' if machine['python_is_optimised'] else 'without'} profile-guided "
            f"optimisation). {_noise(result)} "
            "[bench/README.md](../bench/README.md) describes the method."
        ),
        (
            "Microseconds differ between machines: compare the ratios between servers in one run. "
            "The floor is a loop in C that only sends ready-made bytes to each socket, as every "
            "server has to. On the loopback interface all numbers include the kernel's work for "
            "the receiver."
        ),
        "## Goals",
        "\n".join(
            ["| what | goal (at most) | measured | met |", "| --- | --- | --- | --- |", *table]
        ),
    ]
    if "fan_out" in result:
        parts += ["## Delivering", _deliveries(result), *_DELIVERY_PLOTS]
    if "posts" in result and "page" in result:
        parts += ["## Requests", _requests(result["posts"], result["page"])]
    if "polling" in result:
        parts += ["## Polling, and streaming", _polling(result["polling"])]
        parts.append("![CPU against open pages: polling and streaming](performance-polling.svg)")
    return "\n\n".join(parts) + "\n"


def _noise(result: Result) -> str:
    share = result.get("disturbed_share", 0.0)
    quick = "This was a quick run: the result is only rough. " if result["is_quick"] else ""
    if share < 0.05:
        return f"{quick}Other processes used {share:.1%} of the servers' core meanwhile."
    return (
        f"{quick}Other processes used {share:.0%} of the servers' core meanwhile, "
        "which makes the result less exact."
    )


def _deliveries(result: Result) -> str:
    fan_out = result["fan_out"]
    levels = compared(result)
    heads = [f"{int(n):,}: single, burst" for n in levels]
    lines = [
        f"| server | {' | '.join(heads)} | opening | KiB a stream |",
        "| --- " * (len(levels) + 3) + "|",
    ]
    for name in _present(fan_out):
        costs = []
        for n in levels:
            each, base = fan_out[name][n], fan_out["floor"][n]["single"]["cpu_us"]
            single = each["single"]["cpu_us"]
            burst = f"{each['burst']['cpu_us']:.2f} µs" if "burst" in each else "–"
            costs.append(f"{single:.2f} µs ({single / base:.2f} ×), {burst}")
        full = fan_out[name][_levels(fan_out[name])[-1]]
        memory = "–" if name == "floor" else f"{full['pss_kib']:.1f}"
        opening = f"{full['open_us']:.0f} µs"
        lines.append(f"| {NAMES[name]} | {' | '.join(costs)} | {opening} | {memory} |")
    return (
        "CPU of the server for one event to one stream (in brackets: compared with the floor), for "
        "single events and for bursts of 50; and for opening a stream, without a replay:\n\n"
        + "\n".join(lines)
    )


_DELIVERY_PLOTS = (
    "![CPU for a delivery against the number of streams](performance-cpu.svg)",
    "![User memory of a stream](performance-memory.svg)",
    "![Distribution of latencies](performance-latency.svg)",
)


def _requests(posts: Result, page: Result) -> str:
    usual = page["usual"]["cpu_us"]
    rows = [
        (f"post, {one_or_many}, {key}", each["guestbook"]["cpu_us"], each["usual"]["cpu_us"])
        for one_or_many, kind in (("one by one", "sequential"), ("200 at a time", "flood"))
        for key, each in (
            ("with an idempotency key", posts["with_key"][kind]),
            ("without one", posts["without_key"][kind]),
        )
    ] + [
        (f"`GET /`, {page['bytes'] / 1024:.0f} KiB of it", page["whole"]["cpu_us"], usual),
        ("`GET /`, 304 on the ETag", page["not_modified"]["cpu_us"], usual),
    ]
    lines = ["| request | guestbook | usual service | ratio |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {what} | {own:.0f} µs | {other:.0f} µs | {own / other:.2f} × |"
        for what, own, other in rows
    ]
    return (
        "CPU of the server for a request, compared with a service written as in FastAPI's "
        "documentation ([peers/usual_app.py](../bench/peers/usual_app.py)). Its post is a "
        "validated model and one `XADD`, without rate limit, idempotency key or delivery; its "
        "`GET /` is not a page, but returns "
        '`{"status": "ok"}`, FastAPI\'s smallest answer. Of the guestbook\'s own time for a post, '
        "sampled with py-spy, 15% is spent on reading the message back from the stream, 10% on "
        "FastAPI's dependencies and 5% on metrics and the line in the access log.\n\n"
        + "\n".join(lines)
    )


def _polling(polling: Result) -> str:
    most = _levels(polling["polling"])[-1]
    polled, legacy = polling["polling"][most], polling["legacy"][most]
    followed = polling["streaming"].get(most)
    words = (
        "The original asked Redis for the whole list, once a second for each open page. With "
        f"{int(most):,} pages and a list of 50 short messages, a FastAPI service written that "
        f"way answers {polled['answers_per_second']:,.0f} of {polled['wanted_per_second']:,} "
        f"requests a second with {polled['cpu_share']:.0%} of a core, at "
        f"{polled['cpu_us']:.0f} µs and {polled['bytes_per_answer'] / 1024:.1f} KiB an answer; "
        "the guestbook's own `/lrange`, which is there for old clients, answers "
        f"{legacy['answers_per_second']:,.0f} with {legacy['cpu_share']:.0%}."
    )
    if followed:
        words += (
            f" As many streams with one new message a second cost {followed['cpu_share']:.1%} of a "
            f"core, and half of the pages have it after {followed['latency_ms']['p50']:.0f} ms; "
            f"a page that polls has it after {polled['latency_ms']['p50']:.0f} ms (median)."
        )
    return words


def main() -> None:
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results.json"
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE.parent / "docs"
    result = json.loads(results.read_text())
    plt.rcParams.update({"svg.hashsalt": "guestbook", "svg.fonttype": "none", "font.size": 10})
    if "fan_out" in result:
        plot_cpu(result["fan_out"], folder / "performance-cpu.svg")
        plot_memory(result["fan_out"], folder / "performance-memory.svg")
        plot_latency(result, folder / "performance-latency.svg")
    if "polling" in result:
        plot_polling(result["polling"], folder / "performance-polling.svg")
    (folder / "performance.md").write_text(page(result))
    missed = [row for row in goals(result) if not row.is_met]
    for row in missed:
        print(f"not met: {row.what}: {row.measured} (goal: {row.goal})")
    print(
        f"{folder.name}/performance.md is written: {len(missed)} of {len(goals(result))} not met."
    )


if __name__ == "__main__":
    main()
