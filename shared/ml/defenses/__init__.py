"""The folder is the list: one file per defense. See README.md."""

from shared.registry import Registry

registry = Registry("defense", __name__)
