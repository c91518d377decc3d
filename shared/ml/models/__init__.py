"""The folder is the list: one file per model. See README.md."""

from shared.registry import Registry

registry = Registry("model", __name__)
