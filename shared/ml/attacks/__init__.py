"""The folder is the list: one file per attack. See README.md."""

from shared.ml.attacks._role_visibility import require_visible_roles
from shared.plugins import AttackPlugin
from shared.registry import Registry

registry = Registry(AttackPlugin, __name__, require_visible_roles)
