"""What an audit did not try, in short items that stand beside the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shared.reporting.forgetting_tests import TESTS
from shared.reporting.formatting import join_words
from shared.reporting.models import Row
from shared.reporting.notes import find_unattacked_defenses
from shared.reporting.standards import list_privacy_tests
from shared.roles import Role

Rows = Sequence[Row]
EDPB = "European Data Protection Board (EDPB)"


def list_not_tested(rows: Rows) -> list[str]:
    """Attackers, tests and circumstances that no row covers."""
    attackers = [words for words, is_untried in UNTRIED_ATTACKERS if is_untried(rows)]
    tests: dict[str, list[str]] = {}
    for one in list_privacy_tests(rows):
        tests.setdefault(one.status, []).append(one.test)
    items = []
    if attackers:
        items.append(f"Attackers who {join_words(attackers, 'or')}.")
    if untested := tests.get("not_tested"):
        items.append(f"Of the tests named by the {EDPB}: {join_words(untested)}.")
    if partial := tests.get("tested_in_part"):
        name = "the EDPB’s tests" if untested else f"the tests named by the {EDPB}"
        items.append(f"Of {name}, tested only in part: {join_words(partial)}.")
    if text := _describe_forgetting_tests(rows):
        items.append(text)
    if all(row.defense.method == "none" for row in rows):
        items.append("Defenses.")
    return [*items, "Other data sets, architectures and base models."]


def _describe_forgetting_tests(rows: Rows) -> str | None:
    tests = [row.forgetting.tests for row in rows if row.forgetting is not None]
    if not tests:
        return "Whether the samples were forgotten."
    untried = [
        name for field, name in TESTS.items() if all(getattr(one, field) is None for one in tests)
    ]
    return f"Of the tests of forgetting: {join_words(untried)}." if untried else None


def _lacks_access(access: str) -> Callable[[Rows], bool]:
    return lambda rows: all(row.threat_model.get("access") != access for row in rows)


def _lacks_role(role: Role) -> Callable[[Rows], bool]:
    return lambda rows: all(role not in row.threat_model.get("observes", []) for row in rows)


def _lacks_comparison(rows: Rows) -> bool:
    """Only of several deletions, a comparison could be made."""
    several = any(row.deletions > 1 for row in rows)
    return several and all("released_models" not in row.threat_model for row in rows)


# after "attackers who"; each with the rule whether none was tried
UNTRIED_ATTACKERS: tuple[tuple[str, Callable[[Rows], bool]], ...] = (
    ("hold the models", _lacks_access("white_box")),
    ("can only query the models", _lacks_access("black_box")),
    ("hold the weights that training started from", _lacks_role(Role.BASE)),
    ("know the classes of the deleted samples", _lacks_role(Role.LABELS)),
    ("compare several deletions", _lacks_comparison),
    ("know the defense", lambda rows: bool(find_unattacked_defenses(rows))),
)
