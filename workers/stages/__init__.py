"""The folder is the list: one file per stage. See README.md."""

from shared.registry import Registry

registry = Registry("stage", __name__)
