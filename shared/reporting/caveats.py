"""What a report does not prove. Each caveat is a rule: it is printed if it applies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from shared.comparison import Comparison
from shared.jobs.spec import AuditSpec
from shared.reporting.evaluations import is_adaptive, method_key
from shared.reporting.formatting import Names, format_percent, join_words, pluralise
from shared.reporting.kinds import list_kinds
from shared.reporting.models import Missing, Row, SelfTest
from shared.reporting.notes import find_unattacked_defenses
from shared.roles import Role
from shared.shadows import MIN_SHADOWS

WORSE = 0.05  # of an accuracy, from which on models count as trained otherwise
MAX_NAMED = 10  # deletions that a caveat names


@dataclass(frozen=True)
class CaveatInputs:
    """The inputs of all caveats."""

    rows: Sequence[Row]
    missing: Sequence[Missing]
    spec: AuditSpec
    self_test: SelfTest | None = None
    left_out: Sequence[str] = ()  # pictures that are not shown, each with the reason
    comparisons: Sequence[Comparison] = ()  # of models that a user has brought


def collect_caveats(inputs: CaveatInputs) -> list[str]:
    """All caveats that apply, most important first."""
    caveats = [(importance, rule(inputs)) for importance, rule in RULES]
    caveats += [
        (limit.importance, limit.rule(inputs.rows))
        for kind in list_kinds()
        for limit in kind.caveats
    ]
    return [text for _, text in sorted(caveats, key=lambda one: -one[0]) if text]


def _explain_self_test(scope: CaveatInputs) -> str | None:
    self_test = scope.self_test
    if self_test is None:
        return (
            "The self-test result is missing, so it is unknown whether the code measures known "
            "cases correctly."
        )
    if self_test.passed:
        return None
    return (
        f"The code failed its self-test ({join_words(self_test.failed)}): it measures known "
        "cases incorrectly, so none of these results are reliable. `make selftest` shows what it "
        "measured."
    )


def _explain_attacks(scope: CaveatInputs) -> str:
    names = list(dict.fromkeys(attack.name for attack in scope.spec.attacks))
    return (
        f"Only {join_words(names)} {'was' if len(names) == 1 else 'were'} tried. A stronger "
        "attack, a longer search or more knowledge may recover more: “not seen” does not mean "
        "“not there”."
    )


def _explain_adaptive(scope: CaveatInputs) -> str | None:
    if all(defense.name == "none" for defense in scope.spec.defenses):
        return "No defense was tested."
    unknown, sentences = find_unattacked_defenses(scope.rows), []
    if unknown:
        sentences.append(
            f"{join_words(unknown)} {'was' if len(unknown) == 1 else 'were'} not attacked "
            "adaptively. An adaptive attacker (for example, one who weights coordinates by their "
            "noise, uses only the weights that survived pruning, or subtracts the fine-tuning "
            "drift) may succeed where these attacks fail: add an attack with adaptive: true."
        )
    if any(is_adaptive(row.attack) for row in scope.rows):
        sentences.append(
            "Each adaptive attack uses its knowledge of the defense in one particular way "
            "(described in its plugin); other ways may be stronger. Attackers who can only query "
            "the models are never adaptive."
        )
    if without_adaptive_attack := {
        row.defense.method for row in scope.rows if row.defense.has_adaptive_attack is False
    } - {"none"}:
        sentences.append(
            f"No adaptive attack on {join_words(sorted(without_adaptive_attack))} is known."
        )
    return " ".join(sentences) or None


def _explain_missing(scope: CaveatInputs) -> str | None:
    if not scope.missing:
        return None
    return (
        f"{pluralise(len(scope.missing), 'row')} of the audit "
        f"{'is' if len(scope.missing) == 1 else 'are'} missing; the verdict is based on the "
        "others."
    )


def _explain_sample_size(scope: CaveatInputs) -> str | None:
    sizes = [score.n for row in scope.rows for score in row.metrics.values()]
    if not sizes:
        return None
    n = f"n = {min(sizes)}" if min(sizes) == max(sizes) else f"n = {min(sizes)} to {max(sizes)}"
    sentence = f"Each row is based on {n} samples."
    fewest = min(sizes)
    if fewest >= 30:
        return sentence
    low = fewest / (fewest + NormalDist().inv_cdf(0.975) ** 2)  # of Wilson's interval of n of n
    return (
        f"{sentence} Intervals of means (bootstrap-t) assume that these few samples include "
        f"extreme scores: if one sample in ten leaks, then with probability {0.9**fewest:.2f} "
        f"none of {fewest} does, and the interval misses the true mean. Wilson's interval of a "
        f"proportion is wide: {fewest} of {fewest} is [{low:.2f}, 1.00]."
    )


def _explain_multiple_tests(scope: CaveatInputs) -> str | None:
    tests = {
        tuple(method_key(one) for one in (row.unlearning, row.defense, row.attack))
        for row in scope.rows
        if row.finding.p is not None
    }
    if len(tests) < 2:
        return None
    return (
        f"The {len(tests)} tests of this report are corrected together (Holm): of the reports in "
        "which nothing leaks, at most one in forty shows a false leak. Each defense or attack that "
        "is added raises the evidence that all the others need."
    )


def _explain_copies(scope: CaveatInputs) -> str | None:
    copies = {
        row.seed: [deletion + 1 for deletion in row.retained_copies]
        for row in scope.rows
        if row.retained_copies
    }
    if not copies:
        return None
    named = [
        f"{'deletion' if len(places) == 1 else 'deletions'} "
        f"{join_words([str(place) for place in places[:MAX_NAMED]])}"
        f"{f' and {len(places) - MAX_NAMED} more' if len(places) > MAX_NAMED else ''} of seed {seed}"
        for seed, places in copies.items()
    ]
    return (
        f"An equal copy of a deleted sample stays in the training set ({join_words(named)}): the "
        "model still learns from it, so what leaks about the sample may come from the copy."
    )


def _explain_origin(scope: CaveatInputs) -> str | None:
    if not scope.spec.is_brought:
        return None
    forgotten = (
        "The retrained models are taken for what they are said to be: trained as the original was, "
        "without the deleted samples. Those of the first seed are also a release, which is compared "
        "with models of which it is one."
        if scope.spec.retrained
        else "Whether the samples were forgotten was not measured, as that needs models retrained "
        "without them."
    )
    named = (
        ""
        if any(row.unscored for row in scope.rows)
        else ", and the deleted samples are those that were named"
    )
    return (
        f"These models were brought: how they were trained and unlearned is not known here{named}. "
        f"{forgotten} Other deletions by the same "
        "procedure may leak more or less."
    )


def _explain_retrained(scope: CaveatInputs) -> str | None:
    """Retrained models that were brought, and are worse than the original on samples that neither
    has seen."""
    if not scope.spec.is_brought:
        return None
    pairs = {
        (one.retrained.test.accuracy, one.original.test.accuracy)
        for row in scope.rows
        if (one := row.forgetting) is not None and one.retrained.test and one.original.test
    }
    retrained, original = max(pairs, key=lambda pair: pair[1] - pair[0], default=(0.0, 0.0))
    if original - retrained <= WORSE:
        return None
    return (
        f"On test samples, the retrained models have an accuracy of {retrained:.2f}, and the "
        f"original {original:.2f}: if they were trained otherwise than the original, the tests of "
        "forgetting also measure that."
    )


def _explain_stated_methods(scope: CaveatInputs) -> str | None:
    """What the p-values of brought models rest on, and which releases have none."""
    spec = scope.spec
    if not (spec.is_brought and spec.p_values):
        return None
    stated = [
        f"{release.name} by {release.method.name}" for release in spec.releases if release.method
    ]
    silent = [release.name for release in spec.releases if release.method is None]
    counts = [
        row.answers.claims.shadows for row in scope.rows if row.answers and row.answers.claims
    ]
    if not counts:
        return None
    sentences = [
        "P-values of label attacks rest on what was stated about the releases: that "
        f"{join_words(stated)} {'was' if len(stated) == 1 else 'were'} made, with these parameters "
        "and this recipe. If a release was made in another way, its p-values mean nothing. Shadow "
        "deletions keep only those retained samples that were brought.",
    ]
    if (fewest := min(counts)) < MIN_SHADOWS:
        sentences.append(
            f"The retained samples suffice for {fewest} shadow deletions, so no p-value can be "
            f"below 1/{fewest + 1}."
        )
    if silent:
        sentences.append(
            f"There are no p-values for {join_words(silent)}, as no method was stated for "
            f"{'it' if len(silent) == 1 else 'them'}."
        )
    return " ".join(sentences)


def _explain_non_members(scope: CaveatInputs) -> str | None:
    if not scope.spec.is_brought or not any(
        Role.CANDIDATES in row.threat_model.get("observes", []) for row in scope.rows
    ):
        return None
    return (
        "In membership attacks, the non-members are public samples that were brought: if these are "
        "of another kind than the training samples, the attacks measure that as well."
    )


def _explain_comparisons(scope: CaveatInputs) -> str | None:
    """What is odd about brought models; with several releases, each named."""
    several = len(scope.comparisons) > 1
    sentences = dict.fromkeys(
        (f"{one.release}: " if several else "") + finding.message
        for one in scope.comparisons
        for finding in one.findings
    )
    if not sentences:
        return None
    return f"About the models that were brought: {'; '.join(sentences)}."


def _explain_seeds(scope: CaveatInputs) -> str:
    seeds = len(dict.fromkeys(scope.spec.seeds))
    if scope.spec.is_brought:
        return (
            f"The attacks ran with {pluralise(seeds, 'seed')} on one original model. Other models "
            "may leak more or less."
        )
    return (
        f"Training sets and forget sets were drawn with {pluralise(seeds, 'seed')}, all for one "
        f"base model (pretrain seed {scope.spec.pretrain_seed}). Other base models may leak more "
        "or less."
    )


def _explain_transfer(scope: CaveatInputs) -> str:
    model = f"one architecture ({scope.spec.model.name})"
    tested = (
        f"{model[0].upper()}{model[1:]} was"
        if scope.spec.dataset is None
        else f"One data set ({scope.spec.dataset.name}) and {model} were"
    )
    return f"{tested} tested; the results do not automatically transfer to others."


def _explain_labels(scope: CaveatInputs) -> str | None:
    given_labels = {
        method_key(row.attack)
        for row in scope.rows
        if Role.LABELS in row.threat_model.get("observes", [])
    }
    return (
        "Attackers whose threat model lists LABELS were given the classes of the deleted samples."
        if given_labels
        else None
    )


def _explain_base(scope: CaveatInputs) -> str | None:
    if not any(Role.BASE in row.threat_model.get("observes", []) for row in scope.rows):
        return None
    return (
        "An attacker who uses BASE, N and k knows more than the two models. Such an attacker's "
        "estimate is exactly a gradient only if training was a single full-batch step; otherwise "
        "it is an approximation."
    )


def _explain_compared_releases(scope: CaveatInputs) -> str | None:
    if not any("released_models" in row.threat_model for row in scope.rows):
        return None
    return (
        "An attacker with target: filtered compares the releases of several deletions, each made "
        "from the same model. An attacker who sees a single release, or successive deletions, "
        "cannot do this."
    )


def _explain_batch_norm(scope: CaveatInputs) -> str | None:
    fields = (
        ["train.batch_norm"] if scope.spec.train.get("batch_norm", "frozen") == "trained" else []
    )
    fields += [
        f"unlearning.{place}.params.batch_norm"
        for place, method in enumerate(scope.spec.unlearning)
        if method.params.get("batch_norm") == "trained"
    ]
    if not fields:
        return None
    return (
        f"BatchNorm used batch statistics ({join_words(fields)}: trained), whereas the published "
        "experiments (Hu et al. 2024) use frozen statistics in training, retraining and "
        "unlearning. The weight change is then not a "
        "gradient of the attacked model: if it has BatchNorm layers, the attacks, which use "
        "frozen statistics, may underestimate the leakage."
    )


def _explain_strength(scope: CaveatInputs) -> str | None:
    if not any(row.defense.strength for row in scope.rows):
        return None
    return (
        "The strengths of the defenses were chosen by validation accuracy alone, before any "
        "attack. A stronger setting may leak less: either it was not among the settings, or it "
        "costs more accuracy than the audit allows."
    )


def _explain_guarantee(scope: CaveatInputs) -> str | None:
    guarantees = [row.defense.guarantee for row in scope.rows if "epsilon" in row.defense.guarantee]
    if not guarantees:
        return None
    largest = max(guarantees, key=lambda guarantee: guarantee["epsilon"])
    delta = f" at delta {largest['delta']:g}" if "delta" in largest else ""
    replaced = largest.get("epsilon_replacement")
    replacement = "" if replaced is None else f" (for a replaced sample: {replaced:.3g})"
    return (
        "The differential-privacy guarantee covers a single training run, with epsilon at most "
        f"{largest['epsilon']:.3g}{delta}. It compares training sets with and without one sample, "
        "where the size N that scales each step is public and the same for both; two sets of equal "
        f"size differ by a replaced sample, for which epsilon is larger{replacement}. "
        "An attacker who sees the models before and after sees two runs, and an epsilon far above "
        "1 guarantees little by itself: consider the measured leakage as well."
    )


def _explain_repeat(scope: CaveatInputs) -> str | None:
    names, ratios = Names(scope.rows), defaultdict[str, list[float]](list)
    for row in scope.rows:
        if row.unlearning.repeat_ratio is not None:
            ratios[names(row.unlearning)].append(100 * row.unlearning.repeat_ratio)
    if not ratios:
        return None
    ends = {
        name: dict.fromkeys(format_percent(end) for end in (min(some), max(some)))
        for name, some in ratios.items()
    }
    shares = join_words([f"{' to '.join(end)} % ({name})" for name, end in ends.items()])
    return (
        "If exact unlearning is repeated with the samples in another order, the weights of the "
        f"first deletion's model differ by {shares} of the change that unlearning made: smaller "
        "differences are noise."
    )


def _left_out(scope: CaveatInputs) -> str | None:
    return f"Not shown here: {join_words(scope.left_out)}." if scope.left_out else None


# caveats of kinds are sorted in between
RULES: tuple[tuple[int, Callable[[CaveatInputs], str | None]], ...] = (
    (100, _explain_self_test), (98, _explain_comparisons), (97, _explain_origin),
    (96, _explain_retrained), (96, _explain_non_members), (96, _explain_stated_methods),
    (95, _explain_attacks), (90, _explain_adaptive),
    (88, _explain_copies), (85, _explain_sample_size), (80, _explain_missing), (75, _explain_multiple_tests),
    (70, _explain_seeds), (65, _explain_transfer), (60, _explain_labels), (55, _explain_base),
    (45, _explain_compared_releases), (35, _explain_batch_norm), (30, _explain_repeat),
    (25, _explain_strength),
    (20, _explain_guarantee), (5, _left_out),
)  # fmt: skip
