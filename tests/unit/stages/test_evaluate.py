"""What an evaluation carries besides scores: who did what, the answers, and the pictures the report
shows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml import findings
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks._estimate import estimate_gradient
from shared.ml.baselines import select_nearest_public
from shared.ml.context import JobInputs
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets
from shared.ml.samples import Samples, open_dataset
from shared.ml.scored_kind import GroundTruth, Pictures, ScoredKind, ScoredResult
from shared.ml.scoring import MetricScale, summarise_metric
from shared.ml.tensors import read_tensors, write_tensors
from shared.plugin_ref import PluginRef
from tests.support.lpips import FILE, write_weights
from tests.support.tiny_chain import DATA, MODEL, parse_output, run_chain
from workers.context import JobContext, StageOutput
from workers.local import run_stage
from workers.stages import evaluate
from workers.stages._pictures import read_pictures


def test_it_says_what_was_done_and_by_whom() -> None:
    made = run_chain(lr=0.01)
    made |= run_stage("defend", made, "pruning", share=0.2)
    made["UNLEARNED"] = made["RELEASED"]
    made |= run_stage("attack", made, "feature_recovery", iterations=3)
    found = parse_output(run_stage("evaluate", made, decoys=5)["EVALUATION"])
    assert found["unlearning"]["method"] == "gradient_ascent"
    assert found["unlearning"]["params"] == {"lr": 0.01, "steps": 1}
    assert found["unlearning"]["exact"] is False
    assert len(found["unlearning"]["weight_change"]) == 3
    assert found["defense"]["method"] == "pruning"
    assert found["defense"]["params"]["share"] == 0.2
    assert found["attack"]["method"] == "feature_recovery"
    assert found["attack"]["params"]["iterations"] == 3
    assert found["answers"] is None
    given = {role: found["inputs"][role] for role in ("ORIGINAL", "UNLEARNED", "FORGET_SETS")}
    assert given == {role: hashlib.sha256(made[role].data).hexdigest() for role in given}


def test_what_nobody_said_is_not_made_up() -> None:
    made = run_chain()
    made |= run_stage("attack", made, "label_inference")
    only = {role: made[role] for role in ("ANSWERS", "FORGET_SETS")}
    outputs = run_stage("evaluate", only)
    found = parse_output(outputs["EVALUATION"])
    assert (found["unlearning"], found["defense"], found["utility"]) == (None, None, None)
    assert found["answers"]["labels"] == parse_output(made["ANSWERS"])["labels"]
    assert found["answers"]["truth"] == parse_output(made["LABELS"])["labels"]
    assert read_tensors(outputs["PICTURES"].data, "PICTURES") == ({}, {})


def test_pictures_show_truth_reconstruction_and_baseline_with_their_scores() -> None:
    made = run_chain(deletions=2, size=2)
    made |= run_stage("attack", made, "feature_recovery", iterations=20)
    outputs = run_stage("evaluate", made, decoys=5)
    images, about = read_tensors(outputs["PICTURES"].data, "PICTURES")
    found = parse_output(outputs["EVALUATION"])
    assert {name: tuple(t.shape) for name, t in images.items()} == dict.fromkeys(
        ("RECONSTRUCTION.truth", "RECONSTRUCTION.reconstruction", "RECONSTRUCTION.class_mean"),
        (4, 1, 9, 9),
    )
    captions = about["kinds"]["RECONSTRUCTION"]
    for shown, told in (("reconstruction", "psnr"), ("class_mean", "baseline_psnr")):
        of_one, true = images[f"RECONSTRUCTION.{shown}"], images["RECONSTRUCTION.truth"]
        error = (of_one - true).square().flatten(1).mean(1)
        torch.testing.assert_close(
            -10 * error.log10(), torch.tensor(captions[told]), atol=1e-3, rtol=0
        )
    assert captions["psnr"] == found["metrics"]["psnr"]["values"]
    assert captions["ranks"] == found["identification"]["ranks"]
    assert captions["labels"] == [
        label for row in parse_output(made["LABELS"])["labels"] for label in row
    ]
    assert {name: about[name] for name in ("attack", "seed", "unlearning")} == {
        name: found[name] for name in ("attack", "seed", "unlearning")
    }


def test_the_best_restart_is_scored_beside_the_mean_of_restarts() -> None:
    made = run_chain()
    made |= run_stage("attack", made, "feature_recovery", iterations=20, restarts=3)
    outputs = run_stage("evaluate", made, decoys=5)
    found = parse_output(outputs["EVALUATION"])
    tensors, _ = read_tensors(made["RECONSTRUCTION"].data, "RECONSTRUCTION")
    truth = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS").load_images()
    assert not torch.equal(tensors["images"], tensors["alternative.best_restart"])
    for images, values in (
        (tensors["images"], found["metrics"]["mse"]["values"]),
        (
            tensors["alternative.best_restart"],
            found["alternatives"]["best_restart"]["values"]["mse"],
        ),
    ):
        error = (images - truth).square().flatten(1).mean(1)
        torch.testing.assert_close(torch.tensor(values), error, atol=1e-6, rtol=0)
    beside = found["alternatives"]["best_restart"]["identification"]
    assert len(beside["ranks"]) == len(truth)
    made |= run_stage("attack", made, "feature_recovery", iterations=2)
    assert "alternatives" not in parse_output(run_stage("evaluate", made, decoys=5)["EVALUATION"])


def test_an_alternative_of_another_shape_is_refused() -> None:
    made = run_chain()
    made |= run_stage("attack", made, "feature_recovery", iterations=2, restarts=2)
    tensors, about = read_tensors(made["RECONSTRUCTION"].data, "RECONSTRUCTION")
    tensors["alternative.best_restart"] = tensors["alternative.best_restart"][:1]
    made["RECONSTRUCTION"] = StageOutput(write_tensors(tensors, about))
    with pytest.raises(InvalidRequest, match=r"alternative\.best_restart") as refused:
        run_stage("evaluate", made, decoys=5)
    assert refused.value.field == "inputs.RECONSTRUCTION"


class Brightness(ScoredKind):
    """A further kind, with pictures of its own."""

    role = "BRIGHTNESS"

    def score(self, ctx: JobInputs, truth: GroundTruth) -> ScoredResult:
        part = summarise_metric(
            MetricScale("share", (0, 1), True), [1.0] * 3, {"guess": [0.5] * 3}, is_proportion=True
        )
        told = torch.full((3, 1, 2, 2), float(ctx.read_input(self.role)))
        return ScoredResult(
            {"brightness": part}, {}, pictures=Pictures({"truth": told}, {"above": 0.5})
        )


def with_brightness(monkeypatch: pytest.MonkeyPatch, value: bytes) -> dict[str, StageOutput]:
    """Images that were rebuilt, evaluated beside what `Brightness` makes of a value."""
    kinds = (*findings.list_kinds(), Brightness())
    monkeypatch.setattr(findings, "list_kinds", lambda: kinds)
    made = attacked()
    given = {role: made[role].data for role in ("RECONSTRUCTION", "FORGET_SETS")} | {
        "BRIGHTNESS": value
    }
    return evaluate.run(JobContext(params=evaluate.EvaluateParams(decoys=5), inputs=given))


def test_pictures_of_every_kind_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made = with_brightness(monkeypatch, b"0.25")
    images, about = read_tensors(made["PICTURES"].data, "PICTURES")
    assert images.keys() == {
        "BRIGHTNESS.truth", "RECONSTRUCTION.truth", "RECONSTRUCTION.reconstruction", "RECONSTRUCTION.class_mean"
    }  # fmt: skip
    assert images["BRIGHTNESS.truth"].tolist() == [[[0.25] * 2] * 2] * 3
    assert about["kinds"]["BRIGHTNESS"] == {"above": 0.5}
    assert len(about["kinds"]["RECONSTRUCTION"]["psnr"]) == 3
    assert parse_output(made["EVALUATION"])["metrics"].keys() >= {"psnr", "brightness"}
    read = read_pictures(made["PICTURES"].data, "PICTURES_1")
    assert read.left_out == ("pictures of BRIGHTNESS (no report shows those)",)
    assert [len(one.pictures.reconstruction) for one in read.shown] == [3]


def test_pictures_that_a_report_could_not_read_fail_their_own_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(
        InvalidRequest,
        match=r"PICTURES: tensor 'BRIGHTNESS\.truth' holds values that are not finite",
    ):
        with_brightness(monkeypatch, b"nan")


def test_baselines_of_gradient_matching_are_made_from_the_models_and_the_public() -> None:
    made = run_chain(deletions=3)
    made |= run_stage("attack", made, "feature_recovery", iterations=20, controls=2)
    with_models = parse_output(run_stage("evaluate", made, decoys=5)["EVALUATION"])["metrics"][
        "psnr"
    ]
    assert {n: len(v) for n, v in with_models["baseline_values"].items()} == {
        "class_mean": 3, "permuted_truth": 3, "nearest_public": 3, "random_direction": 2,
    }  # fmt: skip
    public = open_dataset(PluginRef.model_validate(DATA)).load("test")
    truth = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS").load_images()[:, 0]
    for label, image, score in zip(
        parse_output(made["LABELS"])["labels"],
        truth,
        with_models["baseline_values"]["nearest_public"],
        strict=True,
    ):
        theirs = public.images[public.labels == label[0]][:5]
        possible = -10 * (theirs - image).square().flatten(1).mean(1).log10()
        assert (possible - score).abs().min() < 1e-4  # it is one of them
    without = {
        role: output for role, output in made.items() if role not in ("UNLEARNED", "ORIGINAL")
    }
    assert (
        "nearest_public"
        not in parse_output(run_stage("evaluate", without, decoys=5)["EVALUATION"])["metrics"][
            "psnr"
        ]["baselines"]
    )


def test_the_nearest_public_image_is_the_one_that_was_deleted_if_it_is_there() -> None:
    made = run_chain(deletions=2)
    forgotten = ForgetSets.read(made["FORGET_SETS"].data, "FORGET_SETS")
    images, labels = forgotten.load_images()[:, 0], torch.tensor(forgotten.labels)
    others = torch.rand(6, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    public = Samples(
        torch.cat([others, images]), torch.cat([labels[:1, 0].repeat(6), labels[:, 0]])
    )
    seen = WhiteBoxView(
        read_networks(made["ORIGINAL"].data, "x"), read_networks(made["UNLEARNED"].data, "x")
    )
    estimates = {"pair": estimate_gradient(seen, "pair")}
    found, _ = select_nearest_public(
        estimates, ["pair", "pair"], labels, public, 100, torch.device("cpu")
    )
    assert torch.equal(found[:, 0], images)


def test_controls_do_not_change_what_the_attack_finds() -> None:
    made = run_chain("retrain", deletions=3)
    params = {"iterations": 40, "gradient_from": "either"}
    plain, controlled = (
        read_tensors(
            run_stage("attack", made, "feature_recovery", **params, controls=n)[
                "RECONSTRUCTION"
            ].data,
            "x",
        )[0]
        for n in (0, 2)
    )
    torch.testing.assert_close(
        controlled["matching_loss"], plain["matching_loss"], rtol=0.1, atol=1e-3
    )
    assert controlled["control.random_direction"].shape == (2, 1, 1, 9, 9)
    assert "control.random_direction" not in plain


@pytest.mark.parametrize(
    "control", [torch.zeros(4, 1, 1, 9, 9), torch.zeros(1, 1, 1, 9, 8), torch.zeros(0, 1, 1, 9, 9)]
)
def test_controls_that_do_not_fit_are_refused(control: torch.Tensor) -> None:
    made = run_chain(deletions=3)
    tensors = {"images": torch.zeros(3, 1, 1, 9, 9), "control.x": control}
    made["RECONSTRUCTION"] = StageOutput(write_tensors(tensors, {}))
    with pytest.raises(InvalidRequest, match=r"control\.x"):
        run_stage("evaluate", made)


def test_exact_unlearning_says_how_well_it_repeats() -> None:
    exact = parse_output(run_chain("retrain")["UNLEARNING"])
    assert 0 <= exact["repeat_ratio"] < 0.05  # one full-batch step: another order is rounding
    assert parse_output(run_chain("gradient_ascent")["UNLEARNING"])["repeat_ratio"] is None


def attacked() -> dict[str, StageOutput]:
    made = run_chain(lr=0.01)
    return made | run_stage("attack", made, "feature_recovery", iterations=100)


def evaluated(made: dict[str, StageOutput], **params: object) -> dict[str, object]:
    found: dict[str, object] = parse_output(
        run_stage("evaluate", made, decoys=5, **params)["EVALUATION"]
    )
    return found


def test_a_network_of_another_seed_measures_feature_distance_with_all_baselines() -> None:
    made = attacked()
    made["FEATURE_NETWORK"] = run_stage("pretrain", {}, seed=1, dataset=DATA, model=MODEL)["BASE"]
    found = evaluated(made, feature_network=True)["metrics"]["feature_distance"]
    assert (found["n"], found["unit"], found["higher_is_better"]) == (3, "1", False)
    assert set(found["baselines"]) == {"class_mean", "nearest_public", "permuted_truth"}
    assert found["baseline"] == min(found["baselines"].values())
    assert found["mean"] < found["baselines"]["permuted_truth"] / 2
    # a judge that is there is asked, whether it was called for or not
    again = evaluated(made)["metrics"]
    assert again["feature_distance"] == found
    del made["FEATURE_NETWORK"]
    assert "feature_distance" not in evaluated(made)["metrics"]


@pytest.mark.parametrize("role", ["BASE", "ORIGINAL", "UNLEARNED"])
def test_a_model_under_attack_is_no_feature_network(role: str) -> None:
    made = attacked()
    made["FEATURE_NETWORK"] = made[role]
    with pytest.raises(
        InvalidRequest, match=f"FEATURE_NETWORK must not be a model under attack .it equals {role}"
    ) as refused:
        run_stage("evaluate", made)
    assert refused.value.field == "inputs.FEATURE_NETWORK"


def test_a_feature_network_for_other_images_is_refused(data_root: Path) -> None:
    draw = np.random.default_rng(0)
    np.savez(data_root / "wide.npz", images=draw.random((40, 9, 10)), labels=np.arange(40) % 4)
    wide = {"name": "npz", "params": {"path": "wide.npz"}}
    made = attacked()
    made["FEATURE_NETWORK"] = run_stage("pretrain", {}, seed=1, dataset=wide, model=MODEL)["BASE"]
    with pytest.raises(
        InvalidRequest,
        match=r"one model with input shape \[1, 9, 9\]; got 1 with input shape \[1, 9, 10\]",
    ):
        run_stage("evaluate", made)
    made["FEATURE_NETWORK"] = run_chain(seed=1)["UNLEARNED"]
    with pytest.raises(InvalidRequest, match=r"got 3 with input shape \[1, 9, 9\]"):
        run_stage("evaluate", made)


def test_lpips_is_measured_with_weights_of_the_users_and_says_which(data_root: Path) -> None:
    made = attacked()
    write_weights(data_root)
    found = evaluated(made, lpips_weights=FILE)
    assert (
        found["metrics"]["lpips"]["mean"] < found["metrics"]["lpips"]["baselines"]["permuted_truth"]
    )
    digest = hashlib.sha256((data_root / FILE).read_bytes()).hexdigest()
    assert found["provenance"]["lpips_weights"] == digest
    plain = evaluated(made)
    assert "lpips" not in plain["metrics"]
    assert "lpips_weights" not in plain["provenance"]
    with pytest.raises(InvalidRequest, match=r"there is no 'other\.safetensors'") as refused:
        run_stage("evaluate", made, lpips_weights="other.safetensors")
    assert refused.value.field == "params.lpips_weights"


def with_sources(made: dict[str, StageOutput], sources: object) -> dict[str, StageOutput]:
    """The same images, with other gradient sources."""
    tensors, about = read_tensors(made["RECONSTRUCTION"].data, "RECONSTRUCTION")
    return made | {
        "RECONSTRUCTION": StageOutput(write_tensors(tensors, about | {"gradient_sources": sources}))
    }


@pytest.mark.parametrize("words", [["a guess of mine"] * 3, ["pair", "pair", "mine"], [], None])
def test_an_attack_may_say_in_its_own_words_what_it_explained(words: object) -> None:
    made = attacked()
    assert "nearest_public" in evaluated(made)["metrics"]["psnr"]["baselines"]
    found = evaluated(with_sources(made, words))
    assert found["attack"]["method"] == "feature_recovery"
    assert set(found["metrics"]["psnr"]["baselines"]) == {"class_mean", "permuted_truth"}


@pytest.mark.parametrize("wrong", [5, "pair", {"base": 1}, [["pair"]] * 3, [1, 2, 3]])
def test_gradient_sources_that_are_no_list_of_text_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match="gradient_sources must be a list of text") as refused:
        evaluated(with_sources(attacked(), wrong))
    assert refused.value.field == "inputs.RECONSTRUCTION"


def test_a_reconstruction_of_an_older_version_is_refused() -> None:
    """Its sources have another name: without them there would be one baseline less."""
    made = attacked()
    tensors, metadata = read_tensors(made["RECONSTRUCTION"].data, "RECONSTRUCTION")
    metadata["explanations"] = metadata.pop("gradient_sources")
    older = StageOutput(write_tensors(tensors, metadata))
    with pytest.raises(InvalidRequest, match=r"older version.*: run the attack again") as refused:
        evaluated(made | {"RECONSTRUCTION": older})
    assert refused.value.field == "inputs.RECONSTRUCTION"


@pytest.mark.parametrize(
    "labels", [[[1.7]] * 3, [[True]] * 3, [[1.0]] * 3, ["1"] * 3, [["1"]] * 3, [[0], [1, 2], [0]]]
)
def test_classes_that_are_no_whole_numbers_are_refused(labels: object) -> None:
    made = run_chain()
    made |= run_stage("attack", made, "label_inference")
    made["ANSWERS"] = StageOutput.of_json(parse_output(made["ANSWERS"]) | {"labels": labels})
    with pytest.raises(InvalidRequest, match="ANSWERS must hold integers 'labels'"):
        run_stage("evaluate", made)


@pytest.mark.parametrize("wrong", [[[0], [1, 2]] * 100, [[10**30]] * 200, [[]] * 200])
def test_shadows_whose_labels_do_not_fit_are_refused(wrong: list[list[int]]) -> None:
    made = run_chain()
    made |= run_stage("attack", made, "label_inference")
    told = {"scores": [[0.1, 0.2, 0.3, 0.4]] * 200, "labels": wrong, "trainings": 1}
    made["SHADOWS"] = StageOutput.of_json(
        told | dict.fromkeys(("unlearning", "defense", "attack"), "x")
    )
    with pytest.raises(InvalidRequest, match="SHADOWS") as refused:
        run_stage("evaluate", made)
    assert refused.value.field == "inputs.SHADOWS"


@pytest.mark.parametrize("name", ["indices", "labels"])
def test_a_truth_beyond_all_bounds_is_refused(name: str) -> None:
    made = run_chain()
    made |= run_stage("attack", made, "label_inference")
    made["FORGET_SETS"] = StageOutput.of_json(
        parse_output(made["FORGET_SETS"]) | {name: [[10**30]] * 3}
    )
    with pytest.raises(InvalidRequest, match=f"FORGET_SETS.{name}"):
        run_stage("evaluate", made)
