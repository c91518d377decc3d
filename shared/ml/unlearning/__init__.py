"""The folder is the list: one file per unlearning. See README.md."""

from shared.registry import Registry

registry = Registry("unlearning", __name__)
