"""The folder is the list: one file per dataset. See README.md."""

from shared.registry import Registry

registry = Registry("dataset", __name__)
