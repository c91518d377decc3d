"""The audits that answer the paper's questions: what is asked of which data, at which scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
METHODS = {"exact": "retrain", "approximate": "gradient_ascent"}  # what stands for each kind of unlearning


@dataclass(frozen=True)
class Scale:
    """How large everything is. What differs between scales is cost, hardly what is asked."""

    name: str
    width: int = 16
    residual: str = "resnet20"
    pretrain: Spec = field(default_factory=dict)  # of the base that most questions are asked of
    epochs: tuple[int, ...] = (1, 3, 10)  # of bases from early to converged
    base: int = 3  # epochs of the base that most questions are asked of; one of `epochs`
    search: Spec = field(default_factory=dict)
    deletions: int = 8  # a seed
    seeds: tuple[int, ...] = (0, 1)
    single: tuple[int, ...] = tuple(range(8))  # seeds where the training set is the one sample that is forgotten
    classes: int = 20  # samples of a class, where classes are forgotten
    table_seeds: tuple[int, ...] = tuple(range(8))
    probe: Spec = field(default_factory=dict)
    images: Spec = field(default_factory=lambda: {"name": "cifar10"})
    tables: tuple[str, ...] = ("breast_cancer", "german_credit")
    sizes: tuple[int, ...] = (1, 8, 32, 128)  # N, from one sample to a full batch of the recipe
    shares: tuple[float, ...] = (0.1, 0.5, 1.0)  # p_u of a class; the fourth is one sample
    defenses: tuple[str, ...] = ("obfuscation", "pruning", "fine_tune", "dp_sgd")  # the last is not the paper's


REDUCED = Scale(
    "reduced",
    pretrain={"batch_size": 64},
    search={"iterations": 800},
    probe={"max_queries": 20_000},
)
FULL = Scale(
    "full",
    width=64,
    residual="resnet18",
    pretrain={"batch_size": 128},
    epochs=(2, 20, 120),
    base=20,
    search={"preset": "paper"},
    deletions=16,
    seeds=(0, 1, 2),
    single=tuple(range(48)),
    classes=20,
    table_seeds=tuple(range(24)),
    probe={"preset": "paper", "max_queries": 100_000_000},
)


def audits(scale: Scale) -> dict[str, Spec]:
    """All audits by name, in the order in which they are best run: what many share comes first."""
    return {spec["name"]: spec for spec in (*_features(scale), *_labels(scale), *_defenses(scale))}


def _convnet(scale: Scale) -> Spec:
    return {"name": "convnet", "params": {"width": scale.width}}


def _of_images(scale: Scale, name: str, **more: Any) -> Spec:
    return {
        "name": name,
        "dataset": scale.images,
        "model": _convnet(scale),
        "pretrain": {**scale.pretrain, "epochs": scale.base},
        "forget": {"deletions": scale.deletions},
        "seeds": list(scale.seeds),
        **more,
    }


def _recovery(scale: Scale, gradient_from: str) -> Spec:
    return {"name": "feature_recovery", "params": {**scale.search, "gradient_from": gradient_from}}


def _both(scale: Scale, name: str, **more: Any) -> Iterator[Spec]:
    """Exact unlearning, attacked with and without the base model, and approximate unlearning."""
    exact = [_recovery(scale, "base"), _recovery(scale, "pair")]
    yield _of_images(scale, f"exact, {name}", unlearning=[METHODS["exact"]], attacks=exact, **more)
    yield _of_images(
        scale, f"approximate, {name}", unlearning=[METHODS["approximate"]], attacks=[_recovery(scale, "pair")], **more
    )


def _features(scale: Scale) -> Iterator[Spec]:
    # what has a pretraining of its own comes later: training sets of the base that most share would wait behind it
    for n in scale.sizes:
        more: Spec = {"train": {"size": n}}
        if n < scale.deletions:  # deletions of one training set are disjoint: as many seeds make up for it
            more |= {"forget": {"deletions": n}, "seeds": list(scale.single)}
        yield from _both(scale, f"N = {n}", **more)
    for epochs in scale.epochs:
        if epochs != scale.base:
            later = {"priority": -1, "pretrain": {**scale.pretrain, "epochs": epochs}}
            yield from _both(scale, f"{epochs} epochs", **later)
    yield from _both(scale, scale.residual, model=scale.residual, priority=-1)


def _labels(scale: Scale) -> Iterator[Spec]:
    attacks = ["label_inference", {"name": "label_inference", "params": {"gradient_from": "base"}}]
    asked: Spec = {
        "unlearning": [*METHODS.values()],
        "attacks": [*attacks, "label_inference_black_box"],
        "probe": scale.probe,
    }
    data = [
        ("images", 10, {}),
        *(
            (t, 2, {"dataset": t, "model": "mlp", "pretrain": {}, "seeds": list(scale.table_seeds)})
            for t in scale.tables
        ),
    ]
    for name, classes, more in data:
        n = classes * scale.classes
        # one batch, so that the estimate from the base model is a gradient here too
        common = {**asked, "train": {"size": n, "balanced": True, "batch_size": n}, **more}
        yield _of_images(scale, f"labels of {name}, one sample", **common, forget={"deletions": classes})
        for share in scale.shares:
            forget = {"forget": "class", "fraction": share, "deletions": classes}
            yield _of_images(scale, f"labels of {name}, {share:g} of a class", **common, forget=forget)


def _defenses(scale: Scale) -> Iterator[Spec]:
    known = _recovery(scale, "pair")
    attacks = [known, {**known, "params": {**known["params"], "adaptive": True}}, "label_inference"]
    yield _of_images(
        scale,
        "defenses",
        unlearning=[METHODS["approximate"]],
        defenses=["none", *scale.defenses],
        sweep=True,
        attacks=attacks,
        seeds=list(scale.seeds[:1]),
    )
