"""Stages that an operator has paused, for all tenants: claims pass over their jobs."""

from __future__ import annotations

from sqlalchemy import delete, select

from shared.jobs.database import Database
from shared.jobs.tables import paused_stages


def pause_stage(db: Database, stage: str) -> None:
    """Keep all jobs of a stage from being claimed, of every tenant; those that run go on.
    Idempotent."""
    row = {"stage": stage, "paused_at": db.now}
    db.run_transaction(
        lambda c: c.execute(db.insert(paused_stages).values(**row).on_conflict_do_nothing())
    )


def resume_stage(db: Database, stage: str) -> set[str]:
    """Let the jobs of a stage be claimed again; returns the stages to wake. Idempotent."""
    query = delete(paused_stages).where(paused_stages.c.stage == stage)
    return {stage} if db.run_transaction(lambda c: c.execute(query).rowcount) else set()


def list_paused_stages(db: Database) -> dict[str, float]:
    """By paused stage, since when, in seconds since 1970."""
    with db.read() as connection:
        return {row.stage: row.paused_at for row in connection.execute(select(paused_stages))}
