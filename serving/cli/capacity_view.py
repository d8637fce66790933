"""A plan and its miss-ratio curve as text. Pure but for printing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from serving.cli import views
from serving.cli.client import Json
from serving.cli.top_view import milliseconds

_WIDTH, _HEIGHT = 64, 12


def print_plan(plan: Json, curve: Json | None, *, window: str) -> None:
    """Curve, sizes now and recommended, reasons and warnings."""
    now, wanted = plan["now"], plan["recommended"]
    if curve is not None and curve["n_requests"]:
        n = curve["n_requests"]
        _say(f"miss ratio by slots per engine: {n} requests in the last {window}", "bold")
        slots = wanted["gpu_slots"] if wanted else None
        for line in draw_curve(curve["points"], today=now["gpu_slots"], recommended=slots):
            _say(line)
    rows = [("now", *_cells(now, now))]
    if wanted is not None:
        rows.append(("recommended", *_cells(wanted, plan["predicted"])))
    columns = (
        "", "engines", "slots", "cpu slots", "max rank", "miss ratio", "loads/min", "added/request",
    )  # fmt: skip
    views.print_table(f"goal: {goal_text(plan['goal'])}", columns, rows)
    if plan["is_reachable"] is False:
        _say("The goal cannot be reached by slots.", "red")
    if not plan["is_enough_data"]:
        _say("Too few requests were seen to rely on this.", "yellow")
    for reason in plan["reasons"]:
        _say(f"- {reason}")
    for warning in plan["warnings"]:
        _say(f"warning: {warning['text']} ({warning['code']})", "yellow")


def goal_text(goal: Mapping[str, Any]) -> str:
    """The goal in words."""
    parts = []
    if goal["miss_ratio"] is not None:
        parts.append(f"at most {100 * goal['miss_ratio']:g} % misses")
    if goal["added_seconds"] is not None:
        parts.append(f"at most {1000 * goal['added_seconds']:g} ms added to a request")
    return " and ".join(parts)


def draw_curve(
    points: Sequence[Mapping[str, Any]], *, today: int | None, recommended: int | None
) -> list[str]:
    """The curve as lines of text; slots grow from left to right by factors.

    `T` under a column is today's slot count, `R` the recommended one, `B` both.
    """
    known = [point for point in points if point["miss_ratio"] is not None]
    if not known:
        return []
    ratios, last = {p["slots"]: p["miss_ratio"] for p in known}, known[-1]["slots"]
    most = max(ratios.values()) or 1.0
    columns = [_ratio_at(ratios, _slots_at(column, last)) for column in range(_WIDTH)]
    lines = []
    for row in range(_HEIGHT, -1, -1):
        label = f"{100 * most * row / _HEIGHT:5.1f} % " if row % 4 == 0 else " " * 8
        cells = ["•" if round(ratio / most * _HEIGHT) == row else " " for ratio in columns]
        lines.append(f"{label}│{''.join(cells)}".rstrip())
    lines.append(" " * 8 + "└" + "─" * _WIDTH)
    lines.append(" " * 9 + _marks(last, today, recommended))
    lines.append(" " * 9 + _axis(last))
    return lines


def _slots_at(column: int, last: int) -> int:
    return round(math.pow(last, column / (_WIDTH - 1)))


def _column_of(slots: int, last: int) -> int:
    if last <= 1:
        return 0
    share = math.log(min(max(slots, 1), last)) / math.log(last)
    return round(share * (_WIDTH - 1))


def _ratio_at(ratios: Mapping[int, float], slots: int) -> float:
    # Every slot count up to 256 is there; beyond, the next smaller one: misses only fall.
    return ratios[max(known for known in ratios if known <= max(slots, min(ratios)))]


def _marks(last: int, today: int | None, recommended: int | None) -> str:
    marks = [" "] * _WIDTH
    for slots, letter in ((today, "T"), (recommended, "R")):
        if slots is not None:
            column = _column_of(slots, last)
            marks[column] = letter if marks[column] == " " else "B"
    legend = "T: today"
    if recommended is not None:
        legend += ", R: recommended" + (", B: both" if "B" in marks else "")
    return "".join(marks) + "  " + legend


def _axis(last: int) -> str:
    cells = [" "] * (_WIDTH + 8)
    free_from = 0
    for column in range(0, _WIDTH, 9):
        label = str(_slots_at(column, last))
        if column >= free_from:
            cells[column : column + len(label)] = label
            free_from = column + len(label) + 1
    return "".join(cells).rstrip() + "  slots"


def _cells(sizes: Mapping[str, Any], costs: Mapping[str, Any] | None) -> tuple[Any, ...]:
    costs = costs or {}
    ratio, loads = costs.get("miss_ratio"), costs.get("loads_per_minute")
    return (
        sizes["engines"],
        sizes["gpu_slots"],
        sizes["cpu_slots"],
        sizes["max_rank"],
        "-" if ratio is None else f"{100 * ratio:.1f} %",
        "-" if loads is None else f"{loads:.1f}",
        milliseconds(costs.get("added_seconds")),
    )


def _say(text: str, style: str = "") -> None:
    views.out.print(Text(text, style=style), soft_wrap=True)
