"""The folder is the list: one file per dataset. See README.md."""

from shared.plugins import DatasetPlugin
from shared.registry import Registry

registry = Registry(DatasetPlugin, __name__)
