"""Commands to copy send the key to the address that browsers open: behind a proxy with TLS the
gateway sees plain HTTP, and a key that is sent in the clear is lost."""

from __future__ import annotations

from pathlib import Path

from tests.support.gateway import GatewayInProcess

HTML = {"Accept": "text/html"}
FORM = {"dataset": "digits", "model": "mlp", "unlearning": "ascent", "attacks": "invert",
        "defenses": "none"}  # fmt: skip


def test_commands_name_the_public_address(tmp_path: Path) -> None:
    gateway = GatewayInProcess(tmp_path, public_url="https://audits.example")
    pages = (
        gateway.http.get("/openapi/", headers=HTML),
        gateway.http.post("/audits/draft", data=FORM, headers=HTML),
    )
    for page in pages:
        assert page.status_code == 200
        assert "https://audits.example/v1/audits" in page.text
        assert "http://localhost" not in page.text
    gateway.close()
