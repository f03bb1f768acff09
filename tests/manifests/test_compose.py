"""compose.yaml: as confined as the pods, with the same Redis, and started in order."""

from __future__ import annotations

from typing import Any

import yaml

from guestbook import settings
from tests.manifests.objects import ROOT
from tools.version import RELEASE

_SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())[
    "services"
]


def test_containers_are_as_confined_as_pods() -> None:
    """No root, no capabilities, no new privileges, a read-only root file system."""
    for service in _SERVICES.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service["user"].startswith("0:")
        assert "privileged" not in service


def test_guestbook_starts_after_redis_is_healthy() -> None:
    """Both have a health check; the guestbook's asks whether it is ready."""
    guestbook, redis = _SERVICES["guestbook"], _SERVICES["redis"]
    assert guestbook["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "/ready" in guestbook["healthcheck"]["test"][-1]
    assert redis["healthcheck"]["test"] == ["CMD", "valkey-cli", "-e", "ping"]


def test_versions_and_variables_are_known() -> None:
    """The images have the manifests' versions, and each variable is a setting."""
    images = yaml.safe_load(
        (ROOT / "manifests" / "components" / "images" / "kustomization.yaml").read_text()
    )["images"]
    tags = {image["name"]: image["newTag"] for image in images}
    assert _SERVICES["guestbook"]["image"] == f"guestbook:{RELEASE}"
    build = _SERVICES["guestbook"]["build"]
    assert build["args"] == {"VERSION": f"${{VERSION:-{RELEASE}+unknown}}"}
    assert _SERVICES["redis"]["image"] == f"valkey/valkey:{tags['valkey/valkey']}"
    known = {variable.name for variable in settings.variables()}
    assert _SERVICES["guestbook"]["environment"].keys() <= known


def test_messages_are_kept_on_a_volume() -> None:
    """Redis uses the configuration of the manifests, whose folder is the volume."""
    mounts = _SERVICES["redis"]["volumes"]
    assert "./manifests/base/redis/redis.conf:/etc/valkey/redis.conf:ro" in mounts
    assert "messages:/data" in mounts
    assert _SERVICES["redis"]["command"] == ["valkey-server", "/etc/valkey/redis.conf"]
    assert "\ndir /data\n" in (ROOT / "manifests" / "base" / "redis" / "redis.conf").read_text()
