"""A report on a terminal: the verdict, and one line a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.cli.output import console, table, to_markup
from services.client import Report

Row = Mapping[str, Any]

FIRST = "psnr"  # of an attack's several scores, the one that is shown: the others are in the file
UNITLESS = (None, "1", "share")
OUTCOMES = {"leak": "a leak", "not_seen": "no leak seen", "inconclusive": "undecided"}
_COLOURS = {"leaks": "red", "reduced": "yellow", "no_leak_seen": "green", "inconclusive": "yellow"}


def show(report: Report) -> None:
    """The verdict and a compact table, on standard output."""
    verdict = report.data.get("verdict") or {}
    level = str(verdict.get("level", "no verdict"))
    colour = _COLOURS.get(level, "default")
    console().print(
        f"[{colour} bold]{to_markup(level.replace('_', ' '))}[/]: {to_markup(str(verdict.get('headline', '')))}"
    )
    if report.rows:
        cells = [_cells(row, report.rows) for row in report.rows]
        # a choice that all rows share tells nothing, and a terminal is narrow
        shown = [n for n in cells[0] if n not in ("seed", "defense") or len({c[n] for c in cells}) > 1]
        table(shown, [[to_markup(c[name]) for name in shown] for c in cells], wrap=True)
    for row in report.missing:
        who = " ".join(method_name(row, part) for part in ("unlearning", "defense", "attack"))
        console().print(
            f"[red]missing[/]: {to_markup(who)}, seed {row.get('seed', '-')}: {to_markup(str(row.get('why', '')))}"
        )


def method_name(row: Row, part: str) -> str:
    """Which unlearning, defense or attack a row is of. Rows that are missing may give it as a plain word."""
    found = row.get(part)
    if isinstance(found, Mapping):
        return str(found.get("method") or found.get("name") or "-")
    return str(found or "-")


def _cells(row: Row, rows: Sequence[Row]) -> dict[str, str]:
    metrics = row.get("metrics") or {}
    name = FIRST if FIRST in metrics else next(iter(metrics), "")
    score = metrics.get(name) or {}
    unit = "" if score.get("unit") in UNITLESS else str(score["unit"])
    return {
        "seed": str(row.get("seed", "-")),
        "unlearning": _told_apart(row, rows, "unlearning"),
        "defense": _told_apart(row, rows, "defense"),
        "attack": _told_apart(row, rows, "attack"),
        "score": _words(name.replace("_", " "), _number(score.get("mean")), unit),
        "null": _words(_number(score.get("null")), str(score.get("null_name") or "").replace("_", " ")),
        "gain": _words(_signed(score.get("gain")), _interval(score)),
        "identified": _identified(row),
        "shows": OUTCOMES.get(str((row.get("finding") or {}).get("outcome")), "-"),
    }


def _words(*words: str) -> str:
    return " ".join(filter(None, words))


def _told_apart(row: Row, rows: Sequence[Row], part: str) -> str:
    """The method, with those of its parameters in which it differs from others of its name."""
    name, params = method_name(row, part), _params(row, part)
    others = [_params(other, part) for other in rows if method_name(other, part) == name]
    differs = [p for p in params if any(other.get(p) != params[p] for other in others)]
    return name + (f" ({', '.join(f'{p} {params[p]}' for p in differs)})" if differs else "")


def _params(row: Row, part: str) -> Mapping[str, Any]:
    found = row.get(part)
    return (found.get("params") or {}) if isinstance(found, Mapping) else {}


def _identified(row: Row) -> str:
    found = row.get("identification")
    return f"{found['rank_1']} of {found['n']}" if isinstance(found, Mapping) and "rank_1" in found else "-"


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _signed(value: Any) -> str:
    text = _number(value)
    return f"+{text}" if isinstance(value, int | float) and value > 0 else text


def _interval(score: Row) -> str:
    low, high = score.get("gain_low"), score.get("gain_high")
    return "" if low is None or high is None else f"[{_signed(low)}, {_signed(high)}]"
