"""What this worker can run. `python -m workers.catalog` prints it as JSON; a worker publishes it at
start.

`--publish` does that before there is any worker: a gateway that is up first plans with the catalog
of this code. Loading is all or nothing: a plugin that does not import stops the worker, with its
file's name.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from dataclasses import dataclass
from importlib import metadata

from shared.catalog import Catalog, CatalogEntry
from shared.code_digest import compute_code_digest
from shared.config import load_settings
from shared.errors import InvalidRequest, PalimpsestError, PluginImportError
from shared.jobs import worker_registry
from shared.jobs.database import Database
from shared.jobs.pipeline import Pipeline
from shared.wiring import ModelOrigin


@dataclass(frozen=True)
class WorkerDescription:
    """A worker's catalog, and the facts of its machine that a result depends on."""

    catalog: Catalog
    device: str  # "cpu", or the GPU's name
    versions: dict[str, str]


def load_catalog() -> Catalog:
    """Import every plugin and describe it.

    Raises:
        PluginImportError: names the file that is broken, or the stages that no audit could run
            together.
    """
    # nearly all that imports make is kept: a collector that looks for garbage in it all the while
    # takes an eighth of the time
    gc.disable()
    try:
        from shared.ml import REGISTRIES
        from workers.stages import registry as stages

        catalog = Catalog(
            CatalogEntry.from_plugin(p, compute_code_digest(p.module))
            for registry in (*REGISTRIES, stages)
            for p in registry
        )
    finally:
        gc.enable()
    gc.freeze()
    try:
        for models in ModelOrigin:
            Pipeline.from_catalog(catalog, models)
    except InvalidRequest as error:
        raise PluginImportError(error.message) from error
    return catalog


def get_device_kind() -> str:
    """ "cpu", or the name of the GPU that jobs run on."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def describe_worker() -> WorkerDescription:
    """Everything a worker publishes about itself."""
    packages = ("torch", "torchvision", "celery", "sqlalchemy")
    versions = {name: metadata.version(name) for name in packages}
    return WorkerDescription(
        load_catalog(), get_device_kind(), {**versions, "python": sys.version.split()[0]}
    )


def main(arguments: list[str] | None = None) -> int:
    """Print or publish the catalog; exit 1 with one sentence when a plugin is broken or the store
    does not answer."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.catalog",
        description="Print the catalog: the plugins that this worker can run.",
    )
    parser.add_argument(
        "--publish", action="store_true", help="publish it in the job store instead of printing it"
    )
    publish = parser.parse_args(arguments).publish
    try:
        settings, catalog = load_settings(), load_catalog()
        if publish:
            db = Database(settings.database_url)
            worker_registry.publish_catalog(db, catalog)
            db.close()
        else:
            print(json.dumps(catalog.to_json(), indent=2, sort_keys=True))  # noqa: T201 - what this command is for
    except PalimpsestError as error:
        print(f"palimpsest: {error}", file=sys.stderr)  # noqa: T201 - read by whoever starts the workers
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
