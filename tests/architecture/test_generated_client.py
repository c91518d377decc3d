"""The sync client is what `make sync-client` makes of the async one."""

from __future__ import annotations

import inspect

import pytest

from services.client import AsyncClient, Client
from tests.support import sync_client


def test_the_sync_client_is_the_generated_one() -> None:
    assert (
        sync_client.generate_sync_client(sync_client.ASYNC_CLIENT.read_text())
        == sync_client.SYNC_CLIENT.read_text()
    )


def test_a_change_of_the_async_client_makes_the_check_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys
) -> None:
    assert sync_client.main(["--check"]) == 0
    changed = tmp_path / "async_client.py"
    changed.write_text(
        sync_client.ASYNC_CLIENT.read_text().replace(
            "retry_for_s: float = 3.0", "retry_for_s: float = 4.0"
        )
    )
    monkeypatch.setattr(sync_client, "ASYNC_CLIENT", changed)
    assert sync_client.main(["--check"]) == 1
    assert "sync_client.py is stale: make sync-client" in capsys.readouterr().err


def test_nothing_of_asyncio_is_left() -> None:
    text = sync_client.SYNC_CLIENT.read_text().replace("async_client.py", "")
    assert not any(word in text for word in ("async", "await", "Async"))
    public = [name for name in vars(AsyncClient) if not name.startswith("_")]
    assert len(public) > 20
    for name in public:
        assert inspect.getdoc(getattr(Client, name)) == inspect.getdoc(getattr(AsyncClient, name))
