"""Evaluations as workers write them, made up: for what joins and judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any


def make_metric(
    values: Sequence[float], baselines: Mapping[str, Sequence[float]], proportion: bool = False
) -> dict[str, Any]:
    """A metric of which more is worse for the forgotten."""
    return {
        "n": len(values),
        "mean": fmean(values),
        "values": list(values),
        "baseline_values": {name: list(scores) for name, scores in baselines.items()},
        "interval": "wilson" if proportion else "bootstrap_t",
        "higher_is_better": True,
    }


def make_evaluation(
    unlearning: str,
    attack: tuple[str, dict[str, Any]] | None,
    *,
    seed: int = 0,
    psnr: Sequence[float] = (),
    baseline: float = 12.0,
    ranks: Sequence[int] = (),
    hits: Sequence[float] = (),
    chance: float = 0.1,
    defense: tuple[str, float] | None = None,
    utility: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """One evaluation: images where `psnr` is given, labels where `right` is, else what the models
    are worth."""
    metrics = {}
    if psnr:
        metrics["psnr"] = make_metric(
            psnr,
            {"class_mean": [baseline] * len(psnr), "permuted_truth": [baseline - 2] * len(psnr)},
        )
    if hits:
        metrics["label_accuracy"] = make_metric(
            hits, {"uniform_guess": [chance] * len(hits)}, proportion=True
        )
    name, strength = defense or ("none", 0.0)
    return {
        "seed": seed,
        "unlearning": {"method": unlearning, "params": {}},
        "defense": {
            "method": name,
            "params": {"grid": [0.2, 0.5], "share": strength} if defense else {},
            "strength": None,
            "guarantee": {"epsilon": 8 / strength} if name == "dp_sgd" else {},
        },
        "attack": {"method": attack[0], "params": attack[1]} if attack else None,
        "metrics": metrics,
        "identification": {
            "n": len(ranks),
            "ranks": list(ranks),
            "chance": 1 / 101,
            "decoys": 100,
            "decoy_counts": [100] * len(ranks),
        }
        if ranks
        else None,
        "utility": dict(utility) if utility else None,
        "provenance": {"torch": "2", "python": "3", "device": "cpu", "threads": 1},
    }
