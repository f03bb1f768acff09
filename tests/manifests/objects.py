"""Kubernetes objects, as kustomize builds them and as the tutorial has them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import iter_route_contexts

from guestbook import settings
from guestbook.settings import Settings
from guestbook.web.app import create_app
from guestbook.web.routes import probes

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
COMPONENTS = sorted(folder.parent.name for folder in MANIFESTS.glob("components/*/*zation.yaml"))
OVERLAYS = ("dev", "production")
BUILDS = (*OVERLAYS, *(f"with {name}" for name in COMPONENTS), "with all")
TUTORIAL = sorted(file.stem for file in (MANIFESTS / "tutorial").iterdir())

APP = {"app": "guestbook"}
FRONTEND = {"app": "guestbook", "tier": "frontend"}
BACKEND = {"app": "redis", "tier": "backend"}
NGINX = {"app": "nginx"}


def kustomize(kubectl: str, folder: Path) -> list[Object]:
    command = [kubectl, "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # A warning means that a later version will not accept it.
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def composed(folder: Path, components: list[str], **more: object) -> Path:
    """Write an overlay of both bases and these components."""
    folder.mkdir()
    manifests = Path(os.path.relpath(MANIFESTS, folder.resolve()))
    overlay = {
        "resources": [str(manifests / "base" / base) for base in ("guestbook", "redis")],
        "components": [str(manifests / "components" / name) for name in components],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return folder


def in_order(components: list[str]) -> list[str]:
    """Order them as components/README.md asks for."""
    last = ("dedicated-nodes", "redis-auth", "images")
    return [*(name for name in components if name not in last), *last]


def tutorial(name: str) -> list[Object]:
    return list(yaml.safe_load_all((MANIFESTS / "tutorial" / f"{name}.yaml").read_text()))


def one(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)
    return found


def pod_of(thing: Object) -> Object | None:
    """Return the pod that an object is or creates."""
    if thing["kind"] == "Pod":
        return thing
    spec = thing.get("spec", {})
    template: Object | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template


def pods(objects: list[Object]) -> Iterator[Object]:
    return (pod for thing in objects if (pod := pod_of(thing)) is not None)


def containers(objects: list[Object]) -> Iterator[Object]:
    return (container for pod in pods(objects) for container in pod["spec"]["containers"])


def guestbooks(objects: list[Object]) -> list[Object]:
    """Return the containers with our image."""
    return [c for c in containers(objects) if c["image"].partition(":")[0] == "guestbook"]


def environment(container: Object, objects: list[Object]) -> dict[str, str]:
    """Return a container's environment, with a stand-in for values that the cluster fills in."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        value = variable.get("value", "stand-in")
        found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda m: found[m[1]], value)
    return found


def selects(selector: Object, labels: Object) -> bool:
    return selector.items() <= labels.items()


def labels_of(pod: Object) -> Object:
    labels: Object = pod.get("metadata", {}).get("labels", {})
    return labels


def check_environment(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    read = {variable.name for variable in settings.variables()}
    shown = probes.environment(variables, name="").keys()
    # The first is uvicorn's; the second becomes part of REDIS_URL.
    assert variables.keys() <= read | shown | {"FORWARDED_ALLOW_IPS", "REDIS_PASSWORD"}
    with monkeypatch.context() as patch:
        for key, value in variables.items():
            patch.setenv(key, value)
        settings.load()


def routes() -> set[str]:
    return {route.path or "" for route in iter_route_contexts(create_app(Settings()).routes)}


def check_probes(thing: Object) -> None:
    pod = pod_of(thing)
    assert pod is not None
    (container,) = pod["spec"]["containers"]
    assert container["ports"] == [{"name": "http-server", "containerPort": Settings().port}]
    asked = {name: probe for name, probe in container.items() if name.endswith("Probe")}
    paths = {name: probe["httpGet"]["path"] for name, probe in asked.items()}
    assert paths["livenessProbe"] == paths.get("startupProbe", "/healthz") == "/healthz"
    assert paths["readinessProbe"] == "/ready"
    assert set(paths.values()) <= routes()
    # They are answered within a second, and a change has to show soon.
    assert all(probe["timeoutSeconds"] > 1 for probe in asked.values())
    assert asked["readinessProbe"]["periodSeconds"] == 1
    assert {probe["httpGet"]["port"] for probe in asked.values()} == {"http-server"}
