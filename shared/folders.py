"""Folders that are lists: a module is on the list because it lies there."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from shared.errors import PluginImportError


def import_folder(package: str) -> list[ModuleType]:
    """Every module of a package whose name does not begin with `_`, by name.

    `shared.code` counts all of them to whatever imports a package that calls this.

    Raises:
        PluginImportError: one does not import; the message names its file.
    """
    found = []
    for module in sorted(pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda m: m.name):
        if module.name.startswith("_"):
            continue
        name = f"{package}.{module.name}"
        try:
            found.append(importlib.import_module(name))
        except Exception as error:  # whatever a file raises at import, its name must be told
            path = name.replace(".", "/") + ".py"
            raise PluginImportError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return found
