"""The words and the one table of moves."""

from __future__ import annotations

from shared.jobs.states import LIVE, TERMINAL, TRANSITIONS, UNSUCCESSFUL, Failure, State, Stop


def test_the_table_of_moves_is_this() -> None:
    """Written out again on purpose: a change of the protocol is made in two places, by someone who
    means it."""
    assert {f"{a} -> {b}" for a, b in TRANSITIONS} == {
        "waiting -> queued", "waiting -> cancelled", "waiting -> failed",
        "queued -> paused", "queued -> cancelled", "queued -> running",
        "paused -> queued", "paused -> cancelled", "paused -> waiting",
        "running -> succeeded", "running -> failed", "running -> cancelled", "running -> queued",
        "failed -> queued", "failed -> waiting", "cancelled -> queued", "cancelled -> waiting",
        "succeeded -> queued", "succeeded -> waiting", "queued -> waiting", "running -> waiting",
    }  # fmt: skip
    assert all(TRANSITIONS.values())


def test_only_damage_undoes_a_success_and_only_a_retry_leaves_the_other_ends() -> None:
    assert {why for (before, _), why in TRANSITIONS.items() if before in UNSUCCESSFUL} == {"retry"}
    assert all(
        "damaged" in why for (before, _), why in TRANSITIONS.items() if before is State.SUCCEEDED
    )
    assert State.SUCCEEDED in TERMINAL
    assert set(State) == LIVE | TERMINAL


def test_only_a_claim_makes_a_job_run() -> None:
    assert [(b, why) for (b, to), why in TRANSITIONS.items() if to is State.RUNNING] == [
        (State.QUEUED, "claimed")
    ]


def test_words_fit_their_columns() -> None:
    assert all(len(s) <= 16 for s in (*State, *Stop))
    assert all(len(f) <= 32 for f in Failure)
