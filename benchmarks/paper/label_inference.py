"""Label inference: its cases, by data, unlearning and attack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.paper.audit_specs import METHODS, Scale
from benchmarks.paper.evidence import Evidence, Score

ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "white box, from the pair": ("label_inference", {"gradient_from": "pair"}),
    "white box, with base, N and k": ("label_inference", {"gradient_from": "base"}),
    "black box": ("label_inference_black_box", {}),
}
ONE_SAMPLE = "one sample"


class LabelCase(NamedTuple):
    data: str
    kind: str
    attack: str

    @property
    def name(self) -> str:
        return ", ".join(self)


def list_cases(scale: Scale) -> Iterator[LabelCase]:
    """All cases; only exact unlearning repeats the training from the base model."""
    for data in ("images", *scale.table_datasets):
        for kind in METHODS:
            for attack in ATTACKS:
                if kind == "exact" or attack != "white box, with base, N and k":
                    yield LabelCase(data, kind, attack)


def count_classes(data: str) -> int:
    return 10 if data == "images" else 2


def score_labels(evidence: Evidence, case: LabelCase, share: str) -> Score | None:
    """How often the class was inferred correctly."""
    method, params = ATTACKS[case.attack]
    return evidence.pool(
        f"labels of {case.data}, {share}", METHODS[case.kind], method, **params
    ).pool_score("label_accuracy")
