"""A report on a terminal: the verdict, and one line per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.cli.output.console import escape_markup, print_table, stdout_console
from services.client import Report

Row = Mapping[str, Any]

PREFERRED_METRIC = "psnr"  # the one metric that is shown if an attack has several; the file has all
UNITLESS = (None, "1", "share")
OUTCOMES = {"leak": "a leak", "not_seen": "no leak seen", "inconclusive": "inconclusive"}
_COLOURS = {"leaks": "red", "reduced": "yellow", "no_leak_seen": "green", "inconclusive": "yellow"}


def print_report(report: Report) -> None:
    """The verdict and a compact table, on standard output."""
    _print_verdict(report.data.get("verdict") or {})
    if report.rows:
        cells = [_format_row(row, report.rows) for row in report.rows]
        # what all rows share is left out: a terminal is narrow
        columns = [
            n for n in cells[0] if n not in ("seed", "defense") or len({c[n] for c in cells}) > 1
        ]
        print_table(
            columns, [[escape_markup(c[name]) for name in columns] for c in cells], wrap=True
        )
    for row in report.missing:
        row_name = " ".join(
            get_method_name(row, part) for part in ("unlearning", "defense", "attack")
        )
        stdout_console().print(
            f"[red]missing[/]: {escape_markup(row_name)}, seed {row.get('seed', '-')}: "
            f"{escape_markup(str(row.get('reason', '')))}"
        )


def _print_verdict(verdict: Mapping[str, Any]) -> None:
    """The sentences of the report's first page, and what was not tested."""
    level = str(verdict.get("level", "no verdict"))
    colour = _COLOURS.get(level, "default")
    stdout_console().print(
        f"[{colour} bold]{escape_markup(level.replace('_', ' '))}[/]: "
        f"{escape_markup(str(verdict.get('headline', '')))}"
    )
    for sentence in verdict.get("sentences") or ():
        stdout_console().print(escape_markup(str(sentence)))
    for name in verdict.get("passed") or ():
        stdout_console().print(f"[green]passed every test[/]: {escape_markup(str(name))}")
    for item in verdict.get("not_tested") or ():
        stdout_console().print(f"[dim]not tested[/]: {escape_markup(str(item))}")


def get_method_name(row: Row, part: str) -> str:
    """The name of a row's unlearning, defense or attack. Missing rows may give it as a plain
    string."""
    choice = row.get(part)
    if isinstance(choice, Mapping):
        return str(choice.get("method") or choice.get("name") or "-")
    return str(choice or "-")


def _format_row(row: Row, rows: Sequence[Row]) -> dict[str, str]:
    metrics = row.get("metrics") or {}
    name = PREFERRED_METRIC if PREFERRED_METRIC in metrics else next(iter(metrics), "")
    score = metrics.get(name) or {}
    unit = "" if score.get("unit") in UNITLESS else str(score["unit"])
    return {
        "seed": str(row.get("seed", "-")),
        "unlearning": _name_distinctly(row, rows, "unlearning"),
        "defense": _name_distinctly(row, rows, "defense"),
        "attack": _name_distinctly(row, rows, "attack"),
        "score": _join_words(name.replace("_", " "), _format_number(score.get("mean")), unit),
        "baseline": _join_words(
            _format_number(score.get("baseline")),
            str(score.get("baseline_name") or "").replace("_", " "),
        ),
        "gain": _join_words(_format_signed(score.get("gain")), _format_interval(score)),
        "identified": _format_identified(row),
        "shows": OUTCOMES.get(str((row.get("finding") or {}).get("outcome")), "-"),
    }


def _join_words(*words: str) -> str:
    return " ".join(filter(None, words))


def _name_distinctly(row: Row, rows: Sequence[Row], part: str) -> str:
    """The method, with the parameters in which it differs from other rows of the same method."""
    name, params = get_method_name(row, part), _get_params(row, part)
    others = [_get_params(other, part) for other in rows if get_method_name(other, part) == name]
    differs = [p for p in params if any(other.get(p) != params[p] for other in others)]
    return name + (f" ({', '.join(f'{p} {params[p]}' for p in differs)})" if differs else "")


def _get_params(row: Row, part: str) -> Mapping[str, Any]:
    choice = row.get(part)
    return (choice.get("params") or {}) if isinstance(choice, Mapping) else {}


def _format_identified(row: Row) -> str:
    identification = row.get("identification")
    return (
        f"{identification['rank_1']} of {identification['n']}"
        if isinstance(identification, Mapping) and "rank_1" in identification
        else "-"
    )


def _format_number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _format_signed(value: Any) -> str:
    text = _format_number(value)
    return f"+{text}" if isinstance(value, int | float) and value > 0 else text


def _format_interval(score: Row) -> str:
    low, high = score.get("gain_low"), score.get("gain_high")
    return "" if low is None or high is None else f"[{_format_signed(low)}, {_format_signed(high)}]"
