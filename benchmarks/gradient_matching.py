"""One gradient-matching step, three ways: `OMP_NUM_THREADS=1 python -m benchmarks.gradient_matching
[--rounds N]`.

`batched` is the product's step. `composed` is the same mathematics by torch.func's vmap, grad and
jvp; `plain` derives the objective itself, one trial at a time, as the preset `paper` does. Variants
take turns in one process, as the speed of a shared machine drifts; the least of the processor times
of the rounds is the figure.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.functional import cross_entropy

from shared.ml.attacks import _plain
from shared.ml.attacks._embedding import EmbeddingTarget
from shared.ml.attacks._matching import Matcher, build_matcher, total_variation
from shared.ml.attacks._shared_subspace import SharedSubspace
from shared.ml.context import make_generator
from shared.ml.networks import Architecture, build_network
from shared.plugin_ref import PluginRef

TensorDict = dict[str, Tensor]
# model, its parameters, image shape, trials, k
CASES: tuple[tuple[str, dict[str, Any], tuple[int, int, int], int, int], ...] = (
    ("convnet", {}, (1, 28, 28), 8, 1),
    ("convnet", {}, (1, 28, 28), 1, 1),
    ("convnet", {}, (1, 28, 28), 32, 1),
    ("convnet", {}, (1, 28, 28), 2, 4),
    ("convnet", {"pooling": "late"}, (3, 32, 32), 8, 1),
    ("mlp", {}, (1, 28, 28), 8, 1),
)


def build_composed_matcher(network: nn.Module, weights: TensorDict) -> Matcher:
    def loss(w: TensorDict, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(network, w, (x,)), y)

    def dot(a: TensorDict, b: TensorDict) -> Tensor:
        return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()

    def one(x: Tensor, y: Tensor, direction: TensorDict, tv: Tensor) -> tuple[Tensor, Tensor]:
        g = grad(loss)(weights, x, y)
        norm = dot(g, g).sqrt()
        cosine = dot(g, direction) / norm
        v = {name: (direction[name] - cosine * g[name] / norm) / norm for name in g}
        move = grad(lambda x: jvp(lambda w: loss(w, x, y), (weights,), (v,))[1])(x)
        return tv * grad(total_variation)(x) - move, 1 - cosine

    vectorised = vmap(one, in_dims=(0, 0, 0, None))

    def match(
        images: Tensor,
        labels: Tensor,
        direction: TensorDict,
        tv: float,
        coordinate_weights: TensorDict | None,
        subspace: SharedSubspace | None,
        embedding: EmbeddingTarget | None,
        smoothing: float,
    ) -> tuple[Tensor, ...]:
        assert not smoothing
        assert coordinate_weights is None
        assert subspace is None
        assert embedding is None
        gradients, losses = vectorised(images, labels, direction, torch.tensor(tv))
        return gradients, losses

    return match


VARIANTS = {
    "batched": build_matcher,
    "composed": build_composed_matcher,
    "plain": _plain.build_matcher,
}


def measure(
    model: str,
    params: dict[str, Any],
    shape: tuple[int, int, int],
    trials: int,
    k: int,
    rounds: int,
) -> dict[str, float]:
    """Milliseconds of CPU time per step."""
    mean = (0.5,) * shape[0]
    architecture = Architecture(
        model=PluginRef(name=model, params=params),
        input_shape=shape,
        num_classes=10,
        mean=mean,
        std=mean,
    )
    network, source = (
        build_network(architecture, make_generator(0, "weights")),
        make_generator(0, "problem"),
    )
    weights = {name: w.detach() for name, w in network.named_parameters()}
    target = {name: torch.randn(trials, *w.shape, generator=source) for name, w in weights.items()}
    norm = torch.cat([t.flatten(1) for t in target.values()], 1).norm(dim=1)
    target = {name: t / norm.view(-1, *[1] * (t.dim() - 1)) for name, t in target.items()}
    images = torch.rand(trials, k, *shape, generator=source)
    labels = torch.randint(0, 10, (trials, k), generator=source)
    steps = {name: variant(network, weights) for name, variant in VARIANTS.items()}
    # and warm
    gradients = {
        name: step(images, labels, target, 0.0, None, None, None, 0.0)[0]
        for name, step in steps.items()
    }
    for name, gradient in gradients.items():
        relative_error = (gradient - gradients["composed"]).abs().max() / gradients[
            "composed"
        ].abs().max()
        assert relative_error < 1e-3, f"{name} is off by {relative_error}"
    best_ms = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.thread_time()
            step(images, labels, target, 0.1, None, None, None, 0.0)
            best_ms[name] = min(best_ms[name], 1000 * (time.thread_time() - start))
    return best_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(
        f"{'model':36} {'trials':>5} {'k':>2} "
        + " ".join(f"{name:>16}" for name in VARIANTS)
        + "   ms a step"
    )
    for model, params, shape, trials, k in CASES:
        best = measure(model, params, shape, trials, k, rounds)
        title = f"{model} {params or ''} {'x'.join(map(str, shape))}"
        print(
            f"{title:36} {trials:5} {k:2} " + " ".join(f"{ms:16.1f}" for ms in best.values()),
            flush=True,
        )


if __name__ == "__main__":
    main()
