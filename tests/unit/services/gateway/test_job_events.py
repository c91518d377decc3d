"""services.gateway.job_events."""

from __future__ import annotations

from services.gateway.job_events import format_event
from shared.jobs.records import Event


def test_a_frame_is_one_line_of_data_whatever_the_text_holds():
    text = format_event(Event("job_1", 3, 0.0, "progress", {"note": "a\nb\r\n\u2028c"})).decode()
    assert text.startswith("id: 3\nevent: progress\ndata: {")
    assert text.endswith("}\n\n")
    assert len(text.splitlines()) == 4
