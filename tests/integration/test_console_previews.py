"""The gallery of an audit, as pages draw it."""

from __future__ import annotations

from pathlib import Path

from services.gateway.console._pages import _load_environment
from shared.jobs.tenant_store import TenantStore
from tests.support.gateway import AUDIT, TENANT, GatewayInProcess

PAGE = '{% from "_previews.html" import gallery %}{{ gallery(previews) }}'


def test_the_gallery_escapes_what_workers_write(tmp_path: Path) -> None:
    gateway = GatewayInProcess(tmp_path)
    audit = gateway.http.post("/v1/audits", json=AUDIT).get_json()["id"]
    worker = gateway.make_worker()
    claim = worker.claim()
    worker.show(claim, 1200, 5000)
    worker.report_progress(claim, 1200, 5000, matching_loss=0.03125)
    store = TenantStore(gateway.db, TENANT)
    template = _load_environment().from_string(PAGE)
    html = template.render(previews=store.list_previews(audit, 10))
    url = f"/v1/jobs/{claim.job.id}/preview?step=1200"
    assert f'<img src="{url}"' in html
    assert "picture of step 1,200 of 5,000, matching loss 0.0312" in html
    assert gateway.http.get(url).status_code == 200
    worker.report_progress(claim, 1201, 5000, matching_loss="<b>")  # type: ignore[arg-type]  # hostile
    html = template.render(previews=store.list_previews(audit, 10))
    assert "matching loss –" in html
    assert "<b><" not in html
    gateway.close()
