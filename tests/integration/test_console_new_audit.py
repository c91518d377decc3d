"""The form of a new audit, as it is sent without a script, and what is told of it meanwhile."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.json_body import MAX_BODY_BYTES
from tests.support.gateway import AUDIT, AUDIT_JOB_COUNT, GatewayInProcess
from tests.support.keys import make_key

BROWSER = {"Accept": "text/html"}
DIGEST = "0" * 64
FORM: dict[str, Any] = {
    "way": "lab",
    "idempotency": "ab" * 16,
    "name": "from a form",
    "dataset": "digits",
    "model": "mlp",
    "model/mlp/width": "8",
    "unlearning": ["ascent", "retrain"],
    "attacks": ["invert"],
    "seeds": "0, 1",
    "check_forgetting": "on",
}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayInProcess]:
    """A gateway for tests that store nothing."""
    made = GatewayInProcess(tmp_path_factory.mktemp("unchanged"))
    yield made
    assert made.http.get("/v1/audits").get_json()["items"] == []
    made.close()


def send(gateway: GatewayInProcess, path: str = "/audits/new", **changes: Any) -> Any:
    data = {name: value for name, value in {**FORM, **changes}.items() if value is not None}
    return gateway.http.post(path, data=data, headers=BROWSER)


def read_messages(answer: Any) -> dict[str, str]:
    found = re.findall(
        r'<li data-field="([^"]*)"><span>([^<]*)</span>', answer.get_data(as_text=True)
    )
    return {html.unescape(field): html.unescape(text) for field, text in found}


def draft(gateway: GatewayInProcess, **changes: Any) -> Any:
    return send(gateway, "/audits/draft", **changes)


def test_a_form_is_stored_as_the_api_stores_it(gateway: GatewayInProcess) -> None:
    posted = gateway.http.post("/v1/audits", json={**AUDIT, "name": "from a form"}).get_json()
    answer = send(gateway, **{"labels": "team=red\n\nx=", "priority": "5"})
    assert answer.status_code == 303
    audit_id = answer.location.removeprefix("/audits/")
    spec = gateway.http.get(f"/v1/audits/{audit_id}/spec").get_json()
    expected = gateway.http.get(f"/v1/audits/{posted['id']}/spec").get_json()
    assert spec == {**expected, "labels": {"team": "red", "x": ""}, "priority": 5}
    stored = gateway.http.get(f"/v1/audits/{audit_id}").get_json()
    assert stored["counts"] == posted["counts"]


def test_a_double_click_posts_once(gateway: GatewayInProcess) -> None:
    first, second = send(gateway), send(gateway)
    assert first.location == second.location
    changed = send(gateway, name="another")  # after going back
    assert changed.location != first.location
    assert len(gateway.http.get("/v1/audits").get_json()["items"]) == 2
    assert send(gateway, idempotency="no token of ours").location not in (None, first.location)


def test_a_draft_tells_the_quote_and_stores_nothing(gateway: GatewayInProcess) -> None:
    answer = draft(gateway, workers="4")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 200
    assert f"<strong>{AUDIT_JOB_COUNT} new jobs</strong>" in page
    assert "No worker serves" in page
    assert read_messages(answer) == {}
    assert gateway.http.get("/v1/audits").get_json()["items"] == []
    send(gateway)
    assert f"{AUDIT_JOB_COUNT} reused" in draft(gateway).get_data(as_text=True)


def test_a_draft_leaves_no_entry_in_the_access_log(gateway: GatewayInProcess) -> None:
    from sqlalchemy import select

    from shared.jobs.tables import access_log

    draft(gateway)
    send(gateway)
    with gateway.db.read() as connection:
        actions = [row.action for row in connection.execute(select(access_log))]
    assert actions == ["POST /audits/new"]


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"model/mlp/width": "0"}, "model/mlp/width", "less than the minimum of 1"),
        ({"model/mlp/width": "wide"}, "model/mlp/width", "'wide' is not of type 'integer'"),
        ({"model/mlp/width": "NaN"}, "model/mlp/width", "is not of type 'integer'"),
        ({"model/mlp/width": "1" * 30}, "model/mlp/width", "must fit into 64 bits"),
        ({"model/mlp/width": "1e999"}, "model/mlp/width", "is not of type 'integer'"),
        ({"model/mlp/width": "[" * 900 + "]" * 900}, "model/mlp/width", "deeper"),
        ({"seeds": "0, x"}, "seeds", "valid integer"),
        ({"dataset": None}, "dataset", "Choose a data set."),
        ({"dataset": "nothing"}, "dataset/nothing", "unknown dataset"),
        ({"unlearning": None}, "unlearning", "Choose at least one unlearning method."),
        ({"attacks": []}, "attacks", "Choose at least one attack."),
        ({"attacks": [f"a{n}" for n in range(40)]}, "attacks", "at most 32"),
        ({"attacks": "invert~2", "attacks/invert~2/iterations": "0"},
         "attacks/invert~2/iterations", "less than the minimum of 1"),
        ({"priority": "1000"}, "priority", "less than or equal to 100"),
        ({"labels": "no label"}, "labels", "write KEY=VALUE"),
        ({"labels": "a=1\na=2"}, "labels", "given twice"),
        ({"labels": "a=\x07"}, "labels", "match pattern"),
        ({"metadata": "text"}, "metadata", "valid dictionary"),
        ({"name": "a\0b"}, "name", "NUL"),
        ({"name": "x" * 201}, "name", "at most 200 characters"),
        ({"forget/deletions": "33"}, "forget/deletions", "33"),
        ({"way": "own"}, "original", "Choose the weights from before"),
        ({"way": "own", "original": "x", "releases/0/weights/0": DIGEST}, "original", "sha256"),
        ({"way": "own", "original": DIGEST, "releases/0/weights/0": DIGEST,
          "releases/0/name": "a b"}, "releases/0/name", "use letters"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_beside_its_field(
    unchanged: GatewayInProcess, changes: dict[str, Any], field: str, text: str
) -> None:
    answer = draft(unchanged, **changes)
    assert answer.status_code == 200
    messages = read_messages(answer)
    assert text in messages[field]
    refused = send(unchanged, **changes)
    assert refused.status_code == 422
    assert read_messages(refused) == messages


def test_a_hostile_form_ends_as_a_message(unchanged: GatewayInProcess) -> None:
    many = {f"attacks/invert/{n}": "1" for n in range(4_000)}
    deep = {"/".join(["train"] * 2000): "1", "releases": "9" * 4000, "deletions": "-1"}
    assert draft(unchanged, **many, **deep).status_code == 200
    assert draft(unchanged, name="x" * MAX_BODY_BYTES).status_code == 413
    assert draft(unchanged, seeds="1," * 70_000).status_code == 413  # seconds of checks
    assert send(unchanged, seeds="1," * 70_000).status_code == 413
    assert draft(unchanged, way="own", releases="9999", deletions="9999").status_code == 200
    odd = {"way": "\x00", "workers": "²", "grow": "attacks/" + "x~2" * 500, "shown_text": "<i>"}
    answer = send(unchanged, **odd)
    assert answer.status_code == 200
    assert "<i>" not in answer.get_data(as_text=True)


def test_a_form_starts_from_an_earlier_audit(gateway: GatewayInProcess) -> None:
    body = {**AUDIT, "labels": {"team": "red"}, "metadata": {"a": 1},
            "attacks": ["invert", {"name": "invert", "params": {"iterations": 7}}]}  # fmt: skip
    posted = gateway.http.post("/v1/audits", json=body).get_json()
    page = gateway.http.get(f"/audits/new?from={posted['id']}", headers=BROWSER).get_data(
        as_text=True
    )
    assert (
        send_again(gateway, page) == gateway.http.get(f"/v1/audits/{posted['id']}/spec").get_json()
    )
    assert "left out" not in page


def send_again(gateway: GatewayInProcess, page: str) -> dict[str, Any]:
    """The audit that comes of a page's form, sent as it is."""
    form = page[page.index('<form id="new-audit"') :]
    data: dict[str, list[str]] = {}
    for tag in re.findall(r"<input [^>]*>", form):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        kind = attributes.get("type", "text")
        if "name" in attributes and (kind not in ("radio", "checkbox") or " checked" in tag):
            value = html.unescape(attributes.get("value", "on"))
            data.setdefault(attributes["name"], []).append(value)
    for name, options in re.findall(
        r'<select [^>]*name="([^"]*)".*?>(.*?)</select>', form, re.DOTALL
    ):
        data[name] = [html.unescape(v) for v in re.findall(r'value="([^"]*)" selected', options)]
    for name, text in re.findall(
        r'<textarea [^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', form, re.DOTALL
    ):
        data[name] = [html.unescape(text)]
    answer = gateway.http.post("/audits/new", data=data, headers=BROWSER)
    assert answer.status_code == 303, read_messages(answer)
    spec = gateway.http.get(f"/v1{answer.location}/spec").get_json()
    return dict(spec)


def test_a_new_form_can_be_sent_as_it_is(gateway: GatewayInProcess) -> None:
    page = gateway.http.get("/audits/new", headers=BROWSER).get_data(as_text=True)
    spec = send_again(gateway, page)
    assert (spec["dataset"], spec["model"], spec["attacks"]) == ("digits", "mlp", ["invert"])
    assert spec["unlearning"] == ["ascent", "retrain"]


def upload_yaml(gateway: GatewayInProcess, text: bytes, name: str = "my audit.yaml") -> Any:
    return gateway.http.post(
        "/audits/new", data={"yaml": (io.BytesIO(text), name)}, headers=BROWSER,
        content_type="multipart/form-data",
    )  # fmt: skip


def test_a_yaml_file_fills_in_the_form(gateway: GatewayInProcess) -> None:
    text = b"dataset: digits\nmodel: {name: mlp, params: {width: 9}}\nunlearning: [retrain]\n"
    page = upload_yaml(gateway, text + b"attacks: [invert]\nseeds: [3]\n").get_data(as_text=True)
    spec = send_again(gateway, page)
    assert spec["model"] == {"name": "mlp", "params": {"width": 9}}
    assert spec["seeds"] == [3]


def test_what_the_form_has_no_field_for_is_told(unchanged: GatewayInProcess) -> None:
    text = b"dataset: lost\nmodel: {name: mlp, params: {depth: 1}}\nattacks: [1, {a: b}]\nx: 1\n"
    page = upload_yaml(unchanged, text).get_data(as_text=True)
    for part in ("dataset: ", "model.depth", "attacks.0", "attacks.1", "x: the form"):
        assert part in page


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"a: 1\na: 2\n", "my_audit.yaml:2: duplicate key"),
        (b"\xff", "not UTF-8"),
        (b"[]", "is not an audit"),
        (b"a: !!python/object:os.system x", "unsupported YAML tag"),
        (b"a: &x [*x]", ""),
        (b"x" * (MAX_BODY_BYTES + 1), ""),
    ],
)
def test_a_file_that_is_no_audit_is_refused(
    unchanged: GatewayInProcess, text: bytes, part: str
) -> None:
    answer = upload_yaml(unchanged, text)
    assert answer.status_code in (413, 422)
    assert part in html.unescape(answer.get_data(as_text=True))


def test_rows_and_settings_are_added(unchanged: GatewayInProcess) -> None:
    again = send(unchanged, grow="attacks/invert").get_data(as_text=True)
    assert 'value="invert~2" checked' in again
    assert "attacks/invert~2/iterations" in again
    own = send(unchanged, way="own", grow="deletions").get_data(as_text=True)
    assert "releases/0/weights/1" in own
    own = send(unchanged, way="own", grow="releases", deletions="2").get_data(as_text=True)
    assert "releases/1/weights/1" in own


def test_nothing_of_another_tenant_is_offered(gateway: GatewayInProcess) -> None:
    posted = gateway.http.post("/v1/audits", json={**AUDIT, "name": "secret name"}).get_json()
    digest = gateway.http.post("/v1/artifacts", data=b"weights").get_json()["sha256"]
    other = {
        **BROWSER,
        "Authorization": f"Bearer {make_key(gateway.db, 'other', 'read', 'submit')}",
    }
    for query in ("", "?way=own"):
        page = gateway.http.get(f"/audits/new{query}", headers=other).get_data(as_text=True)
        assert "secret name" not in page
        assert digest not in page
    missing = gateway.http.get(f"/audits/new?from={posted['id']}", headers=other)
    assert missing.status_code == 404
    for odd in ("../quick", "aud_x", "quick.yaml"):
        assert gateway.http.get("/audits/new", query_string={"from": odd}).status_code == 404


def test_before_any_worker_the_form_says_so(tmp_path: Path) -> None:
    gateway = GatewayInProcess(tmp_path, publish=False)
    page = gateway.http.get("/audits/new", headers=BROWSER)
    assert page.status_code == 200
    assert "No worker has published" in page.get_data(as_text=True)
    gateway.close()
