"""`python -m benchmarks.fleet`: a day of audits on fixed fleets and on an autoscaled one, simulated.

The autoscaler follows deploy/k8s/components/keda/scaled-objects.yaml. Seconds; the results are the same
for the same arguments.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.engine.conditions import RESULTS_FOLDER, print_table
from benchmarks.fleet.autoscaler import ScalingRule, load_rules
from benchmarks.fleet.load import draw_day
from benchmarks.fleet.simulation import GROUPS, Delays, Fleet, Outcome, Simulation

FIXED_SIZES = ((1, 1, 6, 1), (1, 2, 12, 1), (2, 3, 18, 1), (2, 4, 24, 2), (3, 6, 36, 2))


def list_fleets() -> list[Fleet]:
    """The fleets that are compared."""
    rules = {group: rule for group, rule in load_rules().items() if group in GROUPS}

    def wait_longer(minutes: int) -> dict[str, ScalingRule]:
        seconds = 60.0 * minutes
        return {
            group: replace(rule, down_window_s=seconds, cooldown_s=seconds)
            for group, rule in rules.items()
        }

    return [
        *(
            Fleet(f"{sum(sizes)} workers", sizes=dict(zip(GROUPS, sizes, strict=True)))
            for sizes in FIXED_SIZES
        ),
        Fleet("autoscaled", rules=rules),
        Fleet("autoscaled, no deletion costs", rules=rules, has_costs=False),
        Fleet("autoscaled, down after 5 min", rules=wait_longer(5)),
        Fleet(
            "autoscaled, down after 5 min, no deletion costs", rules=wait_longer(5), has_costs=False
        ),
        Fleet("autoscaled, down after 15 min", rules=wait_longer(15)),
        Fleet("autoscaled by queued jobs only", rules=rules, counts_running=False),
    ]


def simulate(fleet: Fleet, days: int, audits_per_day: int, delays: Delays, seed: int) -> Outcome:
    """Several days, each from an empty system; the outcomes together."""
    total = Outcome()
    for day in range(days):
        audits = draw_day(seed + day, audits_per_day)
        outcome = Simulation(audits, fleet, delays, seed + day).run()
        total.waits_s += outcome.waits_s
        total.turnarounds_s += outcome.turnarounds_s
        total.worker_s += outcome.worker_s
        total.busy_s += outcome.busy_s
        total.busy_kills += outcome.busy_kills
        total.lost_s += outcome.lost_s
    return total


def describe(name: str, outcome: Outcome, days: int) -> dict[str, str]:
    """A row of the table, per day."""
    return {
        "fleet": name,
        "wait, median (s)": f"{find_quantile(outcome.waits_s, 0.5):,.1f}",
        "wait, p95 (s)": f"{find_quantile(outcome.waits_s, 0.95):,.0f}",
        "audit, median (min)": f"{find_quantile(outcome.turnarounds_s, 0.5) / 60:,.0f}",
        "audit, p95 (min)": f"{find_quantile(outcome.turnarounds_s, 0.95) / 60:,.0f}",
        "worker-hours": f"{outcome.worker_s / 3600 / days:,.0f}",
        "busy": f"{outcome.busy_s / outcome.worker_s:.0%}",
        "busy workers removed": f"{outcome.busy_kills / days:,.1f}",
        "lost (min)": f"{outcome.lost_s / 60 / days:,.1f}",
    }


def find_quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the others is."""
    return sorted(values)[round(share * (len(values) - 1))]


def main() -> None:
    """Print the table, and write it into the results folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--days", type=int, default=5, help="days to simulate (default: 5)")
    parser.add_argument("--audits", type=int, default=100, help="audits per day (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first day (default: 0)")
    parser.add_argument(
        "--start-s",
        type=float,
        default=Delays.start_s,
        help="start-up of a worker (default: %(default)s)",
    )
    parser.add_argument(
        "--schedule-s", type=float, default=Delays.schedule_s,
        help="until Kubernetes has started its process; 120 with a new node (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/fleet.json")
    options = parser.parse_args()
    delays = Delays(start_s=options.start_s, schedule_s=options.schedule_s)
    rows = [
        describe(
            fleet.name,
            simulate(fleet, options.days, options.audits, delays, options.seed),
            options.days,
        )
        for fleet in list_fleets()
    ]
    print_table(rows)
    if options.write:
        measured = {name: value for name, value in vars(options).items() if name != "write"}
        text = json.dumps({"conditions": measured, "rows": rows}, indent=2)
        (RESULTS_FOLDER / "fleet.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
