"""What an attempt is measured to take."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from workers.usage import UsageMeter

SIZE = 100 << 20
# In a process of its own: one that has run other tests may just be giving memory back.
PEAKS = f"""
import json
import numpy as np
from workers.usage import UsageMeter

meter = UsageMeter()
before = meter.read()
np.ones({SIZE}, np.uint8)  # freed at once
first = meter.read()
second = UsageMeter().read()
print(json.dumps([(c.memory_bytes, c.device_memory_bytes) for c in (before, first, second)]))
"""


def test_a_peak_counts_though_it_has_passed_and_not_in_the_next_attempt() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, check=True, text=True)
    (before, _), (first, device), (second, _) = json.loads(done.stdout)
    assert SIZE * 0.9 < first - before < SIZE * 1.5
    assert second < first - SIZE * 0.9
    assert device is None


def test_waiting_takes_time_and_no_processor() -> None:
    meter = UsageMeter()
    time.sleep(0.2)
    cost = meter.read()
    assert cost.run_s >= 0.2
    assert cost.cpu_s < 0.15
