"""The folder is the list: one file per model. See README.md."""

from shared.plugins import ModelPlugin
from shared.registry import Registry

registry = Registry(ModelPlugin, __name__)
