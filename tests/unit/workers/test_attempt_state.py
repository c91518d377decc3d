"""The page that an attempt and its lease process share."""

from __future__ import annotations

import contextlib
import os

from workers.attempt_state import SIZE_BYTES, AttemptState, ControlSignal


def test_progress_and_orders_cross_between_two_openings_of_the_page() -> None:
    child = AttemptState.create()
    keeper = AttemptState(os.dup(child.fd))
    assert keeper.read_progress() is None
    child.heartbeat({"done": 3, "total": 9, "loss": 0.5})
    child.heartbeat()
    assert keeper.read_progress() == {"done": 3, "total": 9, "loss": 0.5}
    assert keeper.heartbeat_count() == 2
    keeper.send_signal(1, ControlSignal.CANCEL)
    assert child.pending_signal(1) is ControlSignal.CANCEL


def test_an_order_for_the_last_job_is_not_taken_by_the_next() -> None:
    page = AttemptState.create()
    page.send_signal(1, ControlSignal.CANCEL)
    assert page.pending_signal(2) is ControlSignal.NONE


def test_cleared_progress_is_gone_and_the_counter_goes_on() -> None:
    page = AttemptState.create()
    page.heartbeat({"done": 1})
    page.clear_progress()
    page.heartbeat()
    assert page.read_progress() is None
    assert page.heartbeat_count() == 2


def test_progress_that_does_not_fit_is_left_out_but_still_a_sign_of_life() -> None:
    page = AttemptState.create()
    page.heartbeat({"done": 1})
    page.heartbeat({"text": "x" * SIZE_BYTES})
    assert page.read_progress() == {"done": 1}
    assert page.heartbeat_count() == 2


def test_a_wait_is_seen_from_the_other_side_while_it_lasts_whatever_ends_it() -> None:
    child = AttemptState.create()
    keeper = AttemptState(os.dup(child.fd))
    assert not keeper.is_waiting()
    with child.mark_waiting():
        with contextlib.suppress(RuntimeError), child.mark_waiting():
            raise RuntimeError
        assert keeper.is_waiting()
    assert not keeper.is_waiting()
