"""The console without a browser: pages are read, and forms are sent."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event

from tests.support.gateway import AUDIT, AuthenticatedClient, GatewayInProcess

HTML = {"Accept": "text/html"}


class Site:
    """A gateway whose pages are asked for."""

    def __init__(self, gateway: GatewayInProcess) -> None:
        self.gateway = gateway

    def post_audit(self, **changes: Any) -> str:
        answer = self.gateway.http.post("/v1/audits", json={**AUDIT, **changes})
        assert answer.status_code == 202, answer.get_data(as_text=True)
        return str(answer.get_json()["id"])

    def read(self, path: str, status: int = 200, client: AuthenticatedClient | None = None) -> str:
        answer = (client or self.gateway.http).get(path, headers=HTML)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return str(answer.get_data(as_text=True))

    def press(self, path: str, status: int = 303, **fields: str | list[str]) -> Any:
        """Send a form; the answer."""
        answer = self.gateway.http.post(path, data=fields, headers=HTML)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer

    def read_after(self, path: str, **fields: str | list[str]) -> str:
        """Send a form, and go where it leads."""
        return self.read(self.press(path, **fields).headers["Location"])

    def count_statements(self, path: str) -> int:
        statements: list[str] = []

        def note(*parts: Any) -> None:
            statements.append(parts[2])

        event.listen(self.gateway.db.engine, "before_cursor_execute", note)
        self.read(path)
        event.remove(self.gateway.db.engine, "before_cursor_execute", note)
        return len(statements)
