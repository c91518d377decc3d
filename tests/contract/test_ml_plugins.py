"""What every plugin keeps, found through the registries: a new file is tested without touching this
one."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path

import jsonschema
import pytest
import torch

from shared.catalog import Catalog, CatalogEntry
from shared.compatibility import incompatibility_reason
from shared.errors import JobFailed
from shared.ml import REGISTRIES, attacks, datasets, defenses, findings, metrics, models, unlearning
from shared.ml.attack_io import (
    CandidateView,
    LabelGuesses,
    MembershipScores,
    ProbeView,
    Reconstruction,
    WhiteBoxView,
)
from shared.ml.context import LocalContext, make_generator
from shared.ml.metrics.lpips import read_weights
from shared.ml.networks import Architecture, Ensemble, Networks, build_network, clone
from shared.ml.oracles import Oracle, OracleParams
from shared.ml.records import DeletionSizes, PublicSets
from shared.ml.samples import Samples, compute_digest, open_dataset
from shared.ml.training.recipe import Recipe
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugin_ref import PluginRef
from shared.plugins import Params, Plugin
from shared.roles import Role
from tests.support.lpips import FILE, write_weights
from tests.support.plugins import give_examples
from tests.support.tiny_chain import DATA, write_data
from workers.stages import registry as stages

PLUGINS = [plugin for registry in (*REGISTRIES, stages) for plugin in registry]


def of(registry: object) -> list[object]:
    return [pytest.param(plugin, id=plugin.name) for plugin in registry]  # type: ignore[attr-defined]


def defaults(plugin: Plugin) -> bool:
    """Whether the plugin can be made without being told anything."""
    return not plugin.params.model_json_schema().get("required")


@pytest.mark.parametrize("plugin", [pytest.param(p, id=f"{p.kind}:{p.name}") for p in PLUGINS])
def test_every_plugin_describes_itself(plugin: Plugin) -> None:
    entry = CatalogEntry.from_plugin(plugin)
    assert json.loads(entry.model_dump_json())
    roles = {*plugin.needs, *plugin.uses, *plugin.produces, *getattr(plugin, "many", ())}
    for by_value in plugin.needs_when.values():
        for more in by_value.values():
            roles |= set(more)
    # one that is dropped in names its own
    assert roles <= {*Role, *(kind.role for kind in findings.list_kinds())}
    assert set(plugin.needs_when) <= set(plugin.params.model_fields)
    jsonschema.Draft202012Validator.check_schema(entry.params_schema)


@pytest.mark.parametrize("stage", of(stages))
def test_the_catalog_accepts_every_stage_with_every_method_and_its_defaults(stage: Plugin) -> None:
    catalog = Catalog(CatalogEntry.from_plugin(plugin) for plugin in PLUGINS)
    methods = [m for registry in REGISTRIES if registry.kind == stage.methods for m in registry]
    for method in methods or [None]:
        parts = [stage] if method is None else [stage, method]
        if not all(defaults(part) for part in parts):
            continue
        made = [part.params().model_dump(mode="json") for part in parts]
        roles = {
            role
            for part, params in zip(parts, made, strict=True)
            for role in CatalogEntry.from_plugin(part).list_needs(params)
        }
        checked = catalog.check(stage.name, method.name if method else None, {}, roles)
        for params in made:
            for name, value in params.items():
                inner = isinstance(value, dict) and set(value) == {"name", "params"}
                assert checked.params[name] == value or inner
        assert set(checked.produces) == {role for part in parts for role in part.produces}


@pytest.mark.parametrize("plugin", [pytest.param(p, id=f"{p.kind}:{p.name}") for p in PLUGINS])
def test_every_parameter_has_one_sentence_and_bounds(plugin: Plugin) -> None:
    for name, schema in CatalogEntry.from_plugin(plugin).properties.items():
        assert schema.get("description"), f"{plugin.name}.{name} has no description"
        for option in schema.get("anyOf", [schema]):
            if option.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(option), (
                    f"{plugin.name}.{name} has no lower bound"
                )
                assert {"maximum", "exclusiveMaximum"} & set(option), (
                    f"{plugin.name}.{name} has no upper bound"
                )
            if option.get("type") == "string" and "enum" not in option and "const" not in option:
                assert "maxLength" in option, f"{plugin.name}.{name} has no longest length"


@pytest.mark.parametrize("stage", of(stages))
def test_parameters_of_a_stage_and_its_methods_never_collide(stage: Plugin) -> None:
    for registry in REGISTRIES:
        if registry.kind == stage.methods:
            for method in registry:
                both = set(stage.params.model_fields) & set(method.params.model_fields)
                assert not both, f"{stage.name} and {method.name} share {both}"


@pytest.mark.parametrize("plugin", of(datasets.registry))
def test_a_dataset_has_what_a_network_is_built_from(plugin: Plugin) -> None:
    for name in ("input_shape", "num_classes", "mean", "std", "load"):
        assert hasattr(plugin.target, name)
    if not defaults(plugin):
        return  # it is read from a file that its own tests bring
    dataset = plugin.target(plugin.params())
    # the plan reads fit and costs off these
    assert plugin.input_shape == tuple(dataset.input_shape)
    assert plugin.num_classes == dataset.num_classes
    if "download" in plugin.params.model_fields:
        return  # its files may not be here
    for split in ("train", "test"):
        images, labels = dataset.load(split)
        assert images.shape[1:] == dataset.input_shape
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert len(images) == len(labels)
        assert 0 <= images.min() <= images.max() <= 1
        assert 0 <= labels.min() <= labels.max() < dataset.num_classes
        again = dataset.load(split)
        assert torch.equal(images, again.images)


def architecture(
    model: str = "mlp", shape: tuple[int, int, int] = (1, 12, 12), **params: object
) -> Architecture:
    channels = shape[0]
    return Architecture(
        model={"name": model, "params": params},
        input_shape=shape,
        num_classes=4,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


@pytest.mark.parametrize(
    ("plugin", "shape"),
    [
        pytest.param(plugin, shape, id=f"{plugin.name}-{shape[0]}x{shape[1]}x{shape[2]}")
        for plugin in models.registry
        for shape in ((1, 28, 28), (3, 32, 32))
        if incompatibility_reason(plugin.name, plugin, shape) is None
    ],
)
def test_a_model_maps_images_to_finite_logits_and_has_gradients(
    plugin: Plugin, shape: tuple[int, int, int]
) -> None:
    described = architecture(plugin.name, shape, **give_examples(plugin))
    network = build_network(described, make_generator(0, "weights"))
    images = torch.rand(2, *shape, generator=make_generator(0, "images"))
    logits = network(images)
    assert logits.shape == (2, 4)
    assert bool(torch.isfinite(logits).all())
    alone = network(images[:1])
    # eval mode: no sample sees another
    torch.testing.assert_close(alone, logits[:1], atol=1e-5, rtol=1e-4)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    again = build_network(described, make_generator(0, "weights")).state_dict()
    assert all(torch.equal(t, again[name]) for name, t in network.state_dict().items())


def data(n: int, purpose: str) -> Samples:
    source = make_generator(0, purpose)
    return Samples(
        torch.rand(n, 1, 12, 12, generator=source), torch.randint(0, 4, (n,), generator=source)
    )


def inputs(plugin: Plugin | None = None) -> UnlearningInputs:
    """What a method may need, for a retain set of 6 and a forget set of 2."""
    base = build_network(architecture(), make_generator(0, "weights"))
    members = (torch.arange(6) % 2, torch.tensor([0, 0]))
    sharded = plugin is not None and "SHARDS" in plugin.needs
    original = Ensemble([clone(base), clone(base)]).eval() if sharded else clone(base)
    undo = {name: torch.full_like(w, 0.01) for name, w in base.named_parameters()}
    return UnlearningInputs(original, clone(base), Recipe(lr=0.01), members, undo)


@pytest.mark.parametrize("plugin", of(unlearning.registry))
def test_an_unlearning_method_gives_finite_repeatable_weights_and_reports_progress(
    plugin: Plugin,
) -> None:
    retain, forget, params = data(6, "retain"), data(2, "forget"), plugin.params()
    ctx = LocalContext()
    first = plugin.target(inputs(plugin), retain, forget, params, ctx)
    again = plugin.target(inputs(plugin), retain, forget, params, LocalContext())
    before = inputs(plugin).original.state_dict()
    assert first.state_dict().keys() == before.keys()
    for name, tensor in first.state_dict().items():
        assert bool(torch.isfinite(tensor).all())
        assert torch.equal(tensor, again.state_dict()[name])
    assert any(not torch.equal(tensor, before[name]) for name, tensor in first.state_dict().items())
    assert ctx.progress_reports
    done, total, _ = ctx.progress_reports[-1]
    assert done == total
    assert "ORIGINAL" in plugin.needs


RELEASING = [plugin for plugin in defenses.registry if plugin.acts != "training"]
TRAINING = [plugin for plugin in defenses.registry if plugin not in RELEASING]


@pytest.mark.parametrize("plugin", of(TRAINING))
def test_a_defense_that_acts_while_training_changes_the_recipe_and_promises_numbers(
    plugin: Plugin,
) -> None:
    assert set(inspect.signature(plugin.target).parameters) == {"recipe", "n", "params"}
    params = plugin.params()
    assert plugin.trains
    assert set(plugin.trains) <= set(Recipe.model_fields) & set(plugin.params.model_fields)
    promise = plugin.target(
        Recipe(**{name: getattr(params, name) for name in plugin.trains}), 32, params
    )
    assert promise
    assert all(math.isfinite(value) for value in promise.values())


@pytest.mark.parametrize("plugin", of(unlearning.registry))
def test_an_unlearning_method_says_at_which_step_a_network_is_no_network(plugin: Plugin) -> None:
    """Weights are finite, as whoever reads a model demands, and too large for an answer that is."""
    given = inputs(plugin)
    with torch.no_grad():
        for network in (given.original, given.base):
            for weight in network.parameters():
                weight.mul_(1e30)
    with pytest.raises(JobFailed, match=r"(step|iteration) \d+") as caught:
        plugin.target(given, data(6, "retain"), data(2, "forget"), plugin.params(), LocalContext())
    assert caught.value.kind == "invalid"


@pytest.mark.parametrize("plugin", of(RELEASING))
def test_a_defense_repeats_reports_its_strength_and_changes_more_the_stronger_it_is(
    plugin: Plugin,
) -> None:
    assert set(inspect.signature(plugin.target).parameters) == {
        "network",
        "retain",
        "params",
        "ctx",
    }
    before = inputs().original.state_dict()

    def change(params: Params) -> float:
        made, again = (
            plugin.target(inputs().original, data(6, "retain"), params, LocalContext())
            for _ in range(2)
        )
        after = made.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(t, again.state_dict()[name]) for name, t in after.items())
        assert all(bool(torch.isfinite(t).all()) for t in after.values())
        return sum((after[name] - tensor).square().sum().item() for name, tensor in before.items())

    strength = plugin.strength
    if strength is None:
        change(plugin.params())
        return
    assert getattr(plugin.params(), strength) is None
    grid = plugin.params().grid  # type: ignore[attr-defined]
    changes = [change(plugin.params(**{strength: value})) for value in grid]
    assert len(grid) >= 3
    assert changes[0] > 0
    assert changes == sorted(changes)


@pytest.mark.parametrize("plugin", of(defenses.registry))
def test_a_defense_has_an_adaptive_view_or_says_why_not(
    plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plugin.adaptive_view is None:
        assert "no adaptive attack" in (inspect.getdoc(plugin.target) or "")
        return
    assert set(inspect.signature(plugin.adaptive_view).parameters) == {
        "view",
        "params",
        "public",
        "ctx",
    }
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    write_data(tmp_path)
    split = open_dataset(PluginRef.model_validate(DATA)).load("train")
    public = PublicSets(
        dataset=PluginRef.model_validate(DATA),
        digest=compute_digest(split),
        sets=[[0, 1, 2], [3, 4, 5]],
    )
    of_these = architecture(shape=(1, 9, 9))
    original, unlearned = (
        build_network(of_these, make_generator(0, which)).state_dict()
        for which in ("original", "unlearned")
    )
    before = Networks(of_these, {n: t.unsqueeze(0) for n, t in original.items()}, 1)
    after = Networks(of_these, {n: torch.stack([t, 2 * t]) for n, t in unlearned.items()}, 2)
    grid = plugin.params().grid  # type: ignore[attr-defined]
    params = plugin.params(**{plugin.strength: grid[0]})
    seen = WhiteBoxView(before, after)
    known, again = (plugin.adaptive_view(seen, params, public, LocalContext()) for _ in range(2))
    assert (known.original, known.base, known.deletion_sizes, known.labels) == (
        seen.original,
        None,
        None,
        None,
    )
    assert known.coordinate_weights is not None or known.unlearned is not seen.unlearned
    names = [name for name, _ in seen.original.load_network().named_parameters()]
    for name in names:
        assert torch.equal(known.unlearned.state[name], again.unlearned.state[name])
        assert known.unlearned.state[name].shape == after.state[name].shape
        if known.coordinate_weights is not None:
            assert known.coordinate_weights[name].shape == after.state[name].shape
            assert bool(
                (
                    (known.coordinate_weights[name] >= 0)
                    & torch.isfinite(known.coordinate_weights[name])
                ).all()
            )


@pytest.mark.parametrize("plugin", of(attacks.registry))
def test_an_attack_answers_for_every_deletion(plugin: Plugin) -> None:
    assert set(inspect.signature(plugin.target).parameters) == {"view", "params", "ctx"}

    def stack(networks: list[torch.nn.Module]) -> Networks:
        states = [network.state_dict() for network in networks]
        return Networks(
            architecture(),
            {n: torch.stack([s[n] for s in states]) for n in states[0]},
            len(networks),
        )

    method = unlearning.registry.get("gradient_ascent")
    unlearned = []
    for d in range(2):
        forget = data(2, "forget").pick([d])
        unlearned.append(
            method.target(inputs(), data(6, "retain"), forget, method.params(), LocalContext())
        )
    labels = data(2, "forget").labels.view(2, 1)
    seen: WhiteBoxView | ProbeView | CandidateView = WhiteBoxView(
        stack([inputs().original]),
        stack(unlearned),
        stack([inputs().original]),
        DeletionSizes(N=8, k=1),
        labels,
        candidates=data(7, "candidates") if "CANDIDATES" in plugin.needs else None,
    )
    if plugin.access == "black_box":
        before, *after = (
            Oracle(n, torch.device("cpu"), OracleParams()) for n in (inputs().original, *unlearned)
        )
        probes = torch.rand(4, 3, 1, 12, 12, generator=make_generator(0, "probes"))
        seen = ProbeView([before] * len(after), after, probes, DeletionSizes(N=8, k=1))
        if "CANDIDATES" in plugin.needs:
            seen = CandidateView(data(7, "candidates"), after, [before] * 2, data(9, "population"))
    short = {"iterations": 2} if "iterations" in plugin.params.model_fields else {}
    ctx = LocalContext()
    result = plugin.target(seen, plugin.params(**short), ctx)
    assert ctx.progress_reports
    if plugin.produces == ("RECONSTRUCTION",):
        assert isinstance(result, Reconstruction)
        assert result.images.shape == (2, 1, 1, 12, 12)
        assert result.matching_loss.shape == (2,)
    elif plugin.produces == ("SCORES",):
        assert isinstance(result, MembershipScores)
        assert result.scores.shape == (2, 7)
        assert result.scores.dtype == torch.float64
        assert bool(torch.isfinite(result.scores).all())
    else:
        assert plugin.produces == ("ANSWERS",)
        assert isinstance(result, LabelGuesses)
        assert result.labels.shape == (2, 1)


def what_metrics_need(role: str, shape: tuple[int, int, int], folder: Path) -> torch.nn.Module:
    """What `evaluate` would hand to a metric under this role, of random weights."""
    if role == "FEATURE_NETWORK":
        return build_network(architecture("convnet", shape), make_generator(0, "judge"))
    assert role == "LPIPS_WEIGHTS"
    write_weights(folder)
    return read_weights(FILE)[0]


def shapes_for(plugin: Plugin) -> list[tuple[int, int, int]]:
    """The smallest images that a metric is defined for, as far as any model is, and wider ones."""
    side = max(plugin.min_size, 9)
    return [(c, side, side + wider) for c in plugin.channels or (1, 3) for wider in (0, 3)]


@pytest.mark.parametrize("plugin", of(metrics.registry))
def test_a_metric_says_its_unit_range_and_direction_and_keeps_them(
    plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    assert not plugin.needs or plugin.takes in ("image", "embedding")
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for shape in shapes_for(plugin):
        better, worse = (
            torch.rand(3, *shape, generator=make_generator(0, purpose))
            for purpose in ("truth", "other")
        )
        needed = [what_metrics_need(role, shape, tmp_path) for role in plugin.needs]
        if plugin.takes == "image":
            pairs.append(
                (plugin.target(better, better, *needed), plugin.target(worse, better, *needed))
            )
        elif plugin.takes == "embedding":
            true, same, other = (plugin.target(x, *needed) for x in (better, better.clone(), worse))
            assert true.dim() == 2
            pairs.append(((true - same).square().sum(1), (true - other).square().sum(1)))
        elif plugin.takes == "decoys":
            decoys = torch.rand(3, 2, *shape, generator=make_generator(0, "decoys"))
            pairs.append(
                (plugin.target(better, better, decoys), plugin.target(decoys[:, 0], better, decoys))
            )
    if plugin.takes == "label":
        truth = torch.tensor([[0], [1], [2]])
        pairs.append((plugin.target(truth, truth), plugin.target(truth + 1, truth)))
    if plugin.takes == "membership":
        others = torch.rand(3, 40, generator=make_generator(0, "others"))
        pairs.append(
            (
                plugin.target(torch.full((3,), 2.0), others),
                plugin.target(torch.full((3,), -1.0), others),
            )
        )
    # a number for a network and data: see its own test
    assert pairs or plugin.takes == "classifier"
    low, high = plugin.range
    for good, bad in pairs:
        assert good.shape == bad.shape == (3,)
        for scores in (good, bad):
            assert bool((scores >= low - 1e-6).all())
            assert high is None or bool((scores <= high + 1e-6).all())
        assert bool((good > bad).all()) == plugin.higher_is_better
