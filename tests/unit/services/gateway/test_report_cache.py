"""Parsed reports are kept within bounds, and each tenant has its own."""

from __future__ import annotations

from services.gateway.report_cache import ReportCache
from shared.reporting.chosen_rows import RowIndex
from tests.support.reports import build_report, make_audit

INDEX = RowIndex(build_report(make_audit()))


def test_the_least_recently_used_go_first() -> None:
    cache = ReportCache(max_bytes=100)
    cache.put("anna", "1", INDEX, 40)
    cache.put("anna", "2", INDEX, 40)
    assert cache.get("anna", "1") is INDEX
    cache.put("anna", "3", INDEX, 40)
    assert [cache.get("anna", name) is not None for name in "123"] == [True, False, True]


def test_one_that_is_too_large_evicts_nothing() -> None:
    cache = ReportCache(max_bytes=100)
    cache.put("anna", "1", INDEX, 40)
    cache.put("anna", "2", INDEX, 101)
    assert cache.get("anna", "1") is INDEX
    assert cache.get("anna", "2") is None


def test_a_tenant_finds_nothing_of_another() -> None:
    cache = ReportCache()
    cache.put("anna", "1", INDEX, 40)
    assert cache.get("bert", "1") is None
