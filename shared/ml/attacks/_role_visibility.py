"""Checks, when an attack is registered, that it declares only roles an attacker may see."""

from __future__ import annotations

from shared.errors import PluginImportError
from shared.plugins import AttackPlugin
from shared.roles import Role, Visibility

ADAPTIVE_SETTING = ("adaptive", "True")  # the parameter and value of an adaptive attacker


def require_visible_roles(plugin: AttackPlugin) -> None:
    """Refuse an attack that declares a role no attacker may see.

    Raises:
        PluginImportError: names the role and who it is for.
    """
    declared = [(role, False) for role in (*plugin.needs, *plugin.uses)]
    for param, by_value in plugin.needs_when.items():
        for value, roles in by_value.items():
            declared += [(role, (param, value) == ADAPTIVE_SETTING) for role in roles]
    for name, adaptive in declared:
        role = Role.__members__.get(name)
        if role is None:
            raise PluginImportError(
                f"attack {plugin.name!r} declares the unknown role {name}; see shared/roles.py"
            )
        if role.visibility is Visibility.AUDITOR:
            raise PluginImportError(
                f"attack {plugin.name!r} declares {name}, which is visible to the auditor only"
            )
        if role.visibility is Visibility.ADAPTIVE and not adaptive:
            raise PluginImportError(
                f"attack {plugin.name!r} declares {name}, which is visible to adaptive attackers "
                "only: needs_when={'adaptive': {'True': (...)}}"
            )
