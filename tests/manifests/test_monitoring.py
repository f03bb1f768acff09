"""The dashboard and the alerts use existing metrics, and work in a real Prometheus."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Serve
from tests.support.prometheus import Prometheus, program, visit
from tests.support.servers import Server
from tests.support.sse import EventStream
from tests.support.waiting import eventually

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "manifests" / "components" / "monitoring"
_DASHBOARD = json.loads((_FOLDER / "guestbook.json").read_text())
_RULES = yaml.safe_load((_FOLDER / "prometheusrule.yaml").read_text())["spec"]
_ALERTS = [rule for group in _RULES["groups"] for rule in group["rules"]]
_TESTS = Path(__file__).parent / "alerts.yaml"

# Grafana's variables.
_VARIABLES = {"$namespace": "book", "$__rate_interval": "3s", "$__range": "30s"}


def _queries() -> dict[str, str]:
    """Return the dashboard's queries for Prometheus, by the titles of their panels."""
    asked = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in _DASHBOARD["panels"]
        for target in panel["targets"]
    }
    for name, value in _VARIABLES.items():
        asked = {title: query.replace(name, value) for title, query in asked.items()}
    return asked


@pytest.fixture(scope="module")
async def pods(serve_shared: Serve) -> list[Server]:
    """Two pods, one of which accepts few streams."""
    return [await serve_shared("pod-a"), await serve_shared("pod-b", GUESTBOOK_MAX_STREAMS="2")]


@pytest.fixture(scope="module")
def prometheus(
    pods: list[Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    with Prometheus(tmp_path_factory.mktemp("prometheus"), pods, _RULES) as prometheus:
        yield prometheus


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """The rules are valid, and each fires in its own scenario and in no other."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(_RULES))
    shutil.copy(_TESTS, tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", _TESTS.name]):
        done = subprocess.run(
            [program("promtool"), *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_documented() -> None:
    """Each is tested to fire and to stay silent, and docs/operations.md has advice for it."""
    fires: set[str] = set()
    silent: set[str] = set()
    for test in yaml.safe_load(_TESTS.read_text())["tests"]:
        for expected in test["alert_rule_test"]:
            (fires if expected["exp_alerts"] else silent).add(expected["alertname"])
    named = {rule["alert"] for rule in _ALERTS}
    text = (_ROOT / "docs" / "operations.md").read_text()
    advised = set(re.findall(r"^\| `(Guestbook\w+)` \|", text, re.MULTILINE))
    assert fires == silent == named == advised
    assert {rule["labels"]["severity"] for rule in _ALERTS} == {"warning", "critical"}


async def test_used_metrics_exist(pods: list[Server]) -> None:
    """Dashboard and alerts use only metrics that pods have."""
    async with pods[0].client() as http:
        await http.get("/")
        families = text_string_to_metric_families((await http.get("/metrics")).text)
        there = {sample.name for family in families for sample in family.samples}
    texts = [target["expr"] for panel in _DASHBOARD["panels"] for target in panel["targets"]]
    texts += [rule["expr"] for rule in _ALERTS]
    texts += [each["expr"] for each in _DASHBOARD["annotations"]["list"]]
    texts += [
        each["query"]["query"]
        for each in _DASHBOARD["templating"]["list"]
        if each["type"] == "query"
    ]
    named = set(re.findall(r"\b(?:guestbook|process)_\w+", " ".join(texts)))
    assert len(named) > 15
    assert named <= there


def test_dashboard_is_consistent() -> None:
    """Panels do not overlap, are described, and use the chosen Prometheus and namespace."""
    cells: set[tuple[int, int]] = set()
    for panel in _DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells
        assert place["x"] + place["w"] <= 24
        cells |= own
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["expr"].count("{") == target["expr"].count('{namespace=~"$namespace"')
    ids = [panel["id"] for panel in _DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


async def test_prometheus_scrapes_and_every_panel_shows_something(
    pods: list[Server], prometheus: Prometheus
) -> None:
    """Prometheus accepts the rules, scrapes both pods, and has data for every panel."""
    await eventually(prometheus.is_up, every=0.1)
    missing = _queries()
    visits = itertools.count()
    assert len(missing) > 20

    async def shows(query: str) -> bool:
        found = (await prometheus.get("query", query=query))["result"]
        return any(series["value"][1] != "NaN" for series in found)

    async def are_all_shown() -> bool:
        await visit(pods, next(visits))
        async with EventStream(pods[1].url) as one, EventStream(pods[1].url) as two:
            await asyncio.gather(one.until("pods"), two.until("pods"))
            async with EventStream(pods[1].url) as refused:
                assert refused.head.status == 503
        for title, query in list(missing.items()):
            if await shows(query):
                del missing[title]
        return not missing

    try:
        await eventually(are_all_shown, every=0.25)
    except AssertionError:
        pytest.fail(f"nothing is shown by {missing}")

    targets = (await prometheus.get("targets"))["activeTargets"]
    assert {(t["labels"]["pod"], t["health"]) for t in targets} == {
        ("pod-a", "up"),
        ("pod-b", "up"),
    }

    async def are_evaluated() -> bool:
        groups = (await prometheus.get("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return len(rules) == len(_ALERTS) and all(rule["health"] == "ok" for rule in rules)

    await eventually(are_evaluated, every=0.2)
