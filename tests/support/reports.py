"""Hand-made evaluations and audits for tests of reports: every number is chosen, none measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from typing import Any

from shared.choices import Choice
from shared.jobs.spec import AuditSpec, PlannedRow
from shared.reporting.build import build
from shared.reporting.evaluations import Found
from shared.reporting.loading import read_evaluation
from shared.reporting.models import Method, Report
from shared.reporting.selftests import read_self_test

JSON = dict[str, Any]
CONDITIONS = {"torch": "2.14.1", "python": "3.11.7", "device": "cpu", "machine": "x86_64", "threads": 1}
LEAK = {"psnr": (22.0, 19.0, 25.0), "gain": (9.0, 6.0, 12.0), "ranks": [1] * 8}
NOTHING = {"psnr": (9.0, 8.0, 10.0), "gain": (-4.0, -6.0, -3.0), "ranks": [40, 7, 90, 13, 55, 101, 20, 33]}


def audit(**changes: Any) -> JSON:
    """One unlearning method, no defense, one attack, one seed."""
    return {
        "name": "an audit",
        "dataset": {"name": "mnist_5k", "params": {}},
        "model": {"name": "convnet", "params": {}},
        "train": {"size": 32},
        "forget": {"deletions": 8},
        "unlearning": ["gradient_ascent"],
        "defenses": ["none"],
        "attacks": ["feature_recovery"],
        "seeds": [0],
        **changes,
    }


def defense(name: str, **params: Any) -> JSON:
    """A defense as DEFENSE tells it; a `strength` was chosen from a grid."""
    value = params.get("strength")
    chosen = {
        "name": "share",
        "value": value,
        "why": "the strongest of 2 settings that costs at most 0.02 of validation accuracy",
        "tried": [{"value": 0.7, "validation_accuracy": 0.5}, {"value": value, "validation_accuracy": 0.97}],
        "accuracy_without": 0.98,
        "max_accuracy_cost": 0.02,
        "validation_samples": 468,
    }
    if value is None:
        return {"method": name, "params": params, "strength": None}
    return {"method": name, "params": {"share": value}, "strength": chosen}


def images(
    *,
    psnr: tuple[float, float | None, float | None],
    gain: tuple[float, float | None, float | None],
    ranks: list[int],
    seed: int = 0,
    unlearning: str = "gradient_ascent",
    released: JSON | None = None,
    attack: JSON | None = None,
    decoys: int = 100,
) -> JSON:
    """The evaluation of one attack on images; pairs are (mean, low, high)."""
    hits = sum(rank == 1 for rank in ranks)
    low, high = {0: (0.0, 0.32), 1: (0.02, 0.47), 8: (0.68, 1.0)}.get(hits, (0.1, 0.9))
    n = len(ranks)
    return _evaluation(seed, unlearning, released, attack or method("feature_recovery"), n) | {
        "metrics": {
            "psnr": _metric(psnr, n, "dB") | {"gain": dict(zip(("mean", "low", "high"), gain, strict=True))},
        },
        "identification": {
            "n": n, "decoys": decoys, "rank_1": hits, "share": hits / n, "low": low, "high": high, "interval": "wilson",
            "chance": 1 / (decoys + 1), "median_rank": sorted(ranks)[n // 2], "worst_rank": max(ranks), "ranks": ranks,
        },
    }  # fmt: skip


def one_recovered(**changes: Any) -> JSON:
    """One of eight images came back (+20 dB, identified), of the others nothing; intervals are of these numbers."""
    told = images(psnr=(14.4, 11.5, 24.1), gain=(1.4, -1.5, 11.1), ranks=[1, *NOTHING["ranks"][1:]], **changes)
    told["metrics"]["psnr"]["values"] = [33.0, 11.8, 12.2, 11.0, 11.5, 12.7, 10.8, 12.0]
    return told


def labels(
    right: int,
    ends: tuple[float, float],
    *,
    n: int = 8,
    null: float = 0.1,
    seed: int = 0,
    unlearning: str = "gradient_ascent",
    released: JSON | None = None,
) -> JSON:
    """The evaluation of one attack on labels that was right `right` times; `ends` is Wilson's interval."""
    part = _metric((right / n, *ends), n, "share") | {"interval": "wilson", "null": null, "null_name": "uniform_guess"}
    answers = {"labels": [[3]] * right + [[5]] * (n - right), "truth": [[3]] * n}
    return _evaluation(seed, unlearning, released, method("label_inference"), n) | {
        "metrics": {"label_accuracy": part | {"gain": {"mean": right / n - null, "low": None, "high": None}}},
        "answers": answers,
    }


def membership(
    auc: tuple[float, float, float],
    p: float = 0.0005,
    *,
    stayed: tuple[float, float, float] = (0.5, 0.42, 0.58),
    stayed_p: float = 0.5,
    unlearning: str = "gradient_ascent",
    released: JSON | None = None,
) -> JSON:
    """The evaluation of one attack on membership; triples are (AUC, low, high)."""
    told = {"interval": "newcombe", "null": 0.5, "null_name": "chance", "nulls": {"chance": 0.5}, "others": 400}
    metrics = {}
    for name, ends, chance in (("auc_forgotten", auc, p), ("auc_retained", stayed, stayed_p)):
        gain = dict(zip(("mean", "low", "high"), (end - 0.5 for end in ends), strict=True))
        metrics[name] = _metric(ends, 8, "share") | told | {"gain": gain, "p": chance}
    told = _evaluation(0, unlearning, released, method("membership_difference"), 8) | {"metrics": metrics}
    told["threat_model"] |= {"access": "black_box", "observes": ["CANDIDATES", "ORIGINAL", "UNLEARNED"]}
    return told


def utility(
    *,
    test: float = 0.97,
    forget: float = 0.5,
    seed: int = 0,
    unlearning: str = "gradient_ascent",
    released: JSON | None = None,
) -> JSON:
    """The evaluation of released models without an attack."""
    before = {"original_retain_accuracy": 1.0, "original_forget_accuracy": 1.0, "original_test_accuracy": 0.98}
    after = {"retain_accuracy": 1.0, "forget_accuracy": forget, "test_accuracy": test, "test_samples": 750}
    return _evaluation(seed, unlearning, released, None, 8) | {"utility": {**before, **after}}


def method(name: str, **params: Any) -> JSON:
    return {"method": name, "params": params}


def found(*evaluations: JSON) -> dict[str, Found]:
    """As the stage reads them, by role."""
    roles = [f"EVALUATION_{i}" for i, _ in enumerate(evaluations, start=1)]
    return {role: read_evaluation(json.dumps(one).encode(), role) for role, one in zip(roles, evaluations, strict=True)}


def self_test(**measured: float) -> bytes:
    """A SELF_TEST of two cases, both passed unless measured otherwise."""
    cases = [
        {
            "name": name, "shows": f"{name} is right", "measured": measured.get(name, right), "low": right,
            "high": None, "unit": "dB", "passed": measured.get(name, right) >= right, "error": None,
        }
        for name, right in (("psnr", 20.0), ("noise", 3.0))
    ]  # fmt: skip
    return json.dumps({"passed": all(case["passed"] for case in cases), "cases": cases}).encode()


def report(
    spec: JSON, *evaluations: JSON, tested: bytes | None = self_test(), rows: list[PlannedRow] | None = None
) -> Report:
    """`rows`: as planned; if not given, each row of the grid has the first evaluation that may be its own."""
    found_, came = None if tested is None else read_self_test(tested, "SELF_TEST"), found(*evaluations)
    return build(came, spec, planned_rows(spec, came) if rows is None else rows, "1.2.3", found_)


def planned_rows(spec: JSON, came: Mapping[str, Found]) -> list[PlannedRow]:
    """The rows of an audit in which no choice is named twice, as a plan numbers them: what came, and what did not."""
    parsed = AuditSpec.model_validate(spec)
    left, rows = dict(came), []
    for (u, unlearning), (d, defense), (a, attack), seed in product(
        enumerate(parsed.unlearning), enumerate(parsed.defenses), _attacks(parsed), parsed.seeds
    ):
        counterless = any(one.defense.method == defense.name and one.defense.counterless for one in came.values())
        both = counterless and any(
            _is_adaptive(other) and attack and other.name == attack.name for other in parsed.attacks
        )
        plain = Choice(name=attack.name, params={**attack.params, "adaptive": False}) if both and attack else attack
        if both and attack and a and any(other.name == attack.name for other in parsed.attacks[:a]):
            continue  # the attacker who knows the defense is the one before
        fitting = (
            role
            for role, one in left.items()
            if one.evaluation.seed == seed
            and _fits(unlearning, one.unlearning)
            and _fits(defense, one.defense)
            and _fits(plain, one.attack)
        )
        role = next(fitting, f"EVALUATION_{len(came) + len(rows) + 1}")
        left.pop(role, None)
        rows.append(PlannedRow(seed=seed, unlearning=u, defense=d, attack=a, adaptive_too=both, evaluation=role))
    return rows


def _attacks(spec: AuditSpec) -> list[tuple[int | None, Choice | None]]:
    return [(None, None), *enumerate(spec.attacks)]


def _is_adaptive(attack: Choice) -> bool:
    return attack.params.get("adaptive") is True


def _fits(asked: Choice | None, made: Method | None) -> bool:
    if asked is None or made is None:
        return asked is None and made is None
    return asked.name == made.method and all(made.params.get(n, v) == v for n, v in asked.params.items())


def _evaluation(seed: int, unlearning: str, released: JSON | None, attack: JSON | None, n: int) -> JSON:
    observes = ["LABELS", "ORIGINAL", "UNLEARNED"]
    threat = {"attack": attack["method"], "observes": observes, "access": "white_box", "queries": 0} if attack else None
    return {
        "n": n, "deletions": n, "size": 1, "dataset": {"name": "mnist_5k", "params": {}}, "seed": seed,
        "unlearning": {**method(unlearning), "exact": unlearning == "retrain", "weight_change": [0.1] * n},
        "defense": released or defense("none"), "attack": attack, "threat_model": threat, "metrics": {},
        "identification": None, "answers": None, "utility": None, "provenance": CONDITIONS,
    }  # fmt: skip


def _metric(ends: tuple[float, float | None, float | None], n: int, unit: str) -> JSON:
    mean, low, high = ends
    return {
        "n": n, "mean": mean, "median": mean, "worst": low, "best": high, "low": low, "high": high, "interval": "bca",
        "unit": unit, "range": "", "higher_is_better": True, "values": [mean] * n, "nulls": {"class_mean": 13.0},
        "null": 13.0, "null_name": "class_mean", "null_values": {"class_mean": [13.0] * n},
    }  # fmt: skip
