"""The page that an attempt and its lease process share."""

from __future__ import annotations

import contextlib
import os

from workers.page import SIZE, Order, Page


def test_progress_and_orders_cross_between_two_openings_of_the_page() -> None:
    child = Page.create()
    keeper = Page(os.dup(child.fd))
    assert keeper.progress() is None
    child.beat({"done": 3, "total": 9, "loss": 0.5})
    child.beat()
    assert keeper.progress() == {"done": 3, "total": 9, "loss": 0.5}
    assert keeper.counter() == 2
    keeper.order(1, Order.CANCEL)
    assert child.orders(1) is Order.CANCEL


def test_an_order_for_the_last_job_is_not_taken_by_the_next() -> None:
    page = Page.create()
    page.order(1, Order.CANCEL)
    assert page.orders(2) is Order.NONE


def test_cleared_progress_is_gone_and_the_counter_goes_on() -> None:
    page = Page.create()
    page.beat({"done": 1})
    page.clear()
    page.beat()
    assert page.progress() is None
    assert page.counter() == 2


def test_progress_that_does_not_fit_is_left_out_but_still_a_sign_of_life() -> None:
    page = Page.create()
    page.beat({"done": 1})
    page.beat({"text": "x" * SIZE})
    assert page.progress() == {"done": 1}
    assert page.counter() == 2


def test_a_wait_is_seen_from_the_other_side_while_it_lasts_whatever_ends_it() -> None:
    child = Page.create()
    keeper = Page(os.dup(child.fd))
    assert not keeper.waits()
    with child.waiting():
        with contextlib.suppress(RuntimeError), child.waiting():
            raise RuntimeError
        assert keeper.waits()
    assert not keeper.waits()
