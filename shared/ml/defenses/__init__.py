"""The folder is the list: one file per defense. See README.md."""

from shared.plugins import DefensePlugin
from shared.registry import Registry

registry = Registry(DefensePlugin, __name__)
