"""What a piece of a storm is: how long, on which store, with which pace and which settings of the
product."""

from __future__ import annotations

from dataclasses import dataclass, field

# a clock that steps by an hour is read unambiguously in a piece that is much shorter
MAX_MINUTES = 30.0


@dataclass(frozen=True)
class Pace:
    """How fast faults and jobs come, and how long faults last; times in seconds.

    `lease_s`, `renew_s` and `reconcile_s` are settings of the product, None for its defaults.
    """

    fault_gap_s: tuple[float, float] = (3.5, 7.0)
    lease_s: float | None = 10.0
    renew_s: float | None = 1.0
    reconcile_s: float | None = 1.0
    short_s: tuple[float, float] = (0.2, 3.0)
    host_gone_s: float = 60.0
    store_away_s: tuple[float, float] = (2.0, 15.0)
    clients: int = 6
    jobs_per_s: float = 6.0
    # jobs that wait or run at once: more would measure the queue, not the recovery
    max_live: int = 120
    # of jobs of seconds, long ones, ones that do not listen
    shares: tuple[float, float, float] = (0.08, 0.03, 0.02)
    long_job_s: tuple[float, float] = (8.0, 15.0)
    audit_every_s: float | None = 240.0
    workers: dict[str, int] = field(
        default_factory=lambda: {"train": 1, "unlearn": 1, "attack": 1, "evaluate": 3}
    )
    least_accepted: int = 0  # jobs that must have been accepted before clients stop
    settle_s: float = 300.0  # after the last fault; what has not ended then is stuck

    @property
    def lease(self) -> float:
        """The lease that is in force."""
        return self.lease_s if self.lease_s is not None else 45.0

    @property
    def beyond_lease_s(self) -> tuple[float, float]:
        """How long a freeze takes after which the lease has run out."""
        return self.lease + 3, self.lease + 8

    def environment(self) -> dict[str, str]:
        """Variables of the product."""
        told = {
            "PALIMPSEST_LEASE_S": self.lease_s,
            "PALIMPSEST_LEASE_RENEW_S": self.renew_s,
            "PALIMPSEST_RECONCILE_INTERVAL_S": self.reconcile_s,
            "PALIMPSEST_CHECKPOINT_INTERVAL_S": 1.0,
            "PALIMPSEST_STOP_GRACE_S": 3.0 if self.lease_s is not None else None,
        }
        return {name: str(value) for name, value in told.items() if value is not None}


STORM = Pace()
PRODUCT = Pace(
    lease_s=None, renew_s=None, reconcile_s=None, fault_gap_s=(5.0, 10.0), settle_s=600.0
)
# In the suite: every kind of fault once, beside other tests, on whatever machine.
SUITE = Pace(
    fault_gap_s=(1.0, 2.0), lease_s=15.0, host_gone_s=12.0, store_away_s=(1.0, 5.0), long_job_s=(5.0, 9.0),
    shares=(0.2, 0.2, 0.05),  # few jobs, but always one that runs
    audit_every_s=None, workers={"train": 0, "unlearn": 0, "attack": 0, "evaluate": 2}, max_live=10, settle_s=600.0,
    least_accepted=40,
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """One run. Ends after `minutes`, or once each kind of fault has come `rounds` times."""

    seed: int
    store: str  # sqlite or postgresql
    pace: Pace = STORM
    minutes: float | None = None
    rounds: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.rounds is None):
            raise ValueError("give minutes, or rounds")
        if self.minutes is not None and not 0 < self.minutes <= MAX_MINUTES:
            raise ValueError(f"a piece lasts up to {MAX_MINUTES:g} minutes, not {self.minutes:g}")
        if self.store not in ("sqlite", "postgresql"):
            raise ValueError(f"the store is sqlite or postgresql, not {self.store}")
