"""What a report does not prove. Each limit is a rule: it is printed where it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.jobs.spec import AuditSpec
from shared.reporting.evaluations import identity, knows
from shared.reporting.kinds import kinds
from shared.reporting.models import Missing, Row, SelfTest
from shared.reporting.notes import unknown_defenses
from shared.reporting.numbers import Names, listed, plural
from shared.roles import Role


@dataclass(frozen=True)
class Scope:
    """What the limits are read off."""

    rows: Sequence[Row]
    missing: Sequence[Missing]
    spec: AuditSpec
    self_test: SelfTest | None = None
    left_out: Sequence[str] = ()  # pictures that are not shown, each with the reason


def limits(scope: Scope) -> list[str]:
    """All that hold, most important first."""
    found = [(importance, rule(scope)) for importance, rule in RULES]
    found += [(limit.importance, limit.rule(scope.rows)) for kind in kinds() for limit in kind.limits]
    return [text for _, text in sorted(found, key=lambda one: -one[0]) if text]


def _self_test(scope: Scope) -> str | None:
    tested = scope.self_test
    if tested is None:
        return "The code's self-test did not arrive: that it measures known cases rightly is not known."
    if tested.passed:
        return None
    return (
        f"The code failed its self-test ({listed(tested.failed)}): it measures cases wrongly whose answer is known, so "
        "nothing in this report can be relied on. `make selftest` says what it measured."
    )


def _attacks(scope: Scope) -> str:
    names = list(dict.fromkeys(attack.name for attack in scope.spec.attacks))
    return (
        f"Only {listed(names)} {'was' if len(names) == 1 else 'were'} tried. A stronger attack, a longer search or "
        "more knowledge may recover what was not recovered here: “not seen” is never “not there”."
    )


def _adaptive(scope: Scope) -> str | None:
    if all(defense.name == "none" for defense in scope.spec.defenses):
        return "No defense was in place, so nothing is known about any."
    unknown, told = unknown_defenses(scope.rows), []
    if unknown:
        told.append(
            f"{listed(unknown)} {'was' if len(unknown) == 1 else 'were'} not attacked by anyone who knows the defense. "
            "Such an adaptive attacker (one who trusts weights by the noise they got, looks at those that pruning left "
            "or takes a fine-tune away again) may get past a defense that stops these: ask for an attack with "
            "adaptive: true."
        )
    if any(knows(row.attack) for row in scope.rows):
        told.append(
            "An attacker who knows the defense makes one use of that (its plugin says which); another may make a "
            "better one. Attackers who only query the models do not know it."
        )
    if without := {row.defense.method for row in scope.rows if row.defense.counter is False} - {"none"}:
        told.append(f"For {listed(sorted(without))} no use of knowing the defense is known here.")
    return " ".join(told) or None


def _missing(scope: Scope) -> str | None:
    if not scope.missing:
        return None
    return f"{plural(len(scope.missing), 'row')} of the audit did not arrive; the verdict rests on the others."


def _few(scope: Scope) -> str | None:
    sizes = [score.n for row in scope.rows for score in row.metrics.values()]
    if not sizes:
        return None
    n = f"n = {min(sizes)}" if min(sizes) == max(sizes) else f"n = {min(sizes)} to {max(sizes)}"
    return (
        f"Each row rests on {n} samples. At such sizes a bootstrap interval (BCa) tends to be too narrow; Wilson's "
        "interval of a proportion is wide and says so: 8 of 8 is [0.68, 1.00]."
        if min(sizes) < 30
        else f"Each row rests on {n} samples."
    )


def _many(scope: Scope) -> str | None:
    tests = len(scope.rows)
    if tests < 2:
        return None
    return (
        f"Each of the {tests} rows is judged on its own, and nothing is corrected for their number: of rows that hold "
        "no leak, one in forty may be called a leak by chance."
    )


def _seeds(scope: Scope) -> str:
    seeds = len(dict.fromkeys(scope.spec.seeds))
    return (
        f"{plural(seeds, 'seed')} of training set and forget set, all from one base model (pretrain seed "
        f"{scope.spec.pretrain_seed}). Another base model may leak more or less."
    )


def _transfer(scope: Scope) -> str:
    return (
        f"One data set ({scope.spec.dataset.name}) and one architecture ({scope.spec.model.name}); nothing here "
        "carries over to others by itself."
    )


def _labels(scope: Scope) -> str | None:
    told = {identity(row.attack) for row in scope.rows if Role.LABELS in row.threat_model.get("observes", [])}
    return (
        "Where the table of threat models lists LABELS, the attacker was told the classes of the deleted samples."
        if told
        else None
    )


def _counts(scope: Scope) -> str | None:
    if not any(Role.BASE in row.threat_model.get("observes", []) for row in scope.rows):
        return None
    return (
        "An attacker who uses BASE, N and k holds more than the models before and after. The estimate is a gradient "
        "only where training was one step over the whole training set; beyond that it is an approximation."
    )


def _compares(scope: Scope) -> str | None:
    if not any("released_models" in row.threat_model for row in scope.rows):
        return None
    return (
        "An attacker with target: filtered compares the releases of several deletions, each made from the same model. "
        "One who sees a single release, or deletions that followed one another, cannot."
    )


def _batch_norm(scope: Scope) -> str | None:
    told = ["train.batch_norm"] if scope.spec.train.get("batch_norm", "frozen") == "trained" else []
    told += [
        f"unlearning.{place}.params.batch_norm"
        for place, method in enumerate(scope.spec.unlearning)
        if method.params.get("batch_norm") == "trained"
    ]
    if not told:
        return None
    return (
        f"BatchNorm's statistics were taken from each batch ({listed(told)}: trained), where the paper freezes them in "
        "training, retraining and unlearning. Then a change of weights is no gradient of the model that is attacked: "
        "if that model has BatchNorm, the attacks, which keep the statistics as they are, may recover less "
        "than there is."
    )


def _strength(scope: Scope) -> str | None:
    if not any(row.defense.strength for row in scope.rows):
        return None
    return (
        "The strengths of the defenses were chosen by validation accuracy alone, before any attack. A stronger "
        "setting may leak less, and costs more accuracy than the audit allows."
    )


def _promise(scope: Scope) -> str | None:
    promises = [row.defense.promise for row in scope.rows if "epsilon" in row.defense.promise]
    if not promises:
        return None
    largest = max(promises, key=lambda promise: promise["epsilon"])
    delta = f" at delta {largest['delta']:g}" if "delta" in largest else ""
    return (
        f"Differential privacy is promised for one training, at most epsilon {largest['epsilon']:.3g}{delta}. "
        "Whoever sees the models before and after sees two, and an epsilon far above 1 rules out little by itself: the "
        "measured leak stands beside it."
    )


def _repeat(scope: Scope) -> str | None:
    names, ratios = Names(scope.rows), defaultdict[str, list[float]](list)
    for row in scope.rows:
        if row.unlearning.repeat_ratio is not None:
            ratios[names(row.unlearning)].append(100 * row.unlearning.repeat_ratio)
    if not ratios:
        return None
    ends = {name: dict.fromkeys(f"{end:.2g}" for end in (min(some), max(some))) for name, some in ratios.items()}
    told = listed([f"{' to '.join(end)} % ({name})" for name, end in ends.items()])
    return (
        f"Exact unlearning made again in another order moves the first deletion's model by {told} of its weight "
        "change: what is read from less than that is noise."
    )


def _left_out(scope: Scope) -> str | None:
    return f"Not shown here: {listed(scope.left_out)}." if scope.left_out else None


RULES: tuple[tuple[int, Callable[[Scope], str | None]], ...] = (  # those of kinds stand between them
    (100, _self_test), (95, _attacks), (90, _adaptive), (85, _few), (80, _missing), (75, _many), (70, _seeds),
    (65, _transfer), (60, _labels), (55, _counts), (45, _compares), (35, _batch_norm), (30, _repeat), (25, _strength),
    (20, _promise), (5, _left_out),
)  # fmt: skip
