"""Folders that are lists: what a module defines is on the list because the module lies there."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from shared.errors import PluginImportError


def collect_from_modules(package: str, name: str) -> list[Any]:
    """What every module of a package calls `name`, by the modules' names; those that begin with `_`
    are helpers.

    `shared.code_digest` counts all modules of a package that calls this to whatever imports the
    package.

    Raises:
        PluginImportError: a module does not import, or defines no such name; the message names its
            file.
    """
    values = []
    for module in sorted(
        pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda m: m.name
    ):
        if module.name.startswith("_"):
            continue
        path = f"{package}.{module.name}".replace(".", "/") + ".py"
        try:
            imported = importlib.import_module(f"{package}.{module.name}")
        except Exception as error:  # whatever a file raises at import, the error must name it
            raise PluginImportError(
                f"{path} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if not hasattr(imported, name):
            raise PluginImportError(
                f"{path} defines no {name}: define it, or start the file's name with _"
            )
        values.append(getattr(imported, name))
    return values
