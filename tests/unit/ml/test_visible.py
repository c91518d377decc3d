"""No attack declares a role of the auditor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import PluginImportError
from shared.ml import attacks
from shared.ml.attacks._role_visibility import require_visible_roles
from shared.plugins import AttackPlugin
from shared.roles import Role, Visibility


def attack(**described: Any) -> AttackPlugin:
    return AttackPlugin(name="nosy", target=lambda: None, access="white_box", **described)


DECLARED: list[Callable[[Role], dict[str, Any]]] = [
    lambda role: {"needs": (Role.UNLEARNED, role)},
    lambda role: {"uses": (role,)},
    lambda role: {"needs_when": {"labels": {"given": (role,)}}},
    lambda role: {"needs_when": {"adaptive": {"False": (role,)}}},
]


@pytest.mark.parametrize("declare", DECLARED)
@pytest.mark.parametrize("role", Role)
def test_an_attack_may_declare_what_an_attacker_may_see(
    role: Role, declare: Callable[[Role], dict[str, Any]]
) -> None:
    plugin = attack(**declare(role))
    if role.visibility is Visibility.ATTACKER:
        require_visible_roles(plugin)
    else:
        with pytest.raises(
            PluginImportError, match=f"attack 'nosy' declares {role}, which is visible to"
        ):
            require_visible_roles(plugin)


@pytest.mark.parametrize("role", Role)
def test_one_who_knows_the_defense_may_see_that_too_and_no_more(role: Role) -> None:
    plugin = attack(needs_when={"adaptive": {"True": (role,)}})
    if role.visibility is Visibility.AUDITOR:
        with pytest.raises(
            PluginImportError, match=f"{role}, which is visible to the auditor only"
        ):
            require_visible_roles(plugin)
    else:
        require_visible_roles(plugin)


def test_what_an_attacker_may_see_is_this() -> None:
    """Written out again on purpose: who makes it longer means it."""
    assert {role for role in Role if role.visibility is Visibility.ATTACKER} == {
        Role.BASE,
        Role.ORIGINAL,
        Role.UNLEARNED,
        Role.RELEASED,
        Role.PUBLIC,
        Role.DELETION_SIZES,
        Role.LABELS,
        Role.PROBES,
        Role.CANDIDATES,
        Role.POPULATION,
    }
    assert {role for role in Role if role.visibility is Visibility.ADAPTIVE} == {
        Role.DEFENSE,
        Role.AVERAGED_RELEASES,
    }


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(PluginImportError, match="declares the unknown role TRUTH"):
        require_visible_roles(attack(uses=("TRUTH",)))


def test_an_attack_that_asks_for_the_truth_is_not_registered() -> None:
    def nosy() -> None:
        """Looks."""

    with pytest.raises(PluginImportError, match="FORGET_SETS"):
        attacks.registry.register("nosy", access="white_box", uses=(Role.FORGET_SETS,))(nosy)
    assert "nosy" not in attacks.registry
