"""Audit with declared names -> audit with digests, before anything is planned: keys and lineage do
not depend on names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs.declarations import Declaration, DeclarationState, Kind
from shared.jobs.declared_refs import (
    DATASET_PREFIX,
    DECLARED,
    MODEL_PREFIX,
    Reference,
    parse_reference,
)
from shared.jobs.spec import AuditSpec
from shared.plugin_ref import PluginRef

# by kind, name and version (None: the newest); raises NotFound
FindDeclaration = Callable[[Kind, str, int | None], Declaration]

# what a check has read; None if that is not known
ReadInspection = Callable[[Declaration], Mapping[str, Any] | None]

_NORMALISATION = ("mean", "std")
_INGEST = ("input_shape", "num_classes", *_NORMALISATION)


def resolve_declared(
    spec: AuditSpec,
    find: FindDeclaration,
    complete_model: Callable[[PluginRef], Mapping[str, Any]],
    read_inspection: ReadInspection,
) -> AuditSpec:
    """The audit with the digest of each declared model, the plugin of its declared data set, and the
    architecture of its declared original; `declared` says which names these were.

    Args:
        complete_model: the model with all its parameters, to compare it.
        read_inspection: what the check of the data set has read, to compare it with the models.

    Raises:
        InvalidRequest: by field: there is no such declaration, it was rejected, or the audit
            contradicts it.
        Conflict: it is not checked yet, or its check has ended without a result.
    """
    return _Resolver(spec, find, complete_model, read_inspection).resolve()


def require_ready(
    find: FindDeclaration, kind: Kind, reference: Reference, field: str
) -> Declaration:
    """The declaration that is referred to.

    Raises:
        InvalidRequest: there is none, or it was rejected.
        Conflict: it is not ready.
    """
    try:
        declaration = find(kind, reference.name, reference.version)
    except NotFound as error:
        raise InvalidRequest(str(error), field) from error
    name = f"{kind.noun} {declaration.label}"
    if declaration.state is DeclarationState.CHECKING:
        raise Conflict(
            f"{field}: the {name} is still being checked: wait until job {declaration.job} has ended"
        )
    if declaration.state is DeclarationState.FAILED:
        raise Conflict(f"{field}: the {name} is not ready: {declaration.reason}")
    if declaration.state is DeclarationState.REJECTED:
        raise InvalidRequest(f"the {name} was rejected: {declaration.reason}", field)
    return declaration


class _Resolver:
    def __init__(
        self,
        spec: AuditSpec,
        find: FindDeclaration,
        complete_model: Callable[[PluginRef], Mapping[str, Any]],
        read_inspection: ReadInspection,
    ) -> None:
        self.spec, self.find, self.complete_model = spec, find, complete_model
        self.read_inspection = read_inspection
        self.names: dict[str, str] = {}
        self.by_reference: dict[tuple[Kind, Reference], Declaration] = {}

    def resolve(self) -> AuditSpec:
        spec = self.spec
        weights = {
            field: declaration
            for field, text in _list_weights(spec)
            if (declaration := self._find_named(Kind.MODEL, MODEL_PREFIX, text, field))
        }
        choice = spec.dataset
        dataset = choice and self._find_named(Kind.DATASET, DATASET_PREFIX, choice.name, "dataset")
        self._keep_names()
        updates: dict[str, Any] = {"declared": self.names}
        if weights:
            updates |= self._take_architecture(weights)
            updates |= self._replace_weights(weights)
        if dataset:
            if choice and choice.params:
                raise InvalidRequest(
                    f"the data set {dataset.label} was declared with its parameters: remove these, "
                    "or declare another",
                    "dataset.params",
                )
            self._require_fit(dataset, updates.get("ingest", spec.ingest))
            updates["dataset"] = PluginRef.model_validate(dataset.spec["dataset"])
        resolved = spec.model_copy(update=updates)
        try:
            if spec.retrained:
                resolved.check_retrained()  # two names may have been of one file
        except ValueError as error:
            raise InvalidRequest(str(error), "retrained") from error
        return resolved

    def _find_named(self, kind: Kind, prefix: str, text: str, field: str) -> Declaration | None:
        reference = parse_reference(text, prefix)
        if reference is None:
            return None
        declaration = self._find(kind, reference, field)
        self.names[field] = declaration.label
        return declaration

    def _find(self, kind: Kind, reference: Reference, field: str) -> Declaration:
        if (kind, reference) not in self.by_reference:
            self.by_reference[kind, reference] = require_ready(self.find, kind, reference, field)
        return self.by_reference[kind, reference]

    def _keep_names(self) -> None:
        """Keep what a repeated audit says of names, as far as it is still true."""
        weights = dict(_list_weights(self.spec))
        for field, label in self.spec.declared.items():
            kind = Kind.DATASET if field == "dataset" else Kind.MODEL
            if field in self.names or (kind is Kind.MODEL and field not in weights):
                continue
            try:
                declaration = self._find(kind, _parse_label(label), field)
            except (InvalidRequest, Conflict):
                continue
            if kind is Kind.MODEL:
                is_true = declaration.spec["weights"] == weights[field]
            else:
                choice = self.spec.dataset
                is_true = choice is not None and declaration.spec["dataset"] == choice.model_dump()
            if is_true:
                self.names[field] = declaration.label

    def _replace_weights(self, declared: Mapping[str, Declaration]) -> dict[str, Any]:
        digests = {field: str(model.spec["weights"]) for field, model in declared.items()}
        return {
            "original": digests.get("original", self.spec.original),
            "base": digests.get("base", self.spec.base),
            "releases": [
                release.model_copy(
                    update={
                        "weights": [
                            digests.get(_name_weights(r, n), text)
                            for n, text in enumerate(release.weights)
                        ]
                    }
                )
                for r, release in enumerate(self.spec.releases)
            ],
            "retrained": [
                [digests.get(_name_retrained(d, n), text) for n, text in enumerate(seeds)]
                for d, seeds in enumerate(self.spec.retrained)
            ],
        }

    def _take_architecture(self, declared: Mapping[str, Declaration]) -> dict[str, Any]:
        """Model and parameters of ingest as the original was declared; all others must agree.

        Raises:
            InvalidRequest: they do not, or the audit itself says otherwise.
        """
        spec, original = self.spec, declared.get("original")
        model, ingest = spec.model, dict(spec.ingest)
        if original is not None:
            stated = original.spec
            if model.name == DECLARED:
                model = PluginRef.model_validate(stated["model"])
            elif self.complete_model(model) != stated["model"]:
                raise self._contradict("model", original)
            for name in _INGEST:
                if name not in ingest:
                    ingest |= {name: stated[name]} if stated[name] is not None else {}
                elif _normalise(name, ingest) != _normalise(name, stated):
                    raise self._contradict(f"ingest.{name}", original)
        complete = dict(self.complete_model(model)) if len(declared) > bool(original) else {}
        for field, other in declared.items():
            if other is original:
                continue
            differing = ["model"] if complete != other.spec["model"] else []
            differing += [
                name for name in _INGEST if _normalise(name, ingest) != _normalise(name, other.spec)
            ]
            if differing:
                raise InvalidRequest(
                    f"model {other.label} was declared with another {differing[0]} than "
                    "the original: declare both with the same one, or bring other weights",
                    field,
                )
        return {"model": model, "ingest": ingest}

    def _require_fit(self, dataset: Declaration, ingest: Mapping[str, Any]) -> None:
        """
        Raises:
            InvalidRequest: the models take other images, or have other classes, than the data set.
        """
        inspection = self.read_inspection(dataset) or {}
        for name in ("input_shape", "num_classes"):
            if name in ingest and inspection.get(name, ingest[name]) != ingest[name]:
                raise InvalidRequest(
                    f"the data set {dataset.label} has the {name} {inspection[name]}, but the "
                    f"models have {ingest[name]}: declare data in the form that the models take",
                    "dataset",
                )

    @staticmethod
    def _contradict(field: str, original: Declaration) -> InvalidRequest:
        name = field.rpartition(".")[2]
        return InvalidRequest(
            f"model {original.label} was declared with another {name}: leave it out here, or declare "
            "another version",
            field,
        )


def _parse_label(label: str) -> Reference:
    """`before@2` as the gateway writes it."""
    reference = parse_reference(label, "")
    assert reference is not None
    return reference


def _list_weights(spec: AuditSpec) -> Iterator[tuple[str, str]]:
    """Every file of weights, by its field."""
    if spec.original is not None:
        yield "original", spec.original
    if spec.base is not None:
        yield "base", spec.base
    for r, release in enumerate(spec.releases):
        for n, text in enumerate(release.weights):
            yield _name_weights(r, n), text
    for deletion, seeds in enumerate(spec.retrained):
        for n, text in enumerate(seeds):
            yield _name_retrained(deletion, n), text


def _name_retrained(deletion: int, seed: int) -> str:
    return f"retrained.{deletion}.{seed}"


def _name_weights(release: int, deletion: int) -> str:
    return f"releases.{release}.weights.{deletion}"


def _normalise(name: str, params: Mapping[str, Any]) -> Any:
    """A parameter, so that what is equal compares equal: no normalisation is mean 0, std 1."""
    value = params.get(name)
    if name not in _NORMALISATION:
        return value
    if value is None:
        return None
    return None if all(one == (name == "std") for one in value) else value
