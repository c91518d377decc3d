"""The verdict card: few plain sentences that say who gets what, whether the samples were forgotten,
what a defense is worth, and what was not tried."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from shared.reporting.card import MAX_SENTENCES
from shared.reporting.models import Report
from tests.support.reports import (
    LEAK,
    NO_LEAK,
    JSONObject,
    build_report,
    make_audit,
    make_defense,
    make_forgetting,
    make_image_evaluation,
    make_label_evaluation,
    make_membership_evaluation,
    make_method,
    make_one_recovered_evaluation,
    make_self_test,
    make_utility_evaluation,
)

PLAIN = make_method("feature_recovery", adaptive=False)
INFORMED = make_method("feature_recovery", adaptive=True)
BOTH = ["feature_recovery", {"name": "feature_recovery", "params": {"adaptive": True}}]
PRUNED = make_defense("pruning", share=0.5) | {"has_adaptive_attack": True}
PRIVATE = make_defense("dp_sgd", noise=1.0) | {"has_adaptive_attack": False}
PLUGINS = (
    "gradient_ascent|fine_tune|retrain\\b|feature_recovery|label_inference|membership_difference|"
    "pruning|dp_sgd|obfuscation|mnist_5k|convnet|psnr"
)


def read_card(report: Report) -> list[str]:
    return [report.verdict.headline, *report.verdict.sentences]


def report_on(evaluation: JSONObject, *more: JSONObject, **audit: Any) -> Report:
    attacks = [one["attack"]["method"] for one in (evaluation, *more) if one["attack"]]
    spec = make_audit(**{"attacks": list(dict.fromkeys(attacks)), **audit})
    return build_report(spec, evaluation, *more, make_utility_evaluation())


def defended(
    plain: JSONObject,
    informed: JSONObject | None,
    released: JSONObject = PRUNED,
    undefended: JSONObject = LEAK,
) -> Report:
    """Leaks without a defense; with it what is given, of an attacker who does not know it and of
    one who does."""
    behind = [make_image_evaluation(**plain, released=released, attack=PLAIN)]
    if informed is not None:
        behind.append(make_image_evaluation(**informed, released=released, attack=INFORMED))
    return build_report(
        make_audit(defenses=["none", released["method"]], attacks=BOTH if informed else BOTH[:1]),
        make_utility_evaluation(),
        make_utility_evaluation(released=released),
        make_image_evaluation(**undefended, attack=PLAIN),
        *behind,
        forgetting=[make_forgetting(0.9), make_forgetting(0.9, released=released)],
    )


def two_methods(first: JSONObject, second: JSONObject) -> Report:
    methods = ["gradient_ascent", "retrain"]
    evaluations = [
        one
        for name, results in zip(methods, (first, second), strict=True)
        for one in (
            make_image_evaluation(**results, unlearning=name),
            make_utility_evaluation(unlearning=name),
        )
    ]
    measured = [make_forgetting(0.9, unlearning=name) for name in methods]
    return build_report(make_audit(unlearning=methods), *evaluations, forgetting=measured)


REPORTS = {
    "nothing": build_report(make_audit()),
    "leak": report_on(make_image_evaluation(**LEAK)),
    "no leak": report_on(make_image_evaluation(**NO_LEAK)),
    "labels": report_on(make_label_evaluation(8, (0.68, 1.0))),
    "membership": report_on(make_membership_evaluation((0.9, 0.7, 0.98))),
    "one recovered": report_on(make_one_recovered_evaluation()),
    "useless": build_report(
        make_audit(), make_image_evaluation(**NO_LEAK), make_utility_evaluation(test=0.1)
    ),
    "failed self-test": build_report(
        make_audit(), make_image_evaluation(**LEAK), tested=make_self_test(psnr=1.0)
    ),
    **{
        f"defended {i}": defended(plain, informed, released)
        for i, (plain, informed, released) in enumerate(
            product((LEAK, NO_LEAK), (LEAK, NO_LEAK, None), (PRUNED, PRIVATE))
        )
    },
    "nothing unlearned": build_report(
        make_audit(defenses=["none", "pruning"], check_forgetting=True),
        make_image_evaluation(**NO_LEAK),
        make_utility_evaluation(),
        forgetting=[make_forgetting(0.0)],
    ),
    **{
        f"two methods {i}": two_methods(first, second)
        for i, (first, second) in enumerate(product((LEAK, NO_LEAK), repeat=2))
    },
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_card_is_a_few_sentences_that_name_no_plugin(name: str) -> None:
    card = read_card(REPORTS[name])
    assert (1 if name == "nothing" else 2) <= len(card) <= MAX_SENTENCES
    for sentence in card:
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert not re.search(PLUGINS, sentence), sentence
        assert "None" not in sentence
        assert len(sentence.split()) <= 70


def test_the_sentence_says_who_gets_what_knowing_what_and_what_chance_would_give() -> None:
    assert read_card(report_on(make_image_evaluation(**LEAK)))[0] == (
        "An attacker who holds the model before and after the deletion and knows the classes of "
        "the deleted samples reconstructs 8 of 8 deleted samples; by chance it would be 1 in "
        "101 of them (p below 0.0001 after correction)."
    )


@pytest.mark.parametrize(
    ("observes", "more", "words"),
    [
        (["ORIGINAL", "UNLEARNED"], {}, "holds the model before and after the deletion recon"),
        (["UNLEARNED"], {}, "holds the model after the deletion reconstructs"),
        (["BASE", "ORIGINAL", "UNLEARNED"], {}, "and the weights that training started from recon"),
        (
            ["DELETION_SIZES", "ORIGINAL", "UNLEARNED"],
            {},
            "deletion and knows how many samples were trained on and deleted reconstructs",
        ),
        (
            ["ORIGINAL", "PUBLIC", "UNLEARNED"],
            {"released_models": 8},
            "has public samples of the same kind, and compares several deletions, reconstructs",
        ),
        (
            ["ORIGINAL", "UNLEARNED"],
            {"access": "black_box"},
            "who can only query the model before and after the deletion recon",
        ),
        ([], {"access": None}, "an attacker whose knowledge is not stated reconstructs"),
    ],
)
def test_each_piece_of_knowledge_is_in_the_sentence(
    observes: list[str], more: JSONObject, words: str
) -> None:
    evaluation = make_image_evaluation(**LEAK)
    evaluation["threat_model"] |= {"observes": observes, **more}
    headline = report_on(evaluation).verdict.headline
    assert words.lower() in headline.lower()


def test_an_informed_attacker_is_one_who_knows_the_defense() -> None:
    released = PRUNED | {"params": {"releases_averaged": 64}}
    report = build_report(
        make_audit(defenses=["pruning"], attacks=BOTH[1:]),
        make_image_evaluation(**LEAK, released=released, attack=INFORMED),
    )
    headline = report.verdict.headline
    assert headline.startswith("Despite a defense, an attacker who ")
    assert "averages 64 releases" in headline
    assert "knows the classes of the deleted samples and the defense, reconstructs" in headline


def test_labels_and_membership_are_told_beside_chance() -> None:
    assert read_card(REPORTS["labels"])[0].endswith(
        "infers the class of 8 of 8 deleted samples; by chance it would be 1 in 10 of them "
        "(p below 0.0001 after correction)."
    )
    assert read_card(REPORTS["membership"])[0] == (
        "An attacker who can only query the model before and after the deletion and has a list of "
        "candidates that contains the deleted samples tells deleted samples from samples that "
        "were never trained on: in 90 of 100 pairs, where by chance it would be 50 (p 0.001 after correction)."
    )
    excess = report_on(make_membership_evaluation((0.05, 0.01, 0.2), 1.0)).verdict.headline
    assert excess.endswith(
        "in 95 of 100 pairs, where by chance it would be 50, as they were forgotten too thoroughly "
        "(p 0.0010 after correction)."
    )


def test_what_is_not_reconstructed_is_not_called_so() -> None:
    below = {"psnr": (9.0, 8.0, 10.0), "gain": (-3.0, -4.0, -2.0)}
    picked = make_image_evaluation(**below, ranks=[1, 1, *NO_LEAK["ranks"][2:]])
    assert "picks 2 of 8 deleted samples out from others of their class, but reconstructs none" in (
        report_on(picked).verdict.headline
    )
    low = make_image_evaluation(**below, ranks=[2, 3, 2, 4, 2, 5, 3, 2], above=0)
    assert "half of the deleted samples among the 2.5 % of" in report_on(low).verdict.headline


def test_seeds_are_told_together() -> None:
    rows = [make_image_evaluation(**LEAK, seed=seed) for seed in range(3)]
    report = build_report(make_audit(seeds=[0, 1, 2]), *rows)
    assert "reconstructs 24 of 24 deleted samples" in report.verdict.headline


CREDIT = "showed no leak, even with attackers who know the defense"


def test_a_defense_is_credited_only_against_an_attacker_who_knows_it() -> None:
    informed = defended(NO_LEAK, NO_LEAK)
    assert informed.verdict.level == "reduced"
    assert f"The defended variant {CREDIT}." in read_card(informed)
    unaware = defended(NO_LEAK, None)
    assert unaware.verdict.level == "leaks"
    assert any(
        "those who know it were not tried, so no defense is credited" in sentence
        for sentence in read_card(unaware)
    )
    broken = defended(NO_LEAK, LEAK | {"gain": (12.0, 10.0, 14.0)})
    assert broken.verdict.level == "leaks"
    assert "knows the classes of the deleted samples and the defense" in broken.verdict.headline
    assert any(
        "the defense fails against attackers who know it" in s.lower() for s in read_card(broken)
    )
    assert not any(CREDIT in sentence for one in (unaware, broken) for sentence in read_card(one))


def test_every_attack_that_leaked_has_to_be_repeated_by_one_who_knows_the_defense() -> None:
    """Membership by gradients leaked too, and was tried by an attacker without the knowledge."""
    plain = make_method("membership_gradient", adaptive=False)
    other = make_membership_evaluation((0.95, 0.9, 0.99)) | {"attack": plain}
    hidden = make_membership_evaluation((0.5, 0.4, 0.6), 0.5, released=PRUNED) | {"attack": plain}
    report = build_report(
        make_audit(defenses=["none", "pruning"], attacks=[*BOTH, "membership_gradient"]),
        make_utility_evaluation(),
        make_utility_evaluation(released=PRUNED),
        make_image_evaluation(**LEAK, attack=PLAIN),
        make_image_evaluation(**NO_LEAK, released=PRUNED, attack=PLAIN),
        make_image_evaluation(**NO_LEAK, released=PRUNED, attack=INFORMED),
        other,
        hidden,
    )
    assert report.missing == []
    assert report.verdict.level == "leaks"
    assert any("did not try every attack that leaked" in sentence for sentence in read_card(report))


def test_a_defense_that_knowledge_does_not_help_against_needs_no_informed_attacker() -> None:
    private = defended(NO_LEAK, None, PRIVATE)
    assert private.verdict.level == "reduced"
    assert any(
        "no attack that uses knowledge of this defense is known" in s for s in read_card(private)
    )


def test_without_a_leak_the_card_says_that_informed_attackers_were_not_tried() -> None:
    words = "Attackers who know the defense were not tried, so no defense is credited."
    assert words in read_card(defended(NO_LEAK, None, undefended=NO_LEAK))
    assert words not in read_card(defended(NO_LEAK, NO_LEAK, undefended=NO_LEAK))


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (0.97, "forgotten the samples: their loss on them went at least a quarter of the way to"),
        (0.01, "not forgotten the samples: they treat them as the original does (way to retraining: 1.0 %)"),
        (0.12, "hardly forgotten the samples (way to retraining: 12 %)"),
        (3.0, "forgotten the samples too thoroughly, which can give them away"),
        (None, "cannot be measured: retraining raises the forget loss by less."),
    ],
)  # fmt: skip
def test_the_card_says_whether_the_samples_were_forgotten(way: float | None, words: str) -> None:
    for results in (LEAK, NO_LEAK):
        report = build_report(
            make_audit(),
            make_image_evaluation(**results),
            make_utility_evaluation(),
            forgetting=[make_forgetting(way)],
        )
        assert any(words in sentence for sentence in read_card(report))


def test_a_way_whose_interval_reaches_down_to_nothing_is_called_uncertain() -> None:
    def conclude(*methods: str, half: float) -> list[str]:
        evaluations = [make_image_evaluation(**NO_LEAK, unlearning=name) for name in methods]
        evaluations += [make_utility_evaluation(unlearning=name) for name in methods]
        measured = [make_forgetting(0.9, unlearning=name, half=half) for name in methods]
        spec = make_audit(unlearning=[*methods])
        return read_card(build_report(spec, *evaluations, forgetting=measured))

    for half, is_uncertain in ((0.8, False), (0.9, True)):
        one = conclude("scrub", half=half)
        assert any("90 %, but uncertain, [0, 180 %])" in text for text in one) == is_uncertain
        several = conclude("scrub", "fisher", "retrain", half=half)
        assert any("; in 2 this is uncertain." in text for text in several) == is_uncertain


def test_what_the_models_forgot_and_their_difference_shows_is_no_contradiction() -> None:
    card = read_card(two_methods(LEAK, NO_LEAK))
    assert card[1] == (
        "Taken alone, the released models have forgotten the samples in both variants of "
        "unlearning and defense."
    )
    assert card[2] == (
        "Leaks were found after 1 of 2 unlearning methods, none after exact unlearning (training "
        "again without the samples)."
    )


def test_releases_that_have_not_forgotten_are_counted() -> None:
    methods = {"fine_tune": 0.01, "scrub": 0.1, "fisher": None, "salun": 3.0, "retrain": 1.0}
    evaluations = [make_image_evaluation(**NO_LEAK, unlearning=name) for name in methods]
    evaluations += [make_utility_evaluation(unlearning=name) for name in methods]
    measured = [make_forgetting(way, unlearning=name) for name, way in methods.items()]
    report = build_report(make_audit(unlearning=[*methods]), *evaluations, forgetting=measured)
    assert report.verdict.level == "inconclusive"
    assert read_card(report)[:2] == [
        "The released models have forgotten the samples in 2 of 5 variants of unlearning and "
        "defense; in 1 nothing was unlearned; in 1 too little was unlearned; in 1 it cannot be "
        "measured; in 1 they were forgotten too thoroughly, which can give them away.",
        "Where they were not forgotten, it shows nothing that no attack finds the samples.",
    ]


def test_a_forgetting_that_was_not_measured_is_said() -> None:
    words = "Whether the released models have forgotten the samples was not measured."
    assert words in read_card(REPORTS["leak"])
    assert "Whether the samples were forgotten." in REPORTS["leak"].verdict.not_tested


def test_missing_and_inconclusive_results_are_counted() -> None:
    spec = make_audit(attacks=["feature_recovery", "label_inference"])
    report = build_report(spec, make_one_recovered_evaluation(), make_utility_evaluation())
    assert "Of 2 results, 1 is missing and 1 is inconclusive, which may be leaks." in read_card(
        report
    )


def test_the_row_of_the_headline_is_named() -> None:
    assert REPORTS["nothing"].verdict.row is None
    report = two_methods(NO_LEAK, LEAK)
    row = report.verdict.row
    assert row is not None
    assert report.rows[row - 1].unlearning.method == "retrain"


def test_what_was_not_tried_is_listed() -> None:
    assert REPORTS["leak"].verdict.not_tested == [
        "Attackers who can only query the models, hold the weights that training started from or "
        "compare several deletions.",
        "Of the tests named by the European Data Protection Board (EDPB): attribute inference, "
        "membership inference, exfiltration and regurgitation of training data.",
        "Of the EDPB’s tests, tested only in part: model inversion.",
        "Whether the samples were forgotten.",
        "Defenses.",
        "Other data sets, architectures and base models.",
    ]
    tested = defended(NO_LEAK, None).verdict.not_tested
    assert tested[0].endswith("compare several deletions or know the defense.")
    assert "Defenses." not in tested
    assert (
        "Of the tests of forgetting: three-sample test, KLoM, linear probe, relearning on forgotten "
        "samples and relearning on retained samples." in tested
    )
    assert not any(
        "know the defense" in one for one in defended(NO_LEAK, NO_LEAK).verdict.not_tested
    )
