"""What PromQL expressions speak of, and what a page of metrics holds: enough to compare the two."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

NAME = re.compile(r"(?<![\w.$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?\s*(\()?")
GROUPED = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"')
WORDS = frozenset({"and", "or", "unless", "bool", "offset"})
FROM_PROMETHEUS = {"job", "instance"}


@dataclass
class Exported:
    """One metric of a page: its type, and every value of every label."""

    kind: str
    labels: dict[str, set[str]] = field(default_factory=dict)


def exported(page: str) -> dict[str, Exported]:
    """The metrics of a page by the name that docs use: of a counter, with ``_total``."""
    found: dict[str, Exported] = {}
    for family in text_string_to_metric_families(page):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        metric = found[name] = Exported(family.type)
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label != "le":
                    metric.labels.setdefault(label, set()).add(value)
    return found


def series(metrics: Mapping[str, Exported]) -> dict[str, dict[str, set[str]]]:
    """Labels of everything that can be queried: of a histogram, its three kinds of series."""
    known: dict[str, dict[str, set[str]]] = {"up": {}}
    for name, metric in metrics.items():
        if metric.kind == "histogram":
            known[f"{name}_bucket"] = {**metric.labels, "le": set()}
            known[f"{name}_sum"] = known[f"{name}_count"] = metric.labels
        else:
            known[name] = metric.labels
    return known


def wrong(expr: str, metrics: Mapping[str, Exported]) -> Iterator[str]:
    """Everything in ``expr`` that no series has: names, labels, values of labels."""
    known = series(metrics)
    bare = re.sub(r"\[[^\]]*\]", "", expr)
    grouped = {name.strip() for names in GROUPED.findall(bare) for name in names.split(",")}
    labels = set(FROM_PROMETHEUS)
    for name, matchers, call in NAME.findall(GROUPED.sub(" ", bare)):
        if call or name in WORDS:
            continue
        if name not in known:
            yield f"no metric {name}"
            continue
        labels |= set(known[name])
        yield from _wrong_matchers(name, matchers, known[name])
    yield from (f"no label {name}" for name in sorted(grouped - labels - {""}))


def _wrong_matchers(name: str, matchers: str, labels: dict[str, set[str]]) -> Iterator[str]:
    for label, values in MATCHER.findall(matchers):
        if label in FROM_PROMETHEUS:
            continue
        if label not in labels:
            yield f"no label {label} of {name}"
            continue
        unknown = set(values.split("|")) - labels[label]
        yield from (f"no {label} {value} of {name}" for value in sorted(unknown))
