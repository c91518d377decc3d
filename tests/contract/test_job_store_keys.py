"""Tenants, their keys, and the log of who did what."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs import access_log, keys, tenants
from shared.jobs.database import Database
from shared.jobs.keys import ADMIN, READ, SUBMIT, Key
from shared.jobs.quotas import Quotas, load_quotas
from shared.jobs.server_secrets import load_secret
from shared.jobs.tables import metadata
from tests.support.job_store import ALICE, BOB, JobStore, run_together


def make_key(db: Database, tenant: str = ALICE, *scopes: str, **options: float) -> tuple[Key, str]:
    tenants.ensure_tenant(db, tenant)
    return keys.create_key(db, tenant, "", scopes or (READ, SUBMIT), **options)


def end_key(db: Database, key: Key) -> None:
    """As if its time were up."""
    with db.write() as connection:
        table = metadata.tables["keys"]
        connection.execute(update(table).where(table.c.id == key.id).values(expires_at=1.0))


def test_a_key_is_found_by_its_digest_and_its_secret_is_nowhere(store: JobStore) -> None:
    key, secret = make_key(store.db, ALICE, READ, lifetime_s=3600)
    assert keys.SECRET.fullmatch(secret)
    assert keys.KEY_ID.fullmatch(key.id)
    assert secret not in str(store.dump())
    assert secret.removeprefix("pal_") not in str(store.dump())
    same = keys.find_key(store.db, digest=keys.compute_digest(secret))
    assert same is not None
    assert (same.id, same.tenant, same.scopes, same.state) == (key.id, ALICE, {READ}, "valid")
    assert same.expires_in_s == pytest.approx(3600, abs=30)
    assert keys.find_key(store.db, digest=keys.compute_digest(f"{secret}x")) is None


def test_the_states_of_a_key(store: JobStore) -> None:
    valid, revoked, expired, disabled = (
        make_key(store.db, t)[0] for t in (ALICE, ALICE, ALICE, BOB)
    )
    first = keys.revoke_key(store.db, revoked.id, has_token=False)
    again = keys.revoke_key(store.db, revoked.id, has_token=False)
    assert first.revoked_at == again.revoked_at
    end_key(store.db, expired)
    tenants.disable_tenant(store.db, BOB, has_token=False)
    made = [valid, revoked, expired, disabled]
    states = [keys.get_key(store.db, one.id).state for one in made]
    assert states == ["valid", "revoked", "expired", "disabled"]
    assert keys.list_valid(store.db, [one.id for one in made]) == {valid.id}
    assert keys.count_valid(store.db) == (1, 0)
    assert keys.has_valid(store.db)
    tenants.enable_tenant(store.db, BOB)
    assert keys.list_valid(store.db, [one.id for one in made]) == {valid.id, disabled.id}
    for one in (valid, disabled):
        keys.revoke_key(store.db, one.id, has_token=False)
    assert not keys.has_valid(store.db)


def test_keys_are_listed_newest_first_in_pages(store: JobStore) -> None:
    made = [make_key(store.db)[0].id for _ in range(3)]
    other = make_key(store.db, BOB)[0].id
    assert sorted(k.id for k in keys.list_keys(store.db).items) == sorted([*made, other])
    page = keys.list_keys(store.db, tenant=ALICE, limit=2)
    rest = keys.list_keys(store.db, tenant=ALICE, limit=2, page=page.next)
    assert sorted(k.id for k in [*page.items, *rest.items]) == sorted(made)
    assert rest.next is None


def test_the_last_key_that_may_administer_stays(store: JobStore) -> None:
    admin, other = make_key(store.db, ALICE, ADMIN)[0], make_key(store.db, BOB, READ)[0]
    with pytest.raises(Conflict, match="create another one first"):
        keys.revoke_key(store.db, admin.id, has_token=False)
    with pytest.raises(Conflict, match="create another one first"):
        tenants.disable_tenant(store.db, ALICE, has_token=False)
    assert keys.get_key(store.db, admin.id).is_valid
    keys.revoke_key(store.db, other.id, has_token=False)  # it could not administer anyway
    second = make_key(store.db, BOB, ADMIN)[0]
    keys.revoke_key(store.db, admin.id, has_token=False)
    keys.revoke_key(store.db, admin.id, has_token=False)
    keys.revoke_key(store.db, second.id, has_token=True)
    assert keys.count_valid(store.db) == (0, 0)


def test_two_who_revoke_each_others_key_leave_one(store: JobStore) -> None:
    first, second = (make_key(store.db, ALICE, ADMIN)[0].id for _ in range(2))
    results = run_together(
        lambda: keys.revoke_key(store.db, first, has_token=False),
        lambda: keys.revoke_key(store.db, second, has_token=False),
    )
    assert sorted(type(one).__name__ for one in results) == ["Conflict", "Key"]
    assert keys.count_valid(store.db) == (1, 1)


def test_a_use_is_noted_once_a_minute(store: JobStore) -> None:
    key, _ = make_key(store.db)
    assert not key.is_use_noted
    keys.note_use(store.db, key.id)
    noted = keys.get_key(store.db, key.id)
    keys.note_use(store.db, key.id)
    assert keys.get_key(store.db, key.id).last_used_at == noted.last_used_at
    assert noted.is_use_noted
    table = metadata.tables["keys"]
    with store.db.write() as connection:
        connection.execute(update(table).values(last_used_at=table.c.last_used_at - 61))
    assert not keys.get_key(store.db, key.id).is_use_noted
    keys.note_use(store.db, key.id)
    assert keys.get_key(store.db, key.id).is_use_noted


@pytest.mark.parametrize(
    ("label", "scopes", "lifetime_s", "field"),
    [
        ("a\nb", [READ], None, "label"),
        ("a" * 101, [READ], None, "label"),
        ("", [], None, "scopes"),
        ("", ["root"], None, "scopes"),
        ("", [READ], 59.0, "lifetime_s"),
        ("", [READ], float("inf"), "lifetime_s"),
        ("", [READ], float("nan"), "lifetime_s"),
    ],
)
def test_a_key_that_cannot_be(
    store: JobStore, label: str, scopes: list[str], lifetime_s: float | None, field: str
) -> None:
    tenants.ensure_tenant(store.db, ALICE)
    with pytest.raises(InvalidRequest) as raised:
        keys.create_key(store.db, ALICE, label, scopes, lifetime_s)
    assert raised.value.field == field
    assert keys.list_keys(store.db).items == []


def test_nobody_else_than_a_tenant_has_keys(store: JobStore) -> None:
    with pytest.raises(NotFound):
        keys.create_key(store.db, "nobody", "", [READ])
    for of in (keys.get_key, tenants.get_tenant):
        with pytest.raises(NotFound):
            of(store.db, "nobody")


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a b", "a\n", "a\x00", "é", "a" * 65, "../etc", "<script>"]
)
def test_a_name_that_a_tenant_cannot_have(store: JobStore, name: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        tenants.create_tenant(store.db, name)
    assert not name or name not in raised.value.message or name == "a"
    assert tenants.list_tenants(store.db) == ([], None)


def test_tenants_and_their_quotas(store: JobStore) -> None:
    made = tenants.create_tenant(store.db, BOB, tenants.Quotas(max_running_jobs=3))
    with pytest.raises(Conflict):
        tenants.create_tenant(store.db, BOB)
    tenants.ensure_tenant(store.db, BOB)
    assert tenants.get_tenant(store.db, BOB) == made
    changed = tenants.set_quotas(
        store.db, BOB, {"max_running_jobs": None, "max_artifact_bytes": 2**62}
    )
    assert changed.quotas == tenants.Quotas(max_artifact_bytes=2**62)
    assert load_quotas(store.db, BOB) == changed.quotas
    assert load_quotas(store.db, "nobody") == Quotas()
    for wrong in ({"max_running_jobs": -1}, {"max_running_jobs": 2**31}, {"name": 1}):
        with pytest.raises(InvalidRequest):
            tenants.set_quotas(store.db, BOB, wrong)
    with pytest.raises(NotFound):
        tenants.set_quotas(store.db, ALICE, {"max_running_jobs": 1})
    tenants.ensure_tenant(store.db, ALICE)
    (alice,), after = tenants.list_tenants(store.db, limit=1)
    assert (alice.name, after) == (ALICE, ALICE)
    assert tenants.list_tenants(store.db, after=ALICE, limit=1) == ([changed], None)


def test_the_log_has_the_act_before_its_end(store: JobStore) -> None:
    entry = access_log.begin_entry(store.db, ALICE, "key_1", "POST /v1/jobs", "")
    (begun,) = access_log.list_entries(store.db).items
    assert (begun.status, begun.subject, begun.tenant) == (None, "", ALICE)
    access_log.finish_entry(store.db, entry, 202, "job_1")
    hostile = access_log.begin_entry(store.db, BOB, "token", "POST /v1/jobs", "a\nb")
    access_log.finish_entry(store.db, hostile, 422)
    assert [(e.tenant, e.subject, e.status) for e in access_log.list_entries(store.db).items] in (
        [(BOB, "", 422), (ALICE, "job_1", 202)],
        [(ALICE, "job_1", 202), (BOB, "", 422)],  # within one millisecond of the clock
    )
    (only,) = access_log.list_entries(store.db, tenant=ALICE).items
    assert only.id == entry
    with store.db.write() as connection:
        access_log.hide_subjects(connection, BOB, ["job_1"])
    assert access_log.list_entries(store.db, tenant=ALICE).items == [only]
    with store.db.write() as connection:
        access_log.hide_subjects(connection, ALICE, ["job_1"])
    assert access_log.list_entries(store.db, tenant=ALICE).items[0].subject == ""


def test_a_secret_of_the_gateway_is_made_once(store: JobStore) -> None:
    made = run_together(*[lambda: load_secret(store.db, "a")] * 4)
    assert len(set(made)) == 1
    assert len(str(made[0])) == 64
    assert load_secret(store.db, "b") != made[0]


def test_a_tenant_is_named_nowhere_in_the_entries_of_others(store: JobStore) -> None:
    key, _ = make_key(store.db, ALICE)
    acts = [
        ("POST /v1/tenants", ALICE),
        ("DELETE /v1/keys/{key_id}", key.id),
        ("POST /v1/tenants", BOB),
        ("DELETE /v1/models/{name}", ALICE),  # a model of that name, of somebody else
    ]
    ids = [access_log.begin_entry(store.db, BOB, "token", *act) for act in acts]
    with store.db.write() as connection:
        access_log.hide_tenant(connection, ALICE)
    subjects = {e.id: e.subject for e in access_log.list_entries(store.db).items}
    assert [subjects[one] for one in ids] == ["", "", BOB, ALICE]
