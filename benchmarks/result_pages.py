"""Server time of the console's pages with results: `python -m benchmarks.result_pages`.

Reports have rows like those of a real one, many times over: 4 attacks on each of a number of
releases, 8 deletions, pictures of 40 rows. The gateway answers in this process, with SQLite.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from shared.reporting.models import Report
from shared.reporting.picture_file import write_pictures
from shared.reporting.pictures import Gallery
from shared.roles import Role
from tests.support.gateway import AUDIT, GatewayInProcess
from tests.support.reported_audits import build_measured_report, finish_with_report

SIZES = (8, 200, 500, 2000, 10_000)
PICTURED_ROWS = 40
REPEATS = 5


def make_report(rows: int, shift: float) -> tuple[Report, list[dict[str, Any]], Any]:
    """A report of that many rows."""
    report, evaluations, galleries = build_measured_report(shift)
    kinds, made = list(report.rows), []
    for number in range(rows):
        row = kinds[number % len(kinds)]
        params = {"rate": number // (4 * len(kinds))}
        attack = row.attack.model_copy(update={"params": {"restart": number // len(kinds) % 4}})
        changes = {
            "unlearning": row.unlearning.model_copy(update={"params": params}),
            "attack": attack,
        }
        made.append(row.model_copy(update=changes))
    pictured = [
        Gallery(r.seed, r.unlearning, r.defense, r.attack, [*galleries[0].pictures] * 3)
        for r in made[:PICTURED_ROWS]
    ]
    return report.model_copy(update={"rows": made}), evaluations, pictured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=SIZES)
    for rows in parser.parse_args().rows:
        with tempfile.TemporaryDirectory() as folder:
            gateway = GatewayInProcess(Path(folder))
            ids, size = [], 0
            for shift in (0.0, 3.0):
                body = {**AUDIT, "name": f"{shift}"}
                ids.append(gateway.http.post("/v1/audits", json=body).get_json()["id"])
                report, evaluations, galleries = make_report(rows, shift)
                files: dict[str, bytes] = {
                    Role.REPORT: json.dumps(report.to_dict()).encode(),
                    Role.REPORT_PICTURES: write_pictures(galleries),
                }
                finish_with_report(gateway.make_worker(), files, evaluations)
                size = len(files[Role.REPORT])
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            timings = {
                "first": time_page(gateway, f"/audits/{ids[0]}/result", 1),
                "again": time_page(gateway, f"/audits/{ids[0]}/result", REPEATS),
                "worst": time_page(gateway, f"/audits/{ids[0]}/result?sort=worst", REPEATS),
                "compared first": time_page(gateway, f"/compare?audits={','.join(ids)}", 1),
                "compared again": time_page(gateway, f"/compare?audits={','.join(ids)}", REPEATS),
            }
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            shown = json.dumps(timings)
            print(f"{rows} rows, report.json {size >> 10} KiB: {shown}; {grown >> 10} MiB more")
            gateway.close()


def time_page(gateway: GatewayInProcess, path: str, repeats: int) -> str:
    """Median milliseconds of processor time, and the size of the page."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        answer = gateway.http.get(path, headers={"Accept": "text/html"})
        seconds.append(time.process_time() - start)
        assert answer.status_code == 200, answer.get_data(as_text=True)[:500]
    median = sorted(seconds)[len(seconds) // 2]
    return f"{1000 * median:.0f} ms, {len(answer.get_data()) >> 10} KiB"


if __name__ == "__main__":
    main()
