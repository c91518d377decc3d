"""The folder is the list: one file per stage. See README.md."""

from shared.plugins import StagePlugin
from shared.registry import Registry

registry = Registry(StagePlugin, __name__, one_a_file=True)
