"""services.gateway.stream_slots."""

from __future__ import annotations

import pytest

from services.gateway.stream_slots import StreamSlots
from shared.errors import QuotaReached, TransientError


def test_a_slot_is_given_back_once():
    slots = StreamSlots(1)
    slot = slots.take("alice", None)
    slot.release()
    slot.release()
    slots.take("bob", None)
    with pytest.raises(TransientError, match="1 event streams are open"):
        slots.take("alice", None)


def test_a_tenant_takes_no_more_than_it_may():
    slots = StreamSlots(10)
    first = slots.take("alice", 1)
    with pytest.raises(QuotaReached, match="you have open: 1, which is your limit"):
        slots.take("alice", 1)
    slots.take("bob", 1)
    first.release()
    slots.take("alice", 1)


def test_a_tenant_leaves_places_to_those_that_have_none() -> None:
    slots = StreamSlots(8)
    mine = [slots.take("acme", None) for _ in range(6)]
    with pytest.raises(TransientError, match="beside others"):
        slots.take("acme", None)
    slots.take("globex", None)
    slots.take("initech", None)
    with pytest.raises(TransientError, match="8 event streams"):
        slots.take("hooli", None)
    mine[0].release()
    slots.take("hooli", None)
