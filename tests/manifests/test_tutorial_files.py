"""The manifests of the tutorial: what its commands name exists, and fits the application."""

from __future__ import annotations

import pytest

from tests.manifests.objects import (
    APP,
    BACKEND,
    FRONTEND,
    NGINX,
    TUTORIAL,
    Object,
    check_environment,
    check_probes,
    environment,
    guestbooks,
    labels_of,
    pod_of,
    pods,
    selects,
    tutorial,
)

TABLE: dict[str, tuple[str, str, Object, Object, list[object], int | None]] = {
    "redis-pod": ("Pod", "redis", BACKEND, BACKEND, [6379], None),
    "guestbook-pod": ("Pod", "guestbook", FRONTEND, FRONTEND, ["http-server", 3000], None),
    "redis-service": ("Service", "redis", BACKEND, BACKEND, [6379, 6379], None),
    "guestbook-service": ("Service", "frontend", FRONTEND, APP, [3000, "http-server"], None),
    "redis-deployment": ("Deployment", "redis", {}, {**BACKEND, "role": "master"}, [6379], 1),
    "guestbook-deployment": ("Deployment", "guestbook", APP, FRONTEND, ["http-server", 3000], 3),
    "configmap": ("ConfigMap", "example-configmap", {}, {}, [], None),
    "pod-using-cm": ("Pod", "pod-using-configmap", {}, {}, [], None),
    "secret-configmap": ("Secret", "example-secret", {}, {}, [], None),
    "job": ("Job", "example-job", {}, {}, [], None),
    "cronjob": ("CronJob", "example-cronjob", {}, {}, [], None),
    "daemonset": ("DaemonSet", "nginx-daemonset", NGINX, NGINX, [80], None),
    "statefulset": ("StatefulSet", "web", {}, NGINX, ["web", 80], 1),
    "pod-with-nodename": ("Pod", "nginx", {}, {}, [], None),
    "pod-with-node-selector": ("Pod", "nginx", {}, {}, [], None),
    "pod-with-tolerations": ("Pod", "nginx", {}, {}, [], None),
}


@pytest.mark.parametrize("name", ["guestbook-pod", "guestbook-deployment"])
def test_tutorials_guestbook_finds_redis(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tutorial's guestbook uses the Service redis, whatever variables Kubernetes injects."""
    (container,) = guestbooks(tutorial(name))
    (service,) = tutorial("redis-service")
    variables = environment(container, [])
    assert variables["REDIS_URL"] == f"{service['metadata']['name']}:6379"
    monkeypatch.setenv("REDIS_PORT", "tcp://10.96.0.7:6379")
    monkeypatch.setenv("GUESTBOOK_PORT", "tcp://10.96.0.8:3000")
    check_environment(variables, monkeypatch)


@pytest.mark.parametrize("name", ["guestbook-pod", "guestbook-deployment"])
def test_tutorials_probes_use_routes_of_the_application(name: str) -> None:
    """The tutorial's probes do too."""
    check_probes(tutorial(name)[0])


def test_tutorial_is_complete() -> None:
    """The tutorial has its 16 files."""
    assert sorted(TABLE) == TUTORIAL


@pytest.mark.parametrize("name", TABLE)
def test_tutorials_objects_fit_its_commands(name: str) -> None:
    """The objects, labels, ports and replicas in the tutorial's commands exist."""
    thing = tutorial(name)[0]
    pod = pod_of(thing)
    spec = thing.get("spec", {})
    if pod is not None:
        ports = [p for c in pod["spec"]["containers"] for p in c.get("ports", [])]
        pod_labels = labels_of(pod)
    else:
        ports, pod_labels = spec.get("ports", []), spec.get("selector", {})
    assert (
        thing["kind"],
        thing["metadata"]["name"],
        labels_of(thing),
        pod_labels,
        [value for port in ports for value in port.values()],
        spec.get("replicas"),
    ) == TABLE[name]


def test_tutorials_services_select_its_pods() -> None:
    """Each Service of the tutorial selects the bare Pod as well as the Deployment's pods."""
    for service, things in (
        ("redis-service", ("redis-pod", "redis-deployment")),
        ("guestbook-service", ("guestbook-pod", "guestbook-deployment")),
    ):
        selector = tutorial(service)[0]["spec"]["selector"]
        for name in things:
            (pod,) = pods(tutorial(name))
            assert selects(selector, labels_of(pod))
    assert tutorial("guestbook-service")[0]["spec"]["type"] == "LoadBalancer"


def test_tutorials_messages_survive_the_pod() -> None:
    """The tutorial's Redis has a volume, and no second pod on it."""
    deployment, claim = tutorial("redis-deployment")
    spec = deployment["spec"]["template"]["spec"]
    assert spec["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert spec["containers"][0]["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
