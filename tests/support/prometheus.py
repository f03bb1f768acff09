"""A real Prometheus, and traffic for it to see."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.sse import EventStream


def program(name: str) -> str:
    """Where one of Prometheus's programs is: `make test` installs them."""
    found = shutil.which(name)
    if found is None and "CI" in os.environ:
        pytest.fail(f"{name} is missing: Debian's package prometheus has it")
    return found or pytest.skip(f"{name} is not on this machine: CI checks the monitoring")


class Prometheus:
    """A Prometheus that scrapes these pods, as the operator would have it do."""

    def __init__(self, folder: Path, pods: list[Server], rules: dict[str, Any]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        targets = [
            {
                "targets": [f"127.0.0.1:{pod.port}"],
                "labels": {"namespace": "book", "pod": pod.name},
            }
            for pod in pods
        ]
        config = {
            "global": {"scrape_interval": "250ms", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "rules.yaml")],
            "scrape_configs": [{"job_name": "guestbook", "static_configs": targets}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self._log = folder / "prometheus.log"
        self._command = [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    async def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60, verify=False) as http:
            answer = await http.get(f"/api/v1/{path}", params=parameters)
        # While it starts, it answers all with 503.
        answer.raise_for_status()
        return answer.json()["data"]

    async def is_up(self) -> bool:
        """Whether it answers."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            await self.get("status/buildinfo")
        except httpx.HTTPError:
            return False
        return True


async def visit(pods: list[Server], number: int) -> None:
    """Simulate visitors: some watch, write, are refused, leave and come back."""
    cursors = []
    for pod in pods:
        async with (
            EventStream(pod.url) as one,
            EventStream(pod.url) as two,
            httpx.AsyncClient(base_url=pod.url, timeout=60, verify=False) as http,
        ):
            await asyncio.gather(one.until("pods"), two.until("pods"))
            for _ in range(3):
                await http.post("/messages", data={"text": f"Hello {number}"})
            cursors.append((await one.entries(3))[0].id)
            key = {"Idempotency-Key": f"{pod.name}-{number}"}
            for _ in range(2):
                await http.post("/messages", json={"text": "Once"}, headers=key)
            await http.post("/messages", json={"text": ""})
            await http.get("/")
            await http.get("/nowhere")
    for pod, cursor in zip(pods, cursors, strict=True):
        async with EventStream(pod.url, after=cursor) as back:
            await back.entries(2)
