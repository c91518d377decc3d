"""Hand-made evaluations and audits for tests of reports: every number is chosen, none measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import product
from math import exp
from typing import Any

from shared.jobs.spec import AuditSpec, PlannedRow
from shared.plugin_ref import PluginRef
from shared.reporting import build
from shared.reporting.evaluations import LoadedEvaluation
from shared.reporting.forgetting import read_forgetting
from shared.reporting.loading import read_evaluation
from shared.reporting.models import Method, Report
from shared.reporting.selftests import read_self_test

JSONObject = dict[str, Any]
CONDITIONS = {
    "torch": "2.14.1",
    "python": "3.11.7",
    "device": "cpu",
    "machine": "x86_64",
    "threads": 1,
}
LEAK: JSONObject = {"psnr": (22.0, 19.0, 25.0), "gain": (9.0, 6.0, 12.0), "ranks": [1] * 8}
NO_LEAK: JSONObject = {
    "psnr": (9.0, 8.0, 10.0),
    "gain": (-4.0, -6.0, -3.0),
    "ranks": [40, 7, 90, 13, 55, 101, 20, 33],
}


def make_audit(**changes: Any) -> JSONObject:
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


def make_defense(name: str, **params: Any) -> JSONObject:
    """A defense as DEFENSE tells it; a `strength` was chosen from a grid."""
    value = params.get("strength")
    strength = {
        "name": "share",
        "value": value,
        "reason": "the strongest of 2 settings that costs at most 0.02 of validation accuracy",
        "tried": [
            {"value": 0.7, "validation_accuracy": 0.5},
            {"value": value, "validation_accuracy": 0.97},
        ],
        "accuracy_without": 0.98,
        "max_accuracy_cost": 0.02,
        "validation_samples": 468,
    }
    if value is None:
        return {"method": name, "params": params, "strength": None}
    return {"method": name, "params": {"share": value}, "strength": strength}


def make_image_evaluation(
    *,
    psnr: tuple[float, float | None, float | None],
    gain: tuple[float, float | None, float | None],
    ranks: list[int],
    seed: int = 0,
    unlearning: str = "gradient_ascent",
    released: JSONObject | None = None,
    attack: JSONObject | None = None,
    decoys: int = 100,
    margins: list[float] | None = None,
    above: int | None = None,
) -> JSONObject:
    """The evaluation of one attack on images; triples are (mean, low, high).

    `margins` are equal unless given; `above` is how many of those identified beat their baseline,
    all if the mean gain is positive.
    """
    hits = sum(rank == 1 for rank in ranks)
    low, high = {0: (0.0, 0.32), 1: (0.02, 0.47), 8: (0.68, 1.0)}.get(hits, (0.1, 0.9))
    n = len(ranks)
    above = (hits if gain[0] > 0 else 0) if above is None else above
    return _make_evaluation(seed, unlearning, released, attack or make_method("feature_recovery"), n) | {
        "metrics": {
            "psnr": _make_metric(psnr, n, "dB") | {"gain": dict(zip(("mean", "low", "high"), gain, strict=True))},
        },
        "identification": {
            "n": n, "decoys": decoys, "rank_1": hits, "share": hits / n, "low": low, "high": high, "interval": "wilson",
            "chance": 1 / (decoys + 1), "median_rank": sorted(ranks)[n // 2], "worst_rank": max(ranks), "ranks": ranks,
            "decoy_counts": [decoys] * n, "margins": margins or [0.3] * n, "above_baseline": above,
        },
    }  # fmt: skip


def make_one_recovered_evaluation(**changes: Any) -> JSONObject:
    """One of eight images came back (+20 dB, identified), of the others nothing; intervals are of
    these numbers."""
    evaluation = make_image_evaluation(
        psnr=(14.4, 11.5, 24.1), gain=(1.4, -1.5, 11.1), ranks=[1, *NO_LEAK["ranks"][1:]], **changes
    )
    evaluation["metrics"]["psnr"]["values"] = [33.0, 11.8, 12.2, 11.0, 11.5, 12.7, 10.8, 12.0]
    return evaluation


def make_label_evaluation(
    hits: int,
    ends: tuple[float, float],
    *,
    n: int = 8,
    baseline: float = 0.1,
    seed: int = 0,
    unlearning: str = "gradient_ascent",
    released: JSONObject | None = None,
) -> JSONObject:
    """The evaluation of one attack on labels that was right `right` times; `ends` is Wilson's
    interval."""
    part = _make_metric((hits / n, *ends), n, "share") | {
        "interval": "wilson",
        "baseline": baseline,
        "baseline_name": "uniform_guess",
    }
    answers = {"labels": [[3]] * hits + [[5]] * (n - hits), "truth": [[3]] * n}
    return _make_evaluation(seed, unlearning, released, make_method("label_inference"), n) | {
        "metrics": {
            "label_accuracy": part
            | {"gain": {"mean": hits / n - baseline, "low": None, "high": None}}
        },
        "answers": answers,
    }


def make_membership_evaluation(
    auc: tuple[float, float, float],
    p: float = 0.0005,
    *,
    retained: tuple[float, float, float] = (0.5, 0.42, 0.58),
    retained_p: float = 0.5,
    unlearning: str = "gradient_ascent",
    released: JSONObject | None = None,
) -> JSONObject:
    """The evaluation of one attack on membership; triples are (AUC, low, high)."""
    common = {
        "interval": "newcombe",
        "baseline": 0.5,
        "baseline_name": "chance",
        "baselines": {"chance": 0.5},
        "non_members": 400,
    }
    metrics = {}
    for name, ends, chance in (("auc_forgotten", auc, p), ("auc_retained", retained, retained_p)):
        gain = dict(zip(("mean", "low", "high"), (end - 0.5 for end in ends), strict=True))
        p_values = {"p": chance, "p_below": min(1.0, 1.0005 - chance)}
        metrics[name] = _make_metric(ends, 8, "share") | common | {"gain": gain} | p_values
    evaluation = _make_evaluation(
        0, unlearning, released, make_method("membership_difference"), 8
    ) | {"metrics": metrics}
    evaluation["threat_model"] |= {
        "access": "black_box",
        "observes": ["CANDIDATES", "ORIGINAL", "UNLEARNED"],
    }
    return evaluation


def make_utility_evaluation(
    *,
    test: float = 0.97,
    forget: float = 0.5,
    seed: int = 0,
    unlearning: str = "gradient_ascent",
    released: JSONObject | None = None,
) -> JSONObject:
    """The evaluation of released models without an attack."""
    before = {
        "original_retain_accuracy": 1.0,
        "original_forget_accuracy": 1.0,
        "original_test_accuracy": 0.98,
    }
    after = {
        "retain_accuracy": 1.0,
        "forget_accuracy": forget,
        "test_accuracy": test,
        "test_samples": 750,
    }
    return _make_evaluation(seed, unlearning, released, None, 8) | {"utility": {**before, **after}}


def make_forgetting(
    way: float | None,
    *,
    seed: int = 0,
    unlearning: str = "gradient_ascent",
    released: JSONObject | None = None,
    retrained: float = 1.1,
    half: float = 0.1,
    tests: JSONObject | None = None,
) -> JSONObject:
    """The measurement of a release at this way from an original of forget loss 0.5 to retraining;
    None: not measurable. `half` is half the interval."""
    original = 0.5
    release = original + (retrained - original) * (3 if way is None else way)

    def perform(loss: float) -> JSONObject:
        other = {"loss": 0.2, "accuracy": 0.9}
        return {
            "forget": {"loss": loss, "accuracy": exp(-loss)},
            "retain": other,
            "test": other,
        }

    one = {"original": original, "release": release, "retrained": [retrained] * 3}
    return {
        "seed": seed,
        "unlearning": {**make_method(unlearning), "exact": unlearning == "retrain"},
        "defense": released or make_defense("none"),
        "measured": {
            "deletions": 8,
            "retraining_seeds": 3,
            "original": perform(original),
            "release": perform(release),
            "retrained": perform(retrained),
            "way": way,
            "way_low": None if way is None else way - half,
            "way_high": None if way is None else way + half,
            "spread": 0.05 if way is not None else 2 * retrained,
            "reason": "retraining raises the forget loss by less" if way is None else None,
            "by_deletion": [one] * 8,
            "tests": tests or {},
        },
    }


def make_method(name: str, **params: Any) -> JSONObject:
    return {"method": name, "params": params}


def load_evaluations(*evaluations: JSONObject) -> dict[str, LoadedEvaluation]:
    """As the stage reads them, by role."""
    roles = [f"EVALUATION_{i}" for i, _ in enumerate(evaluations, start=1)]
    return {
        role: read_evaluation(json.dumps(one).encode(), role)
        for role, one in zip(roles, evaluations, strict=True)
    }


def make_self_test(**measured: float) -> bytes:
    """A SELF_TEST of two cases, both passed unless measured otherwise."""
    cases = [
        {
            "name": name, "shows": f"{name} is right", "measured": measured.get(name, expected), "low": expected,
            "high": None, "unit": "dB", "passed": measured.get(name, expected) >= expected, "error": None,
        }
        for name, expected in (("psnr", 20.0), ("noise", 3.0))
    ]  # fmt: skip
    return json.dumps({"passed": all(case["passed"] for case in cases), "cases": cases}).encode()


def build_report(
    spec: JSONObject,
    *evaluations: JSONObject,
    tested: bytes | None = make_self_test(),
    rows: list[PlannedRow] | None = None,
    forgetting: list[JSONObject] | None = None,
) -> Report:
    """`rows`: as planned; if not given, each row of the grid has the first evaluation that may be
    its own."""
    tested_cases, loaded = (
        None if tested is None else read_self_test(tested, "SELF_TEST"),
        load_evaluations(*evaluations),
    )
    return build.build_report(
        loaded,
        spec,
        plan_rows(spec, loaded) if rows is None else rows,
        "1.2.3",
        tested_cases,
        forgetting={
            hashlib.sha256(data).hexdigest(): read_forgetting(data, f"FORGETTING_{i}")
            for i, one in enumerate(forgetting or [], start=1)
            for data in [json.dumps(one).encode()]
        },
    )


def plan_rows(spec: JSONObject, loaded: Mapping[str, LoadedEvaluation]) -> list[PlannedRow]:
    """The rows of an audit in which no choice is named twice, as a plan numbers them: what came,
    and what did not."""
    parsed = AuditSpec.model_validate(spec)
    unassigned = dict(loaded)
    rows: list[PlannedRow] = []
    for (u, unlearning), (d, defense), (a, attack), seed in product(
        enumerate(parsed.unlearning),
        enumerate(parsed.defenses),
        _number_attacks(parsed),
        parsed.seeds,
    ):
        lacks_adaptive = any(
            one.defense.method == defense.name and one.defense.lacks_adaptive_attack
            for one in loaded.values()
        )
        is_adaptive_too = lacks_adaptive and any(
            _is_adaptive(other) and attack and other.name == attack.name for other in parsed.attacks
        )
        plain = (
            PluginRef(name=attack.name, params={**attack.params, "adaptive": False})
            if is_adaptive_too and attack
            else attack
        )
        if (
            is_adaptive_too
            and attack
            and a
            and any(other.name == attack.name for other in parsed.attacks[:a])
        ):
            continue  # the attacker who knows the defense is the one before
        fitting = (
            role
            for role, one in unassigned.items()
            if one.evaluation.seed == seed
            and _matches(unlearning, one.unlearning)
            and _matches(defense, one.defense)
            and _matches(plain, one.attack)
        )
        role = next(fitting, f"EVALUATION_{len(loaded) + len(rows) + 1}")
        unassigned.pop(role, None)
        rows.append(
            PlannedRow(
                seed=seed,
                unlearning=u,
                defense=d,
                attack=a,
                adaptive_too=is_adaptive_too,
                evaluation=role,
            )
        )
    return rows


def _number_attacks(spec: AuditSpec) -> list[tuple[int | None, PluginRef | None]]:
    return [(None, None), *enumerate(spec.attacks)]


def _is_adaptive(attack: PluginRef) -> bool:
    return attack.params.get("adaptive") is True


def _matches(asked: PluginRef | None, made: Method | None) -> bool:
    if asked is None or made is None:
        return asked is None and made is None
    return asked.name == made.method and all(
        made.params.get(n, v) == v for n, v in asked.params.items()
    )


def _make_evaluation(
    seed: int, unlearning: str, released: JSONObject | None, attack: JSONObject | None, n: int
) -> JSONObject:
    observes = ["LABELS", "ORIGINAL", "UNLEARNED"]
    threat = (
        {"attack": attack["method"], "observes": observes, "access": "white_box", "queries": 0}
        if attack
        else None
    )
    return {
        "version": 2, "n": n, "deletions": n, "size": 1, "dataset": {"name": "mnist_5k", "params": {}}, "seed": seed,
        "unlearning": {**make_method(unlearning), "exact": unlearning == "retrain", "weight_change": [0.1] * n},
        "defense": released or make_defense("none"), "attack": attack, "threat_model": threat, "metrics": {},
        "identification": None, "answers": None, "utility": None, "provenance": CONDITIONS,
    }  # fmt: skip


def _make_metric(ends: tuple[float, float | None, float | None], n: int, unit: str) -> JSONObject:
    mean, low, high = ends
    return {
        "n": n, "mean": mean, "median": mean, "worst": low, "best": high, "low": low, "high": high, "interval": "bca",
        "unit": unit, "range": "", "higher_is_better": True, "values": [mean] * n, "baselines": {"class_mean": 13.0},
        "baseline": 13.0, "baseline_name": "class_mean", "baseline_values": {"class_mean": [13.0] * n},
    }  # fmt: skip
