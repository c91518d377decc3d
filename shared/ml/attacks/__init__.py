"""The folder is the list: one file per attack. See README.md."""

from shared.ml.attacks._visible import require_visible
from shared.plugins import AttackPlugin
from shared.registry import Registry

registry = Registry(AttackPlugin, __name__, require_visible)
