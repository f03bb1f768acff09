"""A pod's metrics, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.servers import Server


async def families(pod: Server) -> list[Metric]:
    """Return all metrics of a pod."""
    async with pod.client() as http:
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return list(text_string_to_metric_families(answer.text))


class Samples(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """All samples at one moment; `of` returns the value of one, 0 if it does not exist."""

    @classmethod
    async def read(cls, pod: Server) -> Samples:
        samples = cls()
        for sample in (sample for family in await families(pod) for sample in family.samples):
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
        return samples

    def of(self, name: str, **labels: str) -> float:
        return self.get((name, frozenset(labels.items())), 0)


async def sample(pod: Server, name: str, **labels: str) -> float:
    """Return the value of one sample now."""
    return (await Samples.read(pod)).of(name, **labels)
