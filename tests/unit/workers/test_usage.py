"""What an attempt is measured to take."""

from __future__ import annotations

import time

import numpy as np

from workers.usage import UsageMeter

SIZE = 100 << 20


def test_a_peak_counts_though_it_has_passed_and_not_in_the_next_attempt() -> None:
    meter = UsageMeter()
    before = meter.read()
    np.ones(SIZE, np.uint8)  # freed at once
    first = meter.read()
    second = UsageMeter().read()
    assert before.memory_bytes is not None
    assert first.memory_bytes is not None
    assert second.memory_bytes is not None
    assert SIZE * 0.9 < first.memory_bytes - before.memory_bytes < SIZE * 1.5
    assert second.memory_bytes < first.memory_bytes - SIZE * 0.9
    assert first.device_memory_bytes is None


def test_waiting_takes_time_and_no_processor() -> None:
    meter = UsageMeter()
    time.sleep(0.2)
    cost = meter.read()
    assert cost.run_s >= 0.2
    assert cost.cpu_s < 0.15
