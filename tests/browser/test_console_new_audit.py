"""The form of a new audit in a real browser: the quick example, and a pair of models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from shared.jobs import worker_registry
from shared.jobs.dispatch import Dispatcher
from tests.golden.planned_jobs import load_audits, real_catalog
from tests.support.brought_pairs import make_weights, write_samples
from tests.support.console import TIMEOUT_MS, Visit, visit
from tests.support.gateway import TOKEN, GatewayProcess, ManualWorker, serve_gateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # the browser may have to be installed
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with serve_gateway(tmp_path_factory.mktemp("gateway")) as served:
        worker_registry.publish_catalog(served.db, real_catalog())
        yield served


@pytest.fixture
def visitor(browser: Browser, gateway: GatewayProcess) -> Iterator[Visit]:
    with visit(browser, gateway.url) as visitor:
        visitor.page.route("**/audits/aud_*", lambda route: route.fulfill(body="its page"))
        yield visitor
        assert visitor.complaints == []


def get(gateway: GatewayProcess, path: str) -> Any:
    answer = httpx.get(gateway.url + path, headers={"Authorization": f"Bearer {TOKEN}"})
    return answer.raise_for_status().json()


def start(page: Page) -> str:
    """Press the button; the id of the audit whose page is shown."""
    page.get_by_role("button", name="Start the audit").click()
    page.wait_for_url(re.compile(r"/audits/aud_\w+$"))
    return page.url.rpartition("/")[2]


def finish_jobs(gateway: GatewayProcess) -> None:
    worker = ManualWorker(gateway.db, gateway.artifacts)
    catalog = real_catalog()
    worker.dispatcher = Dispatcher(
        gateway.db, worker.name, catalog.list_names("stage"), catalog.plugins
    )
    worker.finish_all()


def test_three_choices_and_a_button(visitor: Visit, gateway: GatewayProcess) -> None:
    visitor.sign_in(path="/audits/new")
    page = visitor.page
    quote = page.locator("#draft")
    expect(quote).to_contain_text(re.compile(r"\d+ new jobs"))
    deletions = page.get_by_role("textbox", name="Deletions", exact=True)
    deletions.fill("0")
    message = page.locator("[data-slot='forget/deletions']")
    expect(message).to_contain_text("less than the minimum of 1")
    expect(deletions).to_have_attribute("aria-invalid", "true")
    expect(quote).to_contain_text("Not ready yet")
    deletions.press("Enter")  # starts nothing
    page.get_by_role("button", name="Start the audit").click()  # refused: leads to the field
    expect(deletions).to_be_focused()
    expect(deletions).to_be_in_viewport()
    (refused,) = visitor.complaints  # the browser notes the status
    assert "422" in refused
    visitor.complaints.clear()
    expect(message).to_contain_text("less than the minimum of 1")
    deletions.fill("2")
    expect(message).to_be_empty()
    expect(quote).to_contain_text("deletions: 2")
    page.get_by_role("textbox", name="Name", exact=True).fill("quick look")
    expect(quote).to_contain_text("name: quick look")
    page.get_by_text("Command line", exact=True).click()
    expect(quote).to_contain_text("palimpsest audit")
    spec = get(gateway, f"/v1/audits/{start(page)}/spec")
    assert spec == load_audits()["quick"]
    assert len(get(gateway, "/v1/audits")["items"]) == 1


def test_a_method_twice_with_other_settings(visitor: Visit) -> None:
    visitor.sign_in(path="/audits/new")
    page = visitor.page
    attack = page.locator(".pick", has=page.locator("input[value='label_inference']"))
    attack.locator("summary").click()
    attack.get_by_role("button", name="Once more").click()
    again = page.locator(".pick", has=page.locator("input[value='label_inference~2']"))
    again.locator("summary").click()
    again.get_by_role("combobox", name="Gradient from").select_option("base")
    expect(page.locator("#draft")).to_contain_text("gradient_from: base")


def test_each_quick_click_adds_a_deletion(visitor: Visit) -> None:
    visitor.sign_in(path="/audits/new?way=own")
    page = visitor.page
    button = page.get_by_role("button", name="Another deletion")
    for _ in range(3):
        button.dispatch_event("click")
    expect(page.locator("[name='releases/0/weights/3']")).to_have_count(1)
    expect(page.locator("[name=deletions]")).to_have_value("4")


def test_a_pair_is_uploaded_and_audited(
    visitor: Visit, gateway: GatewayProcess, tmp_path: Path
) -> None:
    original, released, *_ = make_weights()
    files = {"before": original, "after": released[0]}
    for name, data in files.items():
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    write_samples(tmp_path)
    visitor.sign_in(path="/audits/new?way=own")
    page = visitor.page
    uploads = page.get_by_role("list", name="Uploads")
    pickled = {"name": "a.pt", "mimeType": "application/octet-stream", "buffer": b"x"}
    page.locator("#drop-files").set_input_files(pickled)
    expect(uploads).to_contain_text("palimpsest convert a.pt")
    page.locator("#drop-files").set_input_files(
        [tmp_path / f"{n}.safetensors" for n in reversed(files)]
    )
    expect(uploads.get_by_text("Stored:")).to_have_count(2)
    expect(uploads.get_by_text("Not used yet")).to_have_count(0)
    expect(page.locator("[name=original]")).not_to_have_value("")
    expect(page.locator("[name='releases/0/weights/0']")).not_to_have_value("")
    page.locator("#drop-files").set_input_files(tmp_path / "before.safetensors")
    expect(uploads.get_by_text("Already there:")).to_have_count(1)
    page.get_by_role("radio", name=re.compile("^mlp ")).check()
    model = page.locator(".pick", has=page.locator("input[value='mlp']"))
    model.locator("summary").click()
    model.get_by_role("textbox", name="Hidden").fill("16")
    page.get_by_role("textbox", name="Input shape").fill("1x9x9")
    page.get_by_role("textbox", name="Classes", exact=True).fill("4")
    page.locator("#drop-files").set_input_files(tmp_path / "deleted.npz")
    deleted = page.locator("[name='dataset/own_samples/deleted']")
    upload = re.compile("^upload:[0-9a-f]{64}$")
    expect(deleted).to_have_value(upload)
    deleted.fill("")
    deleted.press("Tab")
    expect(uploads.get_by_text("Not used yet")).to_have_count(1)
    deleted.fill("deleted.npz")
    deleted.press("Tab")
    expect(deleted).to_have_value(upload)
    expect(page.locator(".file-name", has_text="deleted.npz")).to_have_count(1)
    expect(uploads.get_by_text("Not used yet")).to_have_count(0)
    expect(page.locator("#draft")).to_contain_text("What it will cost")
    audit_id = start(page)
    spec = get(gateway, f"/v1/audits/{audit_id}/spec")
    assert spec["ingest"] == {"input_shape": [1, 9, 9], "num_classes": 4}
    assert spec["dataset"]["params"]["num_classes"] == 4
    finish_jobs(gateway)
    assert get(gateway, f"/v1/audits/{audit_id}")["state"] == "succeeded"
