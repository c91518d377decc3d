"""The folder is the list: one file per metric. See README.md."""

from shared.registry import Registry

registry = Registry("metric", __name__)
