"""What this worker can run. `python -m workers.catalog` prints it as JSON; a worker publishes it at start.

Loading is all or nothing: a plugin that does not import stops the worker, with its file's name.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib import metadata

from shared.catalog import Catalog, Entry
from shared.code import digest_of
from shared.errors import PluginImportError


@dataclass(frozen=True)
class Description:
    """A worker's catalog, and the facts of its machine that a result depends on."""

    catalog: Catalog
    device: str  # "cpu", or the GPU's name
    versions: dict[str, str]


def load() -> Catalog:
    """Import every plugin and describe it.

    Raises:
        PluginImportError: names the file that is broken.
    """
    from shared.ml import REGISTRIES
    from workers.stages import registry as stages

    return Catalog(Entry.of(p, digest_of(p.module)) for registry in (*REGISTRIES, stages) for p in registry)


def device_kind() -> str:
    """ "cpu", or the name of the GPU that jobs run on."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def describe() -> Description:
    """Everything a worker publishes about itself."""
    packages = ("torch", "torchvision", "celery", "sqlalchemy")
    versions = {name: metadata.version(name) for name in packages}
    return Description(load(), device_kind(), {**versions, "python": sys.version.split()[0]})


def main() -> int:
    """Print the catalog; exit 1 with one sentence when a plugin is broken."""
    try:
        print(json.dumps(load().to_json(), indent=2, sort_keys=True))  # noqa: T201 - printing is what this command does
    except PluginImportError as error:
        print(f"palimpsest: {error}", file=sys.stderr)  # noqa: T201 - read by whoever started the worker
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
