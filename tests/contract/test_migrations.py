"""The schema that the migrations make is the schema that the code has in mind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, func, inspect, select, text

from services import admin
from shared.catalog import Catalog
from shared.errors import Conflict, TransientError
from shared.jobs import attempts, completion, control, plugin_sets, tenants, worker_registry
from shared.jobs.database import Database
from shared.jobs.mapping import to_json
from shared.jobs.migrations import (
    copy_before_migrating,
    downgrade,
    list_revisions,
    migrate,
    require_current_schema,
)
from shared.jobs.states import Failure, State
from shared.jobs.tables import artifacts, audits, job_artifacts, jobs, metadata
from shared.roles import Role
from shared.wiring import RunWhen
from tests.support.job_store import (
    ALICE,
    PLUGIN,
    STAGE,
    JobStore,
    make_artifact,
    make_planned_job,
    run_together,
)
from tests.support.servers import create_database
from tests.support.table_rows import fill_tables, insert_row


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def empty(request: Any, tmp_path: Path) -> Iterator[str]:
    """URL of a database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/palimpsest.db"
    else:
        yield create_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def db(empty: str) -> Iterator[Database]:
    found = Database(empty)
    yield found
    found.close()


def test_the_migrations_make_the_tables_of_the_code(db: Database) -> None:
    migrate(db)
    with db.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:  # what compare_metadata does not look at
            foreign = {
                (column, f["referred_table"], f["options"].get("ondelete"))
                for f in found.get_foreign_keys(table.name)
                for column in f["constrained_columns"]
            }
            assert foreign == {
                (k.parent.name, k.column.table.name, k.ondelete) for k in table.foreign_keys
            }
            assert found.get_pk_constraint(table.name)["constrained_columns"] == [
                c.name for c in table.primary_key
            ]


def test_an_empty_store_is_refused_and_a_migrated_one_is_not(db: Database) -> None:
    with pytest.raises(
        Conflict, match=r"has schema None, but this code needs .*services.admin migrate"
    ):
        require_current_schema(db)
    migrate(db)
    require_current_schema(db)


def test_a_newer_store_is_refused(db: Database) -> None:
    migrate(db)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Conflict, match="has schema 9999"):
        require_current_schema(db)


def test_migrating_twice_changes_nothing(db: Database) -> None:
    migrate(db)
    store = JobStore(db)
    store.post(make_planned_job("a"))
    before = store.dump()
    migrate(db)
    assert store.dump() == before


# tables that a revision drops or empties; a test of its own says where their rows went
GONE = {"0003": {"job_plugins"}, "0006": {"catalogs"}}


def test_postgresql_cleans_up_after_claims_in_time(db: Database) -> None:
    """And what an operator has set stays."""
    if db.dialect != "postgresql":
        return
    migrate(db)
    with db.write() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs SET (autovacuum_vacuum_threshold = 77)")
        connection.exec_driver_sql("ALTER TABLE jobs RESET (vacuum_index_cleanup)")
    migrate(db)
    with db.read() as connection:
        query = "SELECT unnest(reloptions) FROM pg_class WHERE relname = 'jobs'"
        options = set(connection.exec_driver_sql(query).scalars())
    assert options == {
        "autovacuum_vacuum_scale_factor=0",
        "autovacuum_vacuum_threshold=77",
        "vacuum_index_cleanup=on",
    }


def _count_rows(db: Database) -> dict[str, int]:
    schema = MetaData()
    with db.read() as connection:
        schema.reflect(connection)
        tables = [t for t in schema.sorted_tables if t.name != "alembic_version"]
        return {
            t.name: connection.execute(select(func.count()).select_from(t)).scalar_one()
            for t in tables
        }


@pytest.mark.parametrize("revision", list_revisions()[:-1])
def test_a_store_with_rows_in_every_table_keeps_them_all(db: Database, revision: str) -> None:
    migrate(db, revision)
    with db.write() as connection:
        before = fill_tables(connection)
    later = list_revisions()[list_revisions().index(revision) + 1 :]
    for steps in (later[:1], later[1:]):  # the next one by itself, then all the others
        migrate(db, (steps or later)[-1])
        for table in {table for step in steps for table in GONE.get(step, set())}:
            before.pop(table, None)
        after = _count_rows(db)
        assert {table: after[table] for table in before} == before, steps
    require_current_schema(db)


def test_what_a_job_needs_of_its_worker_survives_as_a_set(db: Database) -> None:
    """Before 0003 every job named its plugins row by row."""
    migrate(db, "0002")
    with db.write() as connection:
        fill_tables(connection)
        connection.execute(text("DELETE FROM job_plugins"))
        connection.execute(
            text("UPDATE jobs SET state = 'queued', stage = 'train', tenant = 'alice'")
        )
        for n in range(7):
            for plugin in {f"model:{'a' if n < 3 else 'b'}", "stage:train"}:
                row = {"job": f"{n}", "plugin": plugin}
                connection.execute(text("INSERT INTO job_plugins VALUES (:job, :plugin)"), row)
    migrate(db)
    store = JobStore(db)
    had = []
    while claim := store.claim(plugins=("stage:train", "model:b")):
        had.append(claim.job.id)
    assert sorted(had) == ["3", "4", "5", "6"]
    with db.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM plugin_sets")).scalar_one() == 2


def test_artifacts_get_an_owner_and_a_size_of_their_own(db: Database) -> None:
    """Before 0005 every job that made them had them row by row."""
    migrate(db, "0004")
    with db.write() as connection:
        fill_tables(connection)
        connection.execute(text("DELETE FROM job_artifacts"))
        connection.execute(text("UPDATE jobs SET finished_at = 10 - CAST(id AS integer)"))
        for job, tenant, sha256 in [
            ("3", "a", "x"),
            ("4", "a", "x"),
            ("5", "a", "y"),
            ("3", "b", "x"),
        ]:
            row = {"job": job, "role": f"OF_{tenant}", "tenant": tenant, "sha256": sha256}
            connection.execute(
                text(
                    "INSERT INTO job_artifacts VALUES (:job, :role, :tenant, :sha256, 5000000000, 'text/plain')"
                ),
                row,
            )
    migrate(db)
    with db.read() as connection:
        found = connection.execute(
            select(artifacts).order_by(artifacts.c.tenant, artifacts.c.sha256)
        ).all()
        links = connection.execute(select(func.count()).select_from(job_artifacts)).scalar_one()
    size, kind = 5_000_000_000, "text/plain"
    assert list(map(tuple, found)) == [
        ("a", "x", size, kind, "4", 6.0, None, None),
        ("a", "y", size, kind, "5", 5.0, None, None),
        ("b", "x", size, kind, "3", 7.0, None, None),
    ]
    assert links == 4


def _insert_old_job(connection: Connection, job: str, **values: Any) -> None:
    """A queued job of alice as 0005 stored it, with the event that says so."""
    digest = hashlib.sha256(job.encode()).hexdigest()
    row = {
        "id": job,
        "tenant": ALICE,
        "stage": STAGE,
        "state": "queued",
        "plan_key": digest,
        "live_key": digest,
        "fresh": False,
        "direct": True,
        "tolerant": False,
        "plugin_set": plugin_sets.compute_digest(STAGE, (PLUGIN,)),
        "queued_at": 1.0,
        "rank": 1.0,
        "event_seq": 1,
    }
    insert_row(connection, "jobs", **row | values)
    data = {"because": "submitted", "from": None, "to": "queued"}
    insert_row(connection, "events", job=job, seq=1, at=1.0, kind="state", data=to_json(data))


def _insert_plugin_set(connection: Connection) -> None:
    plugins = (PLUGIN,)
    insert_row(
        connection,
        "plugin_sets",
        digest=plugin_sets.compute_digest(STAGE, plugins),
        stage=STAGE,
        plugins=plugin_sets.to_canonical_json(plugins),
    )


def test_a_held_job_is_paused_and_can_be_resumed(db: Database) -> None:
    """Before 0006 `paused` was called `held`."""
    migrate(db, "0005")
    held = {"because": 'asked, "held" as it was', "from": "queued", "to": "held"}
    released = {"because": "asked", "from": "held", "to": "queued"}
    with db.write() as connection:
        _insert_plugin_set(connection)
        _insert_old_job(connection, "job_1", state="held", event_seq=4)
        for seq, data in enumerate((held, released, held), start=2):
            insert_row(
                connection, "events", job="job_1", seq=seq, at=1, kind="state", data=to_json(data)
            )
    migrate(db)
    store = JobStore(db)
    assert store.get_job("job_1").state is State.PAUSED
    assert store.list_transitions("job_1") == ["queued", "paused", "queued", "paused"]
    events = store.list_events("job_1")
    assert [e.data["from"] for e in events] == [None, "queued", "paused", "queued"]
    assert events[1].data["because"] == held["because"]
    assert store.claim() is None
    assert control.resume_job(db, ALICE, "job_1") == {STAGE}
    assert store.claim_one().job.id == "job_1"


def test_a_tolerant_job_runs_when_all_its_inputs_have_finished(db: Database) -> None:
    """Before 0006 `run_when` was the flag `tolerant`."""
    migrate(db, "0005")
    with db.write() as connection:
        _insert_plugin_set(connection)
        for name in ("a", "b"):
            _insert_old_job(connection, name)
        for name in ("tolerant", "strict"):
            _insert_old_job(connection, name, state="waiting", tolerant=name == "tolerant")
            for n, parent in enumerate(("a", "b")):
                insert_row(
                    connection,
                    "job_inputs",
                    job=name,
                    role=f"IN{n}",
                    parent=parent,
                    parent_role="OUT",
                )
    migrate(db)
    with db.read() as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.run_when)).all()
    assert {r.id: r.run_when for r in rows} == {
        "a": RunWhen.ALL_SUCCEEDED,
        "b": RunWhen.ALL_SUCCEEDED,
        "strict": RunWhen.ALL_SUCCEEDED,
        "tolerant": RunWhen.ALL_FINISHED,
    }
    store = JobStore(db)
    control.cancel_job(db, ALICE, "a")
    attempts.fail_attempt(db, "b", store.claim_one().fence, Failure.ERROR, "it broke")
    assert store.list_states("tolerant", "strict") == ["failed", "failed"]
    control.retry_job(db, ALICE, "b")
    completion.finish_job(
        db, "b", store.claim_one().fence, [make_artifact("b")], code="code", cache_key="key"
    )
    control.retry_job(db, ALICE, "tolerant")
    assert store.claim_one().job.id == "tolerant"
    with pytest.raises(Conflict, match="its input, job a"):
        control.retry_job(db, ALICE, "strict")


def test_flags_and_keys_of_jobs_survive_under_their_new_names(db: Database) -> None:
    migrate(db, "0005")
    with db.write() as connection:
        _insert_plugin_set(connection)
        _insert_old_job(connection, "job_1", state="failed", plan_key="same", live_key=None)
        _insert_old_job(connection, "job_2", plan_key="same", live_key="same", fresh=True)
        _insert_old_job(connection, "job_3", content_key="content", direct=False)
    migrate(db)
    with db.read() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == "job_2")).one()
        assert (row.request_key, row.dedup_key, row.no_cache, row.pinned) == (
            "same",
            "same",
            True,
            True,
        )
        row = connection.execute(select(jobs).where(jobs.c.id == "job_3")).one()
        assert (row.cache_key, row.no_cache, row.pinned) == ("content", False, False)
    # of equal jobs only one is live, as before
    with pytest.raises(Conflict, match="an identical job"):
        control.retry_job(db, ALICE, "job_1")


_OLD_SPEC = {
    "attacks": [
        "label_inference",
        {"name": "feature_recovery", "params": {"gradient_at": 0.5, "preset": "paper"}},
        {"name": "of_a_user", "params": {"gradient_at": 1}},
    ],
    "candidates": {"never": 100, "retained": 5},
    "defenses": [
        {"name": "obfuscation", "params": {"draws": 64}},
        {"name": "pruning", "params": {"draws": 2}},
    ],
    "evaluate": {"judge": True},
    "fresh": True,
    "name": "never judge, JUDGE",
}
_NEW_SPEC = {
    "attacks": [
        "label_inference",
        {"name": "feature_recovery", "params": {"evaluation_point": 0.5, "preset": "paper"}},
        {"name": "of_a_user", "params": {"gradient_at": 1}},
    ],
    "candidates": {"non_members": 100, "retained": 5},
    "defenses": [
        {"name": "obfuscation", "params": {"releases_averaged": 64}},
        {"name": "pruning", "params": {"draws": 2}},
    ],
    "evaluate": {"feature_network": True},
    "name": "never judge, JUDGE",
    "no_cache": True,
}


@pytest.mark.parametrize(
    ("stage", "method", "old", "new"),
    [
        ("evaluate", None, {"judge": True, "never": 1}, {"feature_network": True, "never": 1}),
        ("candidates", None, {"never": 7, "judge": 1}, {"non_members": 7, "judge": 1}),
        (
            "defend",
            "obfuscation",
            {"draws": 64, "noise": None},
            {"releases_averaged": 64, "noise": None},
        ),
        ("defend", "of_a_user", {"draws": 64}, {"draws": 64}),
        ("attack", "feature_recovery", {"gradient_at": 0.5}, {"evaluation_point": 0.5}),
        ("attack", "of_a_user", {"gradient_at": 0.5}, {"gradient_at": 0.5}),
        ("train", None, {"never": 1, "judge": 2, "draws": 3}, {"never": 1, "judge": 2, "draws": 3}),
        ("report", None, {"audit": _OLD_SPEC, "rows": []}, {"audit": _NEW_SPEC, "rows": []}),
    ],
)
def test_parameters_of_stored_jobs_are_renamed(
    db: Database, stage: str, method: str | None, old: dict[str, Any], new: dict[str, Any]
) -> None:
    migrate(db, "0005")
    with db.write() as connection:
        _insert_old_job(connection, "job_1", stage=stage, method=method, params=to_json(old))
    migrate(db)
    with db.read() as connection:
        assert connection.execute(select(jobs.c.params)).scalar_one() == to_json(new)


def test_audits_are_renamed_too_however_many_there_are(db: Database) -> None:
    migrate(db, "0005")
    n = 10_001  # more than are rewritten at a time
    specs = [to_json(_OLD_SPEC if i % 4 == 0 else {"anything": "else"}) for i in range(n)]
    with db.write() as connection:
        old = {"tenant": ALICE, "name": "", "created_at": 1, "cancelling": False}
        connection.execute(
            text(
                "INSERT INTO audits (id, tenant, name, spec, created_at, cancelling) "
                "VALUES (:id, :tenant, :name, :spec, :created_at, :cancelling)"
            ),
            [old | {"id": f"aud_{i:05}", "spec": spec} for i, spec in enumerate(specs)],
        )
    migrate(db)
    with db.read() as connection:
        renamed = list(connection.execute(select(audits.c.spec).order_by(audits.c.id)).scalars())
    assert renamed == [
        to_json(_NEW_SPEC) if i % 4 == 0 else to_json({"anything": "else"}) for i in range(n)
    ]


def test_roles_are_renamed_wherever_they_are_stored(db: Database) -> None:
    migrate(db, "0005")
    with db.write() as connection:
        produces = to_json(["UNLEARNED", "COUNTS", "LABELS"])
        _insert_old_job(connection, "maker", produces=produces)
        _insert_old_job(connection, "taker", produces=to_json(["ACCOUNTS"]))
        insert_row(
            connection,
            "artifacts",
            tenant=ALICE,
            sha256="x",
            size=1,
            media_type="t",
            origin="maker",
        )
        for role in ("COUNTS", "FETCHED", "LABELS"):
            insert_row(
                connection, "job_artifacts", job="maker", role=role, tenant=ALICE, sha256="x"
            )
        for role, parent_role in [("COUNTS", "COUNTS"), ("JUDGE", "BASE"), ("DATA", "FETCHED")]:
            insert_row(
                connection,
                "job_inputs",
                job="taker",
                role=role,
                parent="maker",
                parent_role=parent_role,
            )
    migrate(db)
    store = JobStore(db)
    maker, taker = store.get_job("maker"), store.get_job("taker")
    assert maker.produces == ("UNLEARNED", "DELETION_SIZES", "LABELS")
    assert taker.produces == ("ACCOUNTS",)
    assert {a.role for a in maker.artifacts} == {"DELETION_SIZES", "AVERAGED_RELEASES", "LABELS"}
    assert {(i.role, i.parent_role) for i in taker.inputs} == {
        ("DELETION_SIZES", "DELETION_SIZES"),
        ("FEATURE_NETWORK", "BASE"),
        ("DATA", "AVERAGED_RELEASES"),
    }
    assert not {"JUDGE", "FETCHED", "COUNTS"} & set(Role)


def test_a_catalog_of_old_names_is_not_planned_with(db: Database) -> None:
    """It would be read with half of its wiring: unknown fields of one are ignored."""
    migrate(db, "0005")
    with db.write() as connection:
        insert_row(connection, "catalogs", digest="old", body="[]", published_at=1)
    migrate(db)
    assert worker_registry.get_catalog_digest(db) is None
    catalog = Catalog([])
    worker_registry.publish_catalog(db, catalog)
    assert worker_registry.get_catalog_digest(db) == catalog.digest


def _list_indexes(db: Database) -> dict[str, str]:
    """What each index covers, and of which rows."""
    with db.read() as connection:
        return {
            str(index["name"]): f"{index['column_names']} "
            f"{index['dialect_options'].get(f'{db.dialect}_where', '')}"
            for table in inspect(connection).get_table_names()
            for index in inspect(connection).get_indexes(table)
            if not index.get("duplicates_constraint")
        }


def test_the_migrations_make_the_indexes_of_the_code(db: Database) -> None:
    """Which rows a partial index covers is not compared by `compare_metadata`."""
    migrate(db)
    ours = _list_indexes(db)
    assert {name for name, text in ours.items() if not text.endswith(" ")} == {
        "ix_artifacts_expires_at",
        "ix_audits_deleting",
        "ix_jobs_ended",
        "ix_jobs_reused_from",
        "ix_jobs_queue",
        "ix_jobs_pausing",
        "ix_jobs_running",
        "ix_jobs_equal_costs",
        "ix_jobs_similar_costs",
        "ix_jobs_method_costs",
        "ix_audits_cancelling",
        "ix_jobs_checkpoint",
        "ix_artifacts_uploads",
        "ix_webhook_deliveries_due",
    }
    with db.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert _list_indexes(db) == ours


def test_a_change_of_schema_that_leaves_rows_without_what_they_refer_to_is_undone(
    tmp_path: Path,
) -> None:
    db = Database(f"sqlite:///{tmp_path}/palimpsest.db")
    migrate(db)
    store = JobStore(db)
    store.post(make_planned_job("a"))
    before = store.dump()
    with pytest.raises(Conflict, match="rows of events"), db.change_schema() as connection:
        connection.execute(text("DELETE FROM jobs"))
    assert store.dump() == before
    # they are enforced again
    with pytest.raises(Exception, match="FOREIGN KEY"), db.write() as connection:
        connection.execute(text("INSERT INTO events VALUES ('nobody', 1, 0, 'state', '{}')"))


def test_declarations_can_be_given_up(db: Database) -> None:
    """What they have kept expires again; what jobs have made does not."""
    migrate(db)
    with db.write() as connection:
        insert_row(connection, "jobs", id="job", tenant=ALICE)
        insert_row(connection, "declarations", id="dec", tenant=ALICE, job="job", created_at=1)
        for sha256, origin in {"kept": "upload", "made": "job", "free": "upload"}.items():
            insert_row(connection, "artifacts", sha256=sha256, tenant=ALICE, origin=origin)
            if sha256 != "free":
                insert_row(connection, "declared_uploads", declaration="dec", sha256=sha256)
    downgrade(db, "0008")
    with db.read() as connection:
        rows = connection.execute(select(artifacts.c.sha256, artifacts.c.expires_at))
        expiry = {row.sha256: row.expires_at for row in rows}
        now = float(connection.execute(select(db.now)).scalar_one())
    assert expiry == {"kept": pytest.approx(now + 30 * 86400, abs=600), "made": None, "free": None}
    assert "declarations" not in _count_rows(db)
    migrate(db)
    require_current_schema(db)


def test_who_had_jobs_is_a_tenant(db: Database) -> None:
    migrate(db, "0010")
    with db.write() as connection:
        for n, tenant in enumerate(["local", "Old Name", "local"]):
            insert_row(connection, "jobs", id=f"job{n}", tenant=tenant, dedup_key=None)
        insert_row(connection, "audits", id="aud", tenant="planner")
    migrate(db)
    known, _ = tenants.list_tenants(db)
    assert sorted(one.name for one in known) == ["Old Name", "local", "planner"]
    assert {one.disabled_at for one in known} == {None}
    assert min(one.created_at for one in known) > 1.7e9
    downgrade(db, "0010")
    migrate(db)


def test_a_file_is_copied_before_it_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/palimpsest.db"
    db = Database(url)
    assert copy_before_migrating(db) is None  # nothing there yet
    migrate(db, list_revisions()[-2])
    with db.write() as connection:
        before = fill_tables(connection)
    db.close()
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", url)
    assert admin.main(["migrate"]) == 0
    name = f"palimpsest.db.{list_revisions()[-2]}.copy"
    assert name in capsys.readouterr().out
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    copied = Database(f"sqlite:///{tmp_path}/{name}")
    assert _count_rows(copied) == before
    copied.close()
    assert copy_before_migrating(Database(url)) is None  # it is the newest


def test_two_that_migrate_at_once_take_turns(empty: str) -> None:
    ours, theirs = Database(empty), Database(empty)
    assert run_together(lambda: migrate(ours), lambda: migrate(theirs)) == [None, None]
    require_current_schema(ours)
    ours.close()
    theirs.close()


def test_many_that_open_a_new_file_at_once_all_get_in(tmp_path: Path) -> None:
    """SQLite answers 'locked' at once to the second that switches a new file to its write-ahead
    log."""
    for n in range(40):
        stores = [Database(f"sqlite:///{tmp_path}/{n}.db") for _ in range(4)]

        def opened(store: Database) -> None:
            with store.write():
                pass

        assert run_together(*(partial(opened, store) for store in stores)) == [None] * 4
        for store in stores:
            store.close()


def test_a_server_that_only_reads_at_the_moment_is_away_and_not_broken(
    request: pytest.FixtureRequest,
) -> None:
    db = Database(create_database(request.getfixturevalue("postgres_server")))
    migrate(db)

    def write_where_nothing_may_be_written() -> None:
        with db.write() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            connection.execute(text("DELETE FROM jobs"))

    with pytest.raises(TransientError, match="read-only"):
        write_where_nothing_may_be_written()
    db.close()
