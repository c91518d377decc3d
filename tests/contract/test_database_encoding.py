"""A PostgreSQL database that cannot hold every text is refused by whoever connects first."""

from __future__ import annotations

import pytest

from services import admin
from services.gateway.__main__ import main as run_gateway
from shared.errors import Conflict
from shared.jobs import worker_registry
from shared.jobs.database import Database
from tests.support.servers import create_database

pytestmark = pytest.mark.slow

REASON = "has the encoding SQL_ASCII, but names, labels and messages may contain any character"


def test_sql_ascii_is_refused_by_the_migration_the_gateway_and_workers(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = create_database(
        postgres_server, "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", url)
    assert admin.main(["migrate"]) == 1
    shown = capsys.readouterr().err
    assert REASON in shown
    assert "ENCODING 'UTF8'" in shown
    assert run_gateway([]) == 2
    assert REASON in capsys.readouterr().err
    assert admin.main(["doctor"]) == 1
    assert REASON in capsys.readouterr().out
    db = Database(url)
    for _ in range(2):  # not only by the first connection
        with pytest.raises(Conflict, match=REASON):
            worker_registry.list_workers(db)
    db.close()


def test_utf8_is_taken(postgres_server: str) -> None:
    db = Database(create_database(postgres_server, "ENCODING 'UTF8' TEMPLATE template0"))
    with db.read() as connection:
        assert connection.exec_driver_sql("SELECT 'ü'").scalar_one() == "ü"
    db.close()
