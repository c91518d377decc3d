"""What a scrape returns, by name and labels."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Metrics:
    """The value of each sample; `names` has those of families without samples, too."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]
    names: frozenset[str]

    def __getitem__(self, key: tuple[str, dict[str, str]]) -> float:
        name, labels = key
        return self.samples[name, frozenset(labels.items())]


def parse_metrics(text: str) -> Metrics:
    """Parse Prometheus's text format."""
    samples, names = {}, set()
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_sum", "_count"),
        "summary": ("_sum", "_count"),
    }
    for family in text_string_to_metric_families(text):
        names |= {family.name + suffix for suffix in suffixes.get(family.type, ("",))}
        for sample in family.samples:
            samples[sample.name, frozenset(sample.labels.items())] = sample.value
    return Metrics(samples, frozenset(names))
