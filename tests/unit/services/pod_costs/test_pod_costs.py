"""The controller of deletion costs, with a job store and a server that speaks Kubernetes' API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from services.pod_costs import __main__ as program
from services.pod_costs.pod_api import PodApi, connect_in_cluster
from services.pod_costs.rounds import plan_changes
from shared.errors import InvalidRequest, TransientError
from shared.jobs.monitoring import read_service_ages
from tests.support.job_store import JobStore, make_planned_job
from tests.support.kubernetes_api import KubernetesApi, serve_kubernetes
from tests.support.migrated import open_in_memory


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KubernetesApi, Path]]:
    folder = tmp_path_factory.mktemp("account")
    with serve_kubernetes(folder) as api:
        yield api, folder


@pytest.fixture
def kubernetes(
    served: tuple[KubernetesApi, Path], monkeypatch: pytest.MonkeyPatch
) -> KubernetesApi:
    """Without pods, and as the environment of a pod says where it is."""
    api, _ = served
    fresh = KubernetesApi(port=api.port)
    vars(api).update(vars(fresh))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    return api


@pytest.fixture
def pods(kubernetes: KubernetesApi, served: tuple[KubernetesApi, Path]) -> Iterator[PodApi]:
    client = connect_in_cluster(served[1])
    yield client
    client.close()


@pytest.fixture
def store() -> Iterator[JobStore]:
    db = open_in_memory()
    yield JobStore(db)
    db.close()


def run_round(store: JobStore, pods: PodApi) -> bool:
    return program.run_round(store.db, pods, program.WORKER_PODS)


def start_job(store: JobStore, worker: str) -> None:
    store.post(make_planned_job(worker))
    store.claim_one(worker)


def test_busy_pods_cost_more_until_their_job_has_ended(
    store: JobStore, kubernetes: KubernetesApi, pods: PodApi
) -> None:
    for name in ("attack-1", "attack-2", "attack-3"):
        kubernetes.add(name)
    kubernetes.add("gateway-1")
    kubernetes.pods["gateway-1"]["labels"]["app.kubernetes.io/component"] = "gateway"
    store.post(make_planned_job("a job"))
    claim = store.claim_one("attack-2")
    assert run_round(store, pods)
    costs = {name: kubernetes.get_cost(name) for name in sorted(kubernetes.pods)}
    assert costs == {"attack-1": None, "attack-2": "100", "attack-3": None, "gateway-1": None}
    store.finish(claim)
    assert run_round(store, pods)
    assert kubernetes.get_cost("attack-2") == "0"
    assert kubernetes.list_patched() == ["attack-2", "attack-2"]
    assert run_round(store, pods)  # nothing has changed
    assert len(kubernetes.list_patched()) == 2
    assert read_service_ages(store.db)[program.SERVICE_NAME] < 60


def test_a_restarted_controller_goes_on_from_the_annotations(
    store: JobStore, kubernetes: KubernetesApi, served: tuple[KubernetesApi, Path]
) -> None:
    """The one before was killed: it left a pod marked that is idle now, and one not marked."""
    kubernetes.add("attack-1", cost="100")
    kubernetes.add("attack-2", cost="100")
    kubernetes.add("attack-3")
    for worker in ("attack-2", "attack-3"):
        start_job(store, worker)
    client = connect_in_cluster(served[1])
    assert run_round(store, client)
    client.close()
    assert [kubernetes.get_cost(f"attack-{n}") for n in (1, 2, 3)] == ["0", "100", "100"]
    assert kubernetes.list_patched() == ["attack-3", "attack-1"]  # protect first


def test_what_must_be_protected_is_changed_first() -> None:
    costs = {"a": "100", "b": None, "c": None, "d": "0", "e": "100", "f": "-5", "g": "lots"}
    changes = plan_changes(costs, {"b", "d", "e"})
    assert changes == [("b", 100), ("d", 100), ("a", 0), ("f", 0), ("g", 0)]


def test_all_pages_are_read(store: JobStore, kubernetes: KubernetesApi, pods: PodApi) -> None:
    kubernetes.max_page = 3
    for n in range(8):
        kubernetes.add(f"attack-{n}")
    start_job(store, "attack-7")
    assert run_round(store, pods)
    assert kubernetes.get_cost("attack-7") == "100"
    assert [verb for verb, _ in kubernetes.calls] == ["list"] * 3 + ["patch"]


def test_pods_that_are_being_deleted_are_left_alone(
    store: JobStore, kubernetes: KubernetesApi, pods: PodApi
) -> None:
    kubernetes.add("attack-1", deletionTimestamp="2026-01-01T00:00:00Z")
    start_job(store, "attack-1")
    assert run_round(store, pods)
    assert kubernetes.list_patched() == []


@pytest.mark.parametrize("status", [404, 409])
def test_a_pod_that_is_gone_or_changed_does_not_stop_the_others(
    store: JobStore, kubernetes: KubernetesApi, pods: PodApi, status: int
) -> None:
    for n in (1, 2):
        kubernetes.add(f"attack-{n}")
        start_job(store, f"attack-{n}")
    kubernetes.failures = [("patch", status)]
    assert run_round(store, pods)
    assert [kubernetes.get_cost(f"attack-{n}") for n in (1, 2)] == [None, "100"]
    assert run_round(store, pods)
    assert kubernetes.get_cost("attack-1") == "100"


@pytest.mark.parametrize(
    ("verb", "status", "said"),
    [
        ("list", 403, "does not let this process list pods"),
        ("patch", 403, "does not let this process patch pods"),
        ("list", 401, "refuses the token"),
        ("list", 410, "answered 410"),
        ("patch", 429, "answered 429"),
        ("list", 500, "answered 500"),
        ("list", 302, "answered 302"),
        ("list", 404, "answered 404"),
    ],
)
def test_what_kubernetes_refuses_is_logged_and_tried_again(
    store: JobStore, kubernetes: KubernetesApi, pods: PodApi, verb: str, status: int, said: str
) -> None:
    kubernetes.add("attack-1")
    start_job(store, "attack-1")
    kubernetes.failures = [(verb, status)]
    with structlog.testing.capture_logs() as lines:
        assert not run_round(store, pods)
    assert said in lines[-1]["error"]
    assert program.SERVICE_NAME not in read_service_ages(store.db)
    assert run_round(store, pods)
    assert kubernetes.get_cost("attack-1") == "100"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"metadata": {}, "items": [{"metadata": {"name": "../../secrets/x"}}]}',
        b'{"metadata": {}, "items": [' + b",".join([b'{"metadata": {"name": "a"}}'] * 501) + b"]}",
        b" " * (9 << 20),
    ],
    ids=["empty", "list", "object", "name", "many", "large"],
)  # fmt: skip
def test_an_answer_that_is_no_list_of_pods_changes_nothing(
    store: JobStore, kubernetes: KubernetesApi, pods: PodApi, body: bytes
) -> None:
    kubernetes.list_body = body
    assert not run_round(store, pods)
    assert kubernetes.list_patched() == []


def test_a_list_without_an_end_is_given_up(kubernetes: KubernetesApi, pods: PodApi) -> None:
    kubernetes.list_body = b'{"metadata": {"continue": "again"}, "items": []}'
    with pytest.raises(TransientError, match="more than 10000 pods"):
        pods.list_costs(program.WORKER_PODS)


def test_the_token_is_read_again_as_kubernetes_replaces_it(
    store: JobStore, kubernetes: KubernetesApi, pods: PodApi, served: tuple[KubernetesApi, Path]
) -> None:
    token = served[1] / "token"
    before = token.read_text()
    kubernetes.token = "another"
    assert not run_round(store, pods)
    token.write_text("another\n")
    assert run_round(store, pods)
    token.write_text(before)


def test_while_the_api_or_the_job_store_is_away_nothing_is_changed(
    store: JobStore,
    kubernetes: KubernetesApi,
    pods: PodApi,
    served: tuple[KubernetesApi, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    unreachable = connect_in_cluster(served[1])
    assert not run_round(store, unreachable)
    unreachable.close()
    kubernetes.add("attack-1", cost="100")  # busy as far as anybody knows

    def fail(_db: object) -> frozenset[str]:
        raise TransientError("the job store is away")

    monkeypatch.setattr("shared.jobs.worker_registry.list_busy_workers", fail)
    assert not run_round(store, pods)
    assert kubernetes.get_cost("attack-1") == "100"


def test_another_server_than_the_cluster_s_gets_no_token(
    kubernetes: KubernetesApi, served: tuple[KubernetesApi, Path], tmp_path: Path
) -> None:
    from tests.support.webhook_receiver import make_certificate

    (tmp_path / "ca.crt").write_bytes(make_certificate(tmp_path).read_bytes())
    for name in ("token", "namespace"):
        (tmp_path / name).write_text((served[1] / name).read_text())
    client = connect_in_cluster(tmp_path)
    with pytest.raises(TransientError, match="ConnectError"):
        client.list_costs(program.WORKER_PODS)
    client.close()
    assert kubernetes.calls == []


def test_outside_of_a_cluster_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="automountServiceAccountToken"):
        connect_in_cluster(tmp_path)
