"""The folder is the list: one file a model. See README.md."""

from shared.registry import Registry

registry = Registry("model", __name__)
