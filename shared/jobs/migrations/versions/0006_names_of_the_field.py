"""the field's words for columns (dedup_key, request_key, cache_key, no_cache, pinned, run_when),
for the state paused, and for roles and parameters of stored jobs and audits"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ROWS = 5000

COLUMNS = {
    "live_key": "dedup_key",
    "plan_key": "request_key",
    "content_key": "cache_key",
    "fresh": "no_cache",
    "direct": "pinned",
}
ROLES = {
    "JUDGE": "FEATURE_NETWORK",
    "FETCHED": "AVERAGED_RELEASES",
    "COUNTS": "DELETION_SIZES",
}
# parameters of stages, by stage, and of their methods, by kind of plugin and name
STAGE_PARAMS = {
    "evaluate": {"judge": "feature_network"},
    "candidates": {"never": "non_members"},
}
METHOD_PARAMS = {
    ("defense", "obfuscation"): {"draws": "releases_averaged"},
    ("attack", "feature_recovery"): {"gradient_at": "evaluation_point"},
}
METHOD_KINDS = {"defend": "defense", "attack": "attack"}  # by stage
METHOD_LISTS = {"defenses": "defense", "attacks": "attack"}  # by field of an audit


def upgrade() -> None:
    _rename_columns()
    op.execute("UPDATE jobs SET state = 'paused' WHERE state = 'held'")
    for end in ("from", "to"):
        op.execute(
            f"""UPDATE events SET data = replace(data, '"{end}":"held"', '"{end}":"paused"')
            WHERE kind = 'state' AND data LIKE '%"{end}":"held"%'"""
        )
    _rename_roles()
    # Keys stay as they are, though they are digests over the old names. Among stored jobs they
    # still say which are equal, so that of two equal ones only one is live after a retry. No new
    # request can come to one of them by mistake: it would have to use the old names.
    _rewrite("jobs", ("stage", "method"), "params", _rename_job_params)
    _rewrite("audits", (), "spec", _rename_spec)
    # Catalogs describe roles, parameters and wirings under the old names, and code that is no
    # longer there. Whoever read one would plan with half of it; each worker publishes its own when
    # it starts.
    op.execute("DELETE FROM catalogs")


def _rename_columns() -> None:
    # Not in a batch: RENAME keeps the table, its rows and whatever refers to them.
    for old, new in COLUMNS.items():
        op.execute(f"ALTER TABLE jobs RENAME COLUMN {old} TO {new}")
    op.add_column(
        "jobs",
        sa.Column("run_when", sa.String(length=16), server_default="all_succeeded", nullable=False),
    )
    op.execute("UPDATE jobs SET run_when = 'all_finished' WHERE tolerant")
    op.drop_index(op.f("ix_jobs_tenant_content_key"), table_name="jobs")
    op.create_index(op.f("ix_jobs_tenant_cache_key"), "jobs", ["tenant", "cache_key"])
    if op.get_context().dialect.name == "postgresql":
        op.drop_column("jobs", "tolerant")
        op.execute(
            "ALTER TABLE jobs RENAME CONSTRAINT uq_jobs_tenant_live_key TO uq_jobs_tenant_dedup_key"
        )
    else:
        # SQLite cannot rename a constraint. `Database.change_schema` has switched references off.
        with op.batch_alter_table("jobs") as batch_op:
            batch_op.drop_column("tolerant")
            batch_op.drop_constraint("uq_jobs_tenant_live_key", type_="unique")
            batch_op.create_unique_constraint("uq_jobs_tenant_dedup_key", ["tenant", "dedup_key"])


def _rename_roles() -> None:
    for old, new in ROLES.items():
        for table, column in [
            ("job_inputs", "role"),
            ("job_inputs", "parent_role"),
            ("job_artifacts", "role"),
        ]:
            op.execute(f"UPDATE {table} SET {column} = '{new}' WHERE {column} = '{old}'")
        op.execute(
            f"""UPDATE jobs SET produces = replace(produces, '"{old}"', '"{new}"')
            WHERE produces LIKE '%"{old}"%'"""
        )


def _rewrite(
    table: str, columns: Iterable[str], target: str, rename: Callable[..., dict[str, Any]]
) -> None:
    """Rename keys in a column of JSON, a bounded number of rows at a time."""
    connection = op.get_bind()
    query = sa.text(
        f"SELECT {', '.join(('id', target, *columns))} FROM {table} "
        "WHERE id > :last ORDER BY id LIMIT :rows"
    )
    last = ""
    while rows := connection.execute(query, {"last": last, "rows": ROWS}).all():
        changed = []
        for row in rows:
            before = json.loads(getattr(row, target))
            after = rename(before, *(getattr(row, c) for c in columns))
            if after != before:
                changed.append({"id": row.id, "text": _to_json(after)})
        if changed:
            connection.execute(
                sa.text(f"UPDATE {table} SET {target} = :text WHERE id = :id"), changed
            )
        last = rows[-1].id


def _to_json(value: Any) -> str:
    """As the store writes it: keys in order, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _rename_keys(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _rename_job_params(params: dict[str, Any], stage: str, method: str | None) -> dict[str, Any]:
    if stage == "report" and isinstance(params.get("audit"), dict):
        return {**params, "audit": _rename_spec(params["audit"])}
    names = STAGE_PARAMS.get(stage, {})
    if method is not None:
        names = names | METHOD_PARAMS.get((METHOD_KINDS.get(stage, ""), method), {})
    return _rename_keys(params, names)


def _rename_spec(spec: dict[str, Any]) -> dict[str, Any]:
    renamed = _rename_keys(spec, {"fresh": "no_cache"})
    for field, names in STAGE_PARAMS.items():
        if isinstance(spec.get(field), dict):
            renamed[field] = _rename_keys(spec[field], names)
    for field, kind in METHOD_LISTS.items():
        if isinstance(spec.get(field), list):
            renamed[field] = [_rename_method_params(ref, kind) for ref in spec[field]]
    return renamed


def _rename_method_params(ref: Any, kind: str) -> Any:
    """`ref` is a plugin by name, or a name with its parameters."""
    if not isinstance(ref, dict) or not isinstance(ref.get("params"), dict):
        return ref
    names = METHOD_PARAMS.get((kind, str(ref.get("name"))), {})
    return {**ref, "params": _rename_keys(ref["params"], names)}


def downgrade() -> None:
    raise NotImplementedError("go back by restoring the copy that was made before the migration")
