"""The audits that answer the paper's questions: their data, methods and scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
# the method that represents each kind of unlearning
METHODS = {"exact": "retrain", "approximate": "gradient_ascent"}
EXACT: Spec = {"name": METHODS["exact"]}
APPROXIMATE: Spec = {"name": METHODS["approximate"], "params": {"steps": 1}}  # as published


@dataclass(frozen=True)
class Scale:
    """The size of all audits. Scales differ in cost, and hardly in their questions."""

    name: str
    width: int = 16
    residual_model: str = "resnet20"
    # of the base model of most questions
    pretrain_params: Spec = field(default_factory=dict)
    epochs: tuple[int, ...] = (1, 3, 10)  # of base models from early to converged
    base_epochs: int = 3  # of the base model of most questions; one of `epochs`
    search_params: Spec = field(default_factory=dict)
    deletions: int = 8  # per seed
    seeds: tuple[int, ...] = (0, 1)
    # for training sets of one sample, which is forgotten
    single_sample_seeds: tuple[int, ...] = tuple(range(8))
    samples_per_class: int = 20  # where classes are forgotten
    table_seeds: tuple[int, ...] = tuple(range(8))
    probe_params: Spec = field(default_factory=dict)
    image_dataset: Spec = field(default_factory=lambda: {"name": "cifar10"})
    table_datasets: tuple[str, ...] = ("breast_cancer", "german_credit")
    # N, from one sample to a full batch of the recipe
    training_sizes: tuple[int, ...] = (1, 8, 32, 128)
    class_shares: tuple[float, ...] = (0.1, 0.5, 1.0)  # p_u; a fourth case is one sample
    # the last is not in the paper
    defenses: tuple[str, ...] = ("obfuscation", "pruning", "fine_tune", "dp_sgd")


REDUCED = Scale(
    "reduced",
    pretrain_params={"batch_size": 64},
    search_params={"iterations": 800},
    probe_params={"max_queries": 20_000},
)
FULL = Scale(
    "full",
    width=64,
    residual_model="resnet18",
    pretrain_params={"batch_size": 128},
    epochs=(2, 20, 120),
    base_epochs=20,
    search_params={"preset": "paper"},
    deletions=16,
    seeds=(0, 1, 2),
    single_sample_seeds=tuple(range(48)),
    samples_per_class=20,
    table_seeds=tuple(range(24)),
    probe_params={"preset": "paper", "max_queries": 100_000_000},
)


def build_audits(scale: Scale) -> dict[str, Spec]:
    """All audits by name, in the order to run them: those that share most jobs come first."""
    return {
        spec["name"]: spec
        for spec in (
            *_make_feature_audits(scale),
            *_make_label_audits(scale),
            *_make_defense_audits(scale),
        )
    }


def _make_convnet(scale: Scale) -> Spec:
    return {"name": "convnet", "params": {"width": scale.width}}


def _make_image_audit(scale: Scale, name: str, **overrides: Any) -> Spec:
    return {
        "name": name,
        "dataset": scale.image_dataset,
        "model": _make_convnet(scale),
        "pretrain": {**scale.pretrain_params, "epochs": scale.base_epochs},
        "forget": {"deletions": scale.deletions},
        "seeds": list(scale.seeds),
        **overrides,
    }


def _make_recovery(scale: Scale, gradient_from: str) -> Spec:
    return {
        "name": "feature_recovery",
        "params": {**scale.search_params, "gradient_from": gradient_from},
    }


def _make_exact_and_approximate(scale: Scale, name: str, **overrides: Any) -> Iterator[Spec]:
    """Exact unlearning, attacked with and without the base model, and approximate unlearning."""
    exact = [_make_recovery(scale, "base"), _make_recovery(scale, "pair")]
    yield _make_image_audit(scale, f"exact, {name}", unlearning=[EXACT], attacks=exact, **overrides)
    yield _make_image_audit(
        scale,
        f"approximate, {name}",
        unlearning=[APPROXIMATE],
        attacks=[_make_recovery(scale, "pair")],
        **overrides,
    )


def _make_feature_audits(scale: Scale) -> Iterator[Spec]:
    # audits with their own pretraining come later: otherwise jobs on the shared base model would
    # wait for it
    for n in scale.training_sizes:
        overrides: Spec = {"train": {"size": n}}
        # a training set of n samples has only n disjoint deletions, so more seeds are used
        if n < scale.deletions:
            overrides |= {"forget": {"deletions": n}, "seeds": list(scale.single_sample_seeds)}
        yield from _make_exact_and_approximate(scale, f"N = {n}", **overrides)
    for epochs in scale.epochs:
        if epochs != scale.base_epochs:
            later = {"priority": -1, "pretrain": {**scale.pretrain_params, "epochs": epochs}}
            yield from _make_exact_and_approximate(scale, f"{epochs} epochs", **later)
    yield from _make_exact_and_approximate(
        scale, scale.residual_model, model=scale.residual_model, priority=-1
    )


def _make_label_audits(scale: Scale) -> Iterator[Spec]:
    attacks = ["label_inference", {"name": "label_inference", "params": {"gradient_from": "base"}}]
    shared_fields: Spec = {
        "unlearning": [EXACT, APPROXIMATE],
        "attacks": [*attacks, "label_inference_black_box"],
        "probe": scale.probe_params,
    }
    data = [
        ("images", 10, {}),
        *(
            (t, 2, {"dataset": t, "model": "mlp", "pretrain": {}, "seeds": list(scale.table_seeds)})
            for t in scale.table_datasets
        ),
    ]
    for name, classes, overrides in data:
        n = classes * scale.samples_per_class
        # one batch, so that the estimate from the base model is a gradient here, too
        common = {
            **shared_fields,
            "train": {"size": n, "balanced": True, "batch_size": n},
            **overrides,
        }
        yield _make_image_audit(
            scale, f"labels of {name}, one sample", **common, forget={"deletions": classes}
        )
        for share in scale.class_shares:
            forget = {"forget": "class", "fraction": share, "deletions": classes}
            yield _make_image_audit(
                scale, f"labels of {name}, {share:g} of a class", **common, forget=forget
            )


def _make_defense_audits(scale: Scale) -> Iterator[Spec]:
    plain_attack = _make_recovery(scale, "pair")
    attacks = [
        plain_attack,
        {**plain_attack, "params": {**plain_attack["params"], "adaptive": True}},
        "label_inference",
    ]
    yield _make_image_audit(
        scale,
        "defenses",
        unlearning=[APPROXIMATE],
        defenses=["none", *scale.defenses],
        sweep=True,
        attacks=attacks,
        seeds=list(scale.seeds[:1]),
    )
