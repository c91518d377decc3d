"""Repeats what was done and asked on deletions that nobody tests: what a label attack says where it must be wrong.

The auditor's, who holds the truth. For each of B shadow deletions the attack scores every class; what it scores the
classes that were *not* forgotten is the null of a claim that a class was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.catalog import Entry
from shared.choices import Choice, chosen, validated
from shared.errors import InvalidRequest
from shared.ml import attacks, defenses, unlearning
from shared.ml.context import Context, Part
from shared.ml.defense_knowledge import apply_defense_knowledge
from shared.ml.networks import Networks, clone, read_networks, stacked
from shared.ml.observations import Observation, Queries
from shared.ml.oracles import Oracle
from shared.ml.records import Counts, Defense, ForgetSets, Shadows, TrainingSet, Unlearning, read_json
from shared.ml.samples import Samples
from shared.ml.tensors import read_tensors
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning.api import UnlearningInputs
from shared.plugins import AttackPlugin, DefensePlugin, Params, Plugin, UnlearningPlugin
from shared.registry import Registry
from shared.roles import Role
from shared.shadows import LEAST, unrepeatable
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, Output
from workers.stages import registry
from workers.stages._shadow_sets import ShadowSet, shadow_sets


class ShadowParams(Params):
    shadows: int = Field(
        LEAST, ge=LEAST, le=10_000, description="B, deletions made again; no p-value below 1 / (B + 1)"
    )


@registry.register(
    "shadow",
    params=ShadowParams,
    needs=(
        Role.ORIGINAL, Role.BASE, Role.RECIPE, Role.TRAINING_SET, Role.FORGET_SETS,
        Role.COUNTS, Role.UNLEARNING, Role.DEFENSE, Role.ANSWERS,
    ),
    uses=(Role.PROBES, Role.PUBLIC),
    produces=(Role.SHADOWS,),
    source="shadow models after Shokri et al. 2017, arXiv 1610.05820; the null after Westfall and Young 1993",
    runs=("unlearning", "defense", "attack"),
    wiring=Wiring(scopes=(Scope.ATTACK,), group=WorkerGroup.ATTACK, params="shadow", flag="p_values"),
)  # fmt: skip
def run(ctx: JobContext) -> dict[str, Output]:
    """Unlearn, defend and attack B more deletions in the very same way: the null of p-values for label attacks.

    Samples of the training set that no tested deletion forgets come first, then training sets of the same classes,
    drawn from the pool and trained by the same recipe, with as many deletions each as are tested.

    Raises:
        InvalidRequest: what was done or asked cannot be repeated here, or the pool has too few samples.
    """
    truth = ForgetSets.read(ctx.input(Role.FORGET_SETS), Role.FORGET_SETS)
    training = TrainingSet.read(ctx.input(Role.TRAINING_SET), Role.TRAINING_SET)
    split = training.train_split(Role.TRAINING_SET)
    world = _World.of(ctx)
    sets = shadow_sets(
        ctx.params.shadows, training.indices, truth.indices, split.labels, world.counts.classes == 1,
        ctx.generator("shadow sets"),
    )  # fmt: skip
    scores, labels = [], []
    begun = 0
    if (found := ctx.resume()) is not None:
        begun, state = found
        scores, labels = [state["scores"]], [state["labels"]]
    for which, drawn in enumerate(sets[begun:], start=begun):
        part = Part(ctx, which, len(sets))
        samples = split.pick(drawn.training)
        scores.append(world.scores(samples, drawn, part))
        labels.append(samples.labels[drawn.forget])
        part.progress(1, 1)
        if ctx.due():
            ctx.save(which + 1, {"scores": torch.cat(scores), "labels": torch.cat(labels)})
    shadows = Shadows(
        scores=torch.cat(scores)[: ctx.params.shadows].tolist(),
        labels=torch.cat(labels)[: ctx.params.shadows].tolist(),
        trainings=sum(not drawn.own for drawn in sets),
        unlearning=world.unlearning.name,
        defense=world.defense.name,
        attack=world.attack.name,
    )
    return {Role.SHADOWS: Output.of_json(shadows.json_value())}


P = TypeVar("P", bound=Plugin)


class _Did(NamedTuple, Generic[P]):
    """A plugin and its parameters, as a record tells them."""

    plugin: P
    params: Any

    @property
    def name(self) -> str:
        return self.plugin.name

    @property
    def needs(self) -> list[str]:
        return Entry.of(self.plugin).needed(self.params.model_dump())


@dataclass(frozen=True)
class _World:
    """What is repeated, and on what."""

    original: Networks
    base: Networks
    recipe: Recipe
    counts: Counts
    unlearning: _Did[UnlearningPlugin]
    defense: _Did[DefensePlugin]
    attack: _Did[AttackPlugin]
    probes: Tensor | None
    ctx: JobContext

    @classmethod
    def of(cls, ctx: JobContext) -> _World:
        original = read_networks(ctx.input(Role.ORIGINAL), Role.ORIGINAL)
        if original.count > 1 or original.architecture.members > 1:
            raise InvalidRequest(
                "shadows are made of single models and of deletions that all start from one: no p-values for SISA or "
                "for successive deletions",
                f"inputs.{Role.ORIGINAL}",
            )
        done = Unlearning.read(ctx.input(Role.UNLEARNING), Role.UNLEARNING)
        released = Defense.read(ctx.input(Role.DEFENSE), Role.DEFENSE)
        told = read_json(ctx.input(Role.ANSWERS), Role.ANSWERS)
        asked = told.get("threat_model") if isinstance(told, dict) else None
        if not isinstance(asked, dict) or not isinstance(asked.get("attack"), str):
            raise InvalidRequest("ANSWERS does not say which attack gave them", f"inputs.{Role.ANSWERS}")
        attack = _did(attacks.registry, asked["attack"], asked.get("params") or {}, Role.ANSWERS)
        if Role.ANSWERS not in attack.plugin.produces:
            raise InvalidRequest(
                f"{attack.name} scores no classes: p-values are for label attacks", f"inputs.{Role.ANSWERS}"
            )
        probes = (
            read_tensors(ctx.input(Role.PROBES), Role.PROBES)[0].get("images") if Role.PROBES in ctx.inputs else None
        )
        if attack.plugin.access == "black_box" and probes is None:
            raise InvalidRequest("the attack asks about PROBES: name the job that made them", f"inputs.{Role.PROBES}")
        return cls(
            original=original,
            base=read_networks(ctx.input(Role.BASE), Role.BASE, like=original.architecture),
            recipe=validated(
                Recipe, read_json(ctx.input(Role.RECIPE), Role.RECIPE), Role.RECIPE, f"inputs.{Role.RECIPE}"
            ),
            counts=Counts.read(ctx.input(Role.COUNTS), Role.COUNTS),
            unlearning=_did(unlearning.registry, done.method, done.params, Role.UNLEARNING),
            defense=_did(defenses.registry, released.method, released.params, Role.DEFENSE),
            attack=attack,
            probes=probes,
            ctx=ctx,
        )

    def scores(self, samples: Samples, drawn: ShadowSet, ctx: Context) -> Tensor:
        """What the attack says of each deletion of one training set, float64 [n, K]."""
        start = self.original.network() if drawn.own else self.base.network()
        if not drawn.own:
            train(start, samples, self.recipe, Part(ctx, 0, 3))
        models = list(self._released(start, samples, drawn.forget, Part(ctx, 1, 3)))
        architecture = self.original.architecture
        before, after = stacked(architecture, [start]), stacked(architecture, models)
        result = self.attack.plugin.target(self._seen(before, after), self.attack.params, Part(ctx, 2, 3))
        scores: Tensor = result.scores.double()
        return scores

    def _released(self, start: nn.Module, samples: Samples, forget: Tensor, ctx: Context) -> Iterator[nn.Module]:
        for which, gone in enumerate(forget):
            part = Part(ctx, which, len(forget))
            kept = torch.ones(len(samples.labels), dtype=torch.bool)
            kept[gone] = False
            retain = samples.pick(kept.nonzero().flatten())
            base = self.base.network() if Role.BASE in self.unlearning.plugin.needs else None
            inputs = UnlearningInputs(clone(start), base, self.recipe)
            network = self.unlearning.plugin.target(inputs, retain, samples.pick(gone), self.unlearning.params, part)
            if self.defense.plugin.acts != "training":  # else the recipe has it
                network = self.defense.plugin.target(network.cpu(), retain, self.defense.params, part)
            yield network.cpu()

    def _seen(self, before: Networks, after: Networks) -> Observation | Queries:
        if self.probes is None or self.attack.plugin.access != "black_box":
            seen = Observation(before, after, self.base, self.counts)
            return apply_defense_knowledge(self.ctx, seen) if Role.DEFENSE in self.attack.needs else seen

        def oracle(network: nn.Module) -> Oracle:
            return Oracle(network, self.ctx.device, self.attack.params)

        asked = [oracle(after.network(which)) for which in range(after.count)]
        return Queries([oracle(before.network())] * after.count, asked, self.probes.float(), self.counts)


def _did(registry_: Registry[P], name: str, params: dict[str, Any], role: str) -> _Did[P]:
    did = _Did(*chosen(registry_, Choice(name=name, params=params)))
    if (lacking := unrepeatable(did.needs)) is not None:
        raise InvalidRequest(
            f"{role}: {name} needs {lacking}, which shadow deletions are not made with: no p-values for it",
            f"inputs.{role}",
        )
    return did
