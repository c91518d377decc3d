"""The folder is the list: one file a attack. See README.md."""

from shared.registry import Registry

registry = Registry("attack", __name__)
