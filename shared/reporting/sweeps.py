"""A defense at several strengths: curves of leakage, utility and forgetting, and the operating
point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import Field

from shared.evaluation import WIDEST, FrozenModel, Share
from shared.jobs.spec import AuditSpec
from shared.plugin_ref import validate_model
from shared.reporting.evaluations import method_key
from shared.reporting.findings import MAX_ACCURACY_LOSS, undoes_unlearning
from shared.reporting.formatting import join_words, list_columns, matches_attack
from shared.reporting.kinds import find_main_metric
from shared.reporting.models import Leak, Method, Missing, Row, Setting, Sweep, Utility
from shared.reporting.overview import OUTCOMES, WORST_FIRST, average_utility, find_worst_outcome

MIN_SETTINGS = 3  # minimum number of settings for a curve


class Budget(FrozenModel):
    """The accuracy that a defense may cost."""

    max_accuracy_cost: Share = Field(MAX_ACCURACY_LOSS, strict=True)


@dataclass(frozen=True)
class Option:
    """A candidate for the operating point."""

    setting: Setting
    recalled: bool  # whether the defense undoes the unlearning
    incomplete: bool  # whether an attack on it is missing


def build_sweeps(rows: Sequence[Row], missing: Sequence[Missing], spec: AuditSpec) -> list[Sweep]:
    """One sweep per unlearning method and defense released at several strengths.

    Raises:
        InvalidRequest: the accuracy budget is not a share.
    """
    budget = validate_model(Budget, spec.defend, "audit.defend", "params.audit").max_accuracy_cost
    built = []
    for unlearning in {method_key(row.unlearning): row.unlearning for row in rows}.values():
        method_rows = [row for row in rows if method_key(row.unlearning) == method_key(unlearning)]
        undefended = [row for row in method_rows if row.defense.method == "none"]
        for defense in dict.fromkeys(row.defense.method for row in method_rows):
            released = [row for row in method_rows if row.defense.method == defense]
            strength = _find_strength(released)
            if strength is None:
                continue
            attacks = list_columns(released)
            options = []
            for group in _group_by_setting(released, strength):
                setting = _build_setting(group, attacks, strength, undefended)
                incomplete = len(setting.leaks) < len(attacks) or _lacks_attack(group[0], missing)
                options.append(Option(setting, undoes_unlearning(group, undefended), incomplete))
            point, why = _choose_operating_point(options, budget)
            built.append(
                Sweep(
                    unlearning=unlearning,
                    defense=defense,
                    strength=strength,
                    max_accuracy_cost=budget,
                    settings=[option.setting for option in options],
                    undefended=_build_setting(undefended, attacks, None, undefended)
                    if undefended
                    else None,
                    operating_point=point,
                    reason=why,
                )
            )
    return built


def _find_strength(rows: Sequence[Row]) -> str | None:
    """The one numeric parameter in which the releases of a defense differ, if there are enough for
    a curve."""
    params = [row.defense.params for row in rows]
    differing = {name for p in params for name in p if any(q.get(name) != p[name] for q in params)}
    if len(differing) != 1:
        return None
    (name,) = differing
    values = [p.get(name) for p in params]
    numeric = all(_is_strength(value) for value in values)
    return name if numeric and len({*values}) >= MIN_SETTINGS else None


def _is_strength(value: object) -> bool:
    """Whether a parameter's value can be an axis of a curve."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= WIDEST


def _group_by_setting(rows: Sequence[Row], strength: str) -> list[list[Row]]:
    """Rows by setting, weakest first."""
    values = sorted({row.defense.params[strength] for row in rows})
    return [[row for row in rows if row.defense.params[strength] == value] for value in values]


def _build_setting(
    rows: Sequence[Row], attacks: Sequence[Method], strength: str | None, undefended: Sequence[Row]
) -> Setting:
    """All attacks and seeds on one release. Without a defense, adaptive attacks equal their plain
    variant."""
    leaks = []
    for attack in attacks:
        own = [row for row in rows if matches_attack(row, attack)]
        metric = find_main_metric(own[0].metrics) if own else None
        scores = [row.metrics[metric] for row in own if metric in row.metrics]
        if metric is None or not scores:
            continue
        # the interval of one seed is not one over seeds
        only_score = scores[0] if len(scores) == 1 else None
        baselines = [score.baseline for score in scores if score.baseline is not None]
        leaks.append(
            Leak(
                attack=attack,
                metric=metric,
                unit=scores[0].unit,
                higher_is_better=scores[0].higher_is_better,
                outcome=find_worst_outcome([row.finding for row in own]),
                mean=fmean(score.mean for score in scores),
                low=only_score.low if only_score else min(score.mean for score in scores),
                high=only_score.high if only_score else max(score.mean for score in scores),
                baseline=fmean(baselines) if baselines else None,
                n=sum(score.n for score in scores),
            )
        )
    utility, undefended_utility = average_utility(rows), average_utility(undefended)
    return Setting(
        value=rows[0].defense.params[strength] if strength else None,
        leaks=leaks,
        test_accuracy=utility.test_accuracy if utility else None,
        forget_accuracy=utility.forget_accuracy if utility else None,
        accuracy_cost=_subtract(undefended_utility, utility),
    )


def _subtract(undefended: Utility | None, utility: Utility | None) -> float | None:
    """Test accuracy that a defense costs; None if it is not known."""
    if undefended is None or undefended.test_accuracy is None:
        return None
    if utility is None or utility.test_accuracy is None:
        return None
    return undefended.test_accuracy - utility.test_accuracy


def _lacks_attack(row: Row, missing: Sequence[Missing]) -> bool:
    """Whether an attack on the row's release is missing, for any seed."""
    release = method_key(row.unlearning), method_key(row.defense)
    return any(
        one.attack and (method_key(one.unlearning), method_key(one.defense)) == release
        for one in missing
    )


def _choose_operating_point(options: Sequence[Option], budget: float) -> tuple[float | None, str]:
    """The weakest of the settings within the budget that forget and whose worst attack leaks least.

    Settings with a missing attack are left out: missing rows may leak.
    """
    costs = [(option, option.setting.accuracy_cost) for option in options if option.setting.leaks]
    known = [(option, cost) for option, cost in costs if cost is not None]
    if not known:
        return (
            None,
            "The accuracy cost of the settings is unknown: there is no undefended release to "
            "compare with.",
        )
    affordable = [option for option, cost in known if cost <= budget + 1e-9]
    if not affordable:
        return None, (
            f"Every setting costs more than {100 * budget:g} points of test accuracy; the "
            f"cheapest costs {100 * min(cost for _, cost in known):.1f}."
        )
    forgetting = [option for option in affordable if not option.recalled]
    if not forgetting:
        return (
            None,
            "Every setting within the budget undoes the unlearning: forget accuracy is as high as "
            "before.",
        )
    left_out = _left_out([option.setting for option in forgetting if option.incomplete])
    complete = [option.setting for option in forgetting if not option.incomplete]
    if not complete:
        return (
            None,
            "Of the settings that are within the budget and still forget, none was attacked by "
            f"every attack.{left_out}",
        )

    def rank_harm(setting: Setting) -> tuple[int, int]:
        outcomes = [WORST_FIRST.index(leak.outcome) for leak in setting.leaks]
        return -min(outcomes), sum(outcome == 0 for outcome in outcomes)

    best = min(complete, key=rank_harm)  # the first of equals: the weakest
    outcome_word = OUTCOMES[
        min((leak.outcome for leak in best.leaks), key=WORST_FIRST.index)
    ].lower()
    leaking = rank_harm(best)[1]
    rest = (
        f": {leaking} of {len(best.leaks)} attacks still leak"
        if leaking
        else f" (worst outcome: {outcome_word})"
    )
    return best.value, (
        f"The weakest of the settings that cost at most {100 * budget:g} points of test accuracy "
        f"and leak least{rest}. It costs {_format_points(best.accuracy_cost or 0.0)}. The choice "
        f"depends on the attacks that were run; other attacks may find more leakage.{left_out}"
    )


def _left_out(settings: Sequence[Setting]) -> str:
    """Names the settings that were left out because an attack is missing."""
    if not settings:
        return ""
    values = join_words([f"{setting.value:g}" for setting in settings])
    were, each = ("was", "it") if len(settings) == 1 else ("were", "each")
    return f" {values} {were} left out: an attack on {each} is missing, and missing rows may leak."


def _format_points(cost: float) -> str:
    return f"{100 * cost:.1f} points" if cost > 0 else "no test accuracy"
