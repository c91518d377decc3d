"""The folder is the list: one file per unlearning. See README.md."""

from shared.plugins import UnlearningPlugin
from shared.registry import Registry

registry = Registry(UnlearningPlugin, __name__)
