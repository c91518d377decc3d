"""What was tested in the words of others: the tests that the European Data Protection Board's
Opinion 28/2024 names, and attackers in the terms of NIST AI 100-2.

Kinds of findings say which tests their attacks are; an unmeasured attack tests nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.reporting.evaluations import is_adaptive, method_key
from shared.reporting.formatting import Names, join_words, list_attacks
from shared.reporting.kinds import find_kind, list_kinds
from shared.reporting.models import Attacker, PrivacyTest, Row
from shared.reporting.reported_kind import ReportedKind
from shared.reporting.threat_models import describe_given
from shared.roles import Role

# in the order of the Opinion (paragraph 41)
PRIVACY_TESTS = (
    "attribute inference",
    "membership inference",
    "exfiltration",
    "regurgitation of training data",
    "model inversion",
    "reconstruction",
)
OUT_OF_SCOPE = {
    "exfiltration": "Palimpsest does not test whether data or models can be taken out of the "
    "systems that hold them.",
    "regurgitation of training data": "Palimpsest does not test whether a generative model repeats "
    "its training data: the models that it audits classify, and generate nothing.",
}
NOT_MEASURED = "No attack of this kind was measured in this audit."
CAPABILITIES = {
    "white_box": "Holds copies of the models. Controls no training data and no test data, changes "
    "no model and sends no queries.",
    "black_box": "Query access: chooses inputs and reads the outputs of the models. Controls no "
    "training data and changes no model.",
}
KNOWLEDGE = {"white_box": "White box: architecture and weights", "black_box": "Black box: outputs"}
NOT_STATED = "Not stated."


def list_privacy_tests(rows: Sequence[Row]) -> list[PrivacyTest]:
    """The six tests of the Opinion, each with the attacks of these rows that are such a test."""
    names = Names(rows)
    return [_describe_test(test, rows, names) for test in PRIVACY_TESTS]


def _describe_test(test: str, rows: Sequence[Row], names: Names) -> PrivacyTest:
    attacks: dict[str, None] = {}
    scopes: dict[str, bool] = {}
    for kind in list_kinds():
        scope = next((one for one in kind.privacy_tests if one.test == test), None)
        own_rows = [row for row in rows if find_kind(row.metrics) is kind]
        if scope is not None and own_rows:
            attacks |= dict.fromkeys(names(row.attack) for row in own_rows)
            scopes[scope.extent] = scope.in_part
    if not scopes:
        extent = OUT_OF_SCOPE.get(test, NOT_MEASURED)
        return PrivacyTest(test=test, status="not_tested", attacks=[], extent=extent)
    return PrivacyTest(
        test=test,
        status="tested_in_part" if all(scopes.values()) else "tested",
        attacks=list(attacks),
        extent=" ".join(scopes),
    )


def describe_attackers(rows: Sequence[Row]) -> list[Attacker]:
    """Goal, capability and knowledge of each attack's attacker, in the rows' order."""
    by_attack: dict[tuple[str, str], Row] = {}
    for row in rows:
        by_attack.setdefault(method_key(row.attack), row)
    return [_describe_attacker(by_attack[method_key(attack)]) for attack in list_attacks(rows)]


def _describe_attacker(row: Row) -> Attacker:
    access = str(row.threat_model.get("access"))
    kind = find_kind(row.metrics) or _find_unscored_kind(row)
    given = [
        words for role, words in describe_given(row) if role not in (Role.ORIGINAL, Role.UNLEARNED)
    ]
    knowledge = [KNOWLEDGE[access], *given] if access in KNOWLEDGE else given
    if is_adaptive(row.attack) and not any("defense" in one for one in given):
        knowledge.append("the defense of the release")
    return Attacker(
        attack=row.attack,
        goal=(kind.attacker_goal if kind else "") or NOT_STATED,
        capability=CAPABILITIES.get(access, NOT_STATED),
        knowledge=f"{join_words(knowledge)}." if knowledge else NOT_STATED,
    )


def _find_unscored_kind(row: Row) -> ReportedKind | None:
    """The kind of what came back without a truth."""
    return next(
        (kind for kind in list_kinds()
         if row.unscored and kind.unscored and getattr(row.unscored, kind.unscored)),
        None,
    )  # fmt: skip
