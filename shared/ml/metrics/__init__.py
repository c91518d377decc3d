"""The folder is the list: one file per metric. See README.md."""

from shared.plugins import MetricPlugin
from shared.registry import Registry

registry = Registry(MetricPlugin, __name__)
