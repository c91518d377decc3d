"""The two calls of the Kubernetes API that are needed: list pods, and annotate one."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from shared.errors import Conflict, InvalidRequest, NotFound, PalimpsestError, TransientError

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
# where a pod finds what its account may use
ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PAGE_PODS = 500
MAX_PAGES = 20
MAX_BODY_BYTES = 8 << 20  # of one page; of a pod only its metadata is asked for
TIMEOUT_S = 10.0
# the names, labels and annotations, without the specs
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_POD_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class AccessDenied(PalimpsestError):
    """The account may not do this, or its token is not valid."""


class _Metadata(BaseModel):
    name: str = Field(max_length=253, pattern=f"^{_POD_NAME.pattern}$")
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = Field(None, alias="deletionTimestamp")


class _Pod(BaseModel):
    metadata: _Metadata


class _ListMetadata(BaseModel):
    next_page: str | None = Field(None, alias="continue", max_length=8192)


class _PodPage(BaseModel):
    metadata: _ListMetadata
    items: list[_Pod] = Field(max_length=PAGE_PODS)


class PodApi:
    """The pods of one namespace, as the account of this process sees them.

    Args:
        base_url: of the API server.
        read_token: gives the account's token; asked before each call, as Kubernetes replaces it.
        tls: verifies the API server.
    """

    def __init__(
        self, base_url: str, namespace: str, read_token: Callable[[], str], tls: ssl.SSLContext
    ) -> None:
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self._read_token = read_token
        # no proxy of the environment, no redirect: the token goes to this server only
        self._http = httpx.Client(
            base_url=base_url,
            verify=tls,
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def list_costs(self, selector: str) -> dict[str, str | None]:
        """The deletion cost of each pod with these labels, None for one without; pods that are being
        deleted are left out.

        Raises:
            AccessDenied: the account may not list pods.
            TransientError: no usable answer; the same call may work later.
        """
        costs: dict[str, str | None] = {}
        parameters = {"labelSelector": selector, "limit": str(PAGE_PODS)}
        for _ in range(MAX_PAGES):
            page = _parse_page(self._call("GET", self._pods_path, parameters))
            for pod in page.items:
                if pod.metadata.deletion_timestamp is None:
                    costs[pod.metadata.name] = (pod.metadata.annotations or {}).get(ANNOTATION)
            if not page.metadata.next_page:
                return costs
            parameters["continue"] = page.metadata.next_page
        raise TransientError(f"the Kubernetes API lists more than {MAX_PAGES * PAGE_PODS} pods")

    def set_cost(self, pod: str, cost: int) -> None:
        """Annotate a pod of `list_costs`.

        Raises:
            NotFound: it is gone.
            Conflict: somebody else changed it at the same moment.
            AccessDenied: the account may not patch pods.
            TransientError: no usable answer; the same call may work later.
        """
        patch = {"metadata": {"annotations": {ANNOTATION: str(cost)}}}
        self._call("PATCH", f"{self._pods_path}/{pod}", body=patch)

    def _call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The body of a successful answer."""
        headers = {
            "Authorization": f"Bearer {self._read_token()}",
            "Accept": _METADATA_ONLY if body is None else "application/json",
            "Content-Type": "application/merge-patch+json",
        }
        content = None if body is None else json.dumps(body).encode()
        try:
            with self._http.stream(
                method, path, params=parameters, headers=headers, content=content
            ) as response:
                _check_status(response.status_code, method)
                return _read_bounded(response)
        except httpx.HTTPError as error:
            raise TransientError(
                f"the Kubernetes API does not answer: {type(error).__name__}"
            ) from error


def _check_status(status: int, method: str) -> None:
    action = "list" if method == "GET" else "patch"
    if status == 401:
        raise AccessDenied("the Kubernetes API refuses the token of this process (401)")
    if status == 403:
        raise AccessDenied(
            f"the Kubernetes API does not let this process {action} pods (403): its account needs a "
            f"Role with the verb {action} for pods, see deploy/k8s/components/keda/pod-costs.yaml"
        )
    if status == 404 and method == "PATCH":
        raise NotFound("the pod is gone")
    if status == 409:
        raise Conflict("the pod was changed at the same moment")
    if status != 200:  # 410: the list was too old to go on with; 429; 5xx
        raise TransientError(f"the Kubernetes API answered {status} to {method}")


def _read_bounded(response: httpx.Response) -> bytes:
    data = bytearray()
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise TransientError(
                f"the Kubernetes API answered with more than {MAX_BODY_BYTES} bytes"
            )
    return bytes(data)


def _parse_page(body: bytes) -> _PodPage:
    try:
        return _PodPage.model_validate_json(body)
    except ValidationError as error:
        raise TransientError(
            f"the Kubernetes API answered with something that is no list of pods: "
            f"{error.error_count()} errors"
        ) from None


def connect_in_cluster(folder: Path = ACCOUNT_FOLDER) -> PodApi:
    """The API of the cluster that this process runs in.

    Args:
        folder: where the token, the namespace and the certificate authority are.

    Raises:
        InvalidRequest: the process has no account.
    """
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        namespace = (folder / "namespace").read_text().strip()
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        (folder / "token").read_text()
    except OSError as error:
        raise InvalidRequest(
            f"this process has no account of Kubernetes ({error.strerror}): run it in a pod with "
            "automountServiceAccountToken: true"
        ) from error
    address = f"[{host}]" if ":" in host else host
    return PodApi(
        f"https://{address}:{port}", namespace, lambda: _read_token(folder / "token"), tls
    )


def _read_token(path: Path) -> str:
    """Raises TransientError."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise TransientError(f"the account's token cannot be read: {error.strerror}") from error
