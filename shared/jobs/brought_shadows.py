"""Audits of brought models with p-values: what shadow deletions need that only the user knows."""

from __future__ import annotations

from shared.catalog import Catalog
from shared.errors import InvalidRequest
from shared.jobs.brought import list_brought_parts
from shared.jobs.spec import AuditSpec
from shared.plugin_ref import PluginRef
from shared.roles import Role
from shared.shadows import find_unrepeatable_role

RETAINED = "retained"  # the parameter of a data set that holds retained samples of its own


def check_brought_p_values(spec: AuditSpec, catalog: Catalog) -> None:
    """Refuse p-values of brought models if something is missing to repeat the deletions.

    Raises:
        InvalidRequest: it says what to bring, and names the field.
    """
    if not spec.is_brought or not spec.p_values:
        return
    if all(release.method is None for release in spec.releases):
        raise InvalidRequest(
            "p-values come from shadow deletions, which repeat the unlearning method of a release: "
            "state it as method of at least one release, or remove p_values",
            "releases.0.method",
        )
    if spec.ingest.get("recipe") is None:
        raise InvalidRequest(
            "p-values come from shadow deletions, which use the recipe of training: bring it as "
            "ingest.recipe, or remove p_values",
            "ingest.recipe",
        )
    _require_samples(spec, catalog)
    for place, release in enumerate(spec.releases):
        if release.method is not None:
            _require_repeatable(release.method, spec, catalog, f"releases.{place}.method")


def _require_samples(spec: AuditSpec, catalog: Catalog) -> None:
    """Deleted and retained samples are there.

    Raises:
        InvalidRequest: they are not, or there is no such data set.
    """
    entry = None
    if spec.dataset is not None:
        entry = catalog.get("dataset", spec.dataset.name, "dataset.name")
    parts = list_brought_parts(spec, catalog, spec.ingest)
    if entry is None or spec.dataset is None or not parts["with_deleted"]:
        raise InvalidRequest(
            "p-values need the deleted samples and retained ones: bring both, or remove p_values",
            "dataset",
        )
    if RETAINED in entry.properties:
        is_there, field = spec.dataset.params.get(RETAINED) is not None, "dataset.params.retained"
    else:
        is_there, field = spec.ingest.get("trained_on_all") is True, "ingest.trained_on_all"
    if not is_there:
        what = (
            "bring some as retained"
            if RETAINED in entry.properties
            else "set trained_on_all, if the original was trained on all of the train split"
        )
        raise InvalidRequest(
            "p-values come from shadow deletions, which delete retained samples (the original was "
            f"trained on them, and no deletion forgot them): {what}, or remove p_values",
            field,
        )


def _require_repeatable(method: PluginRef, spec: AuditSpec, catalog: Catalog, field: str) -> None:
    """The method needs nothing that shadow deletions of brought models do not have.

    Raises:
        InvalidRequest: it does, or there is no such method.
    """
    needs = catalog.get("unlearning", method.name, f"{field}.name").list_needs(method.params)
    lacking = find_unrepeatable_role(needs)
    way = "state another method, or remove it"
    if lacking is None and Role.BASE in needs and spec.base is None:
        lacking, way = Role.BASE, "bring the weights that training started from, as base"
    if lacking is not None:
        raise InvalidRequest(
            f"no p-values for {method.name}: it needs {lacking}, which shadow deletions of this "
            f"model do not have; {way}",
            field,
        )
