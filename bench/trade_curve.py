"""The trade of chunked prefill as figures: from rounds of several settings to one row each. Pure.

A round is one line of the record that `loraplane tune` keeps: a setting, a number (rounds of one
number ask for the same requests), and figures by name. They may come from this scenario or from the
grid of another one, in whatever place of its file they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.result import Better, Figure
from serving.tuning.race import Round
from serving.tuning.space import Setting

_SHOWN: tuple[tuple[str, str, str, Better], ...] = (
    ("gap_p99", "short gap p99", "ms", "lower"),
    ("gap_p50", "short gap p50", "ms", "lower"),
    ("ttft_p99", "short TTFT p99", "ms", "lower"),
    ("ttft_p50", "short TTFT p50", "ms", "lower"),
    ("capacity", "all at once", "tokens/s", "higher"),
    ("throughput", "offered load", "tokens/s", "higher"),
)
"""Figure of a round, its name in the table, unit, direction."""
_COMPARED = ("gap_p99", "ttft_p99", "capacity")


def curve_settings(start: Setting, off: Setting, budgets: Sequence[int]) -> tuple[Setting, ...]:
    """Chunked prefill off; the start; then each budget, the largest first.

    With a budget a chunk may be as large as the budget: the threshold is another setting's.
    """
    on = (
        dataclasses.replace(
            start, max_num_batched_tokens=budget, long_prefill_token_threshold=budget
        )
        for budget in sorted(set(budgets), reverse=True)
    )
    return tuple(dict.fromkeys((off, start, *on)))


def beside(rounds: Sequence[Round], wanted: Sequence[Setting]) -> tuple[Setting, ...]:
    """Settings of these rounds that differ from the curve's in budget and threshold alone."""
    plain = {_without_budget(setting) for setting in wanted}
    others = {one.setting for one in rounds if _without_budget(one.setting) in plain}
    return tuple(sorted(others - set(wanted), key=_size, reverse=True))


def _without_budget(setting: Setting) -> Setting:
    return dataclasses.replace(
        setting, max_num_batched_tokens=None, long_prefill_token_threshold=None
    )


def _size(setting: Setting) -> tuple[int, int]:
    return setting.max_num_batched_tokens or 0, setting.long_prefill_token_threshold or 0


def rounds_in(document: Any) -> list[Round]:
    """Every round in a JSON document, however deep; of those given twice the first counts."""
    found: dict[tuple[Setting, int], Round] = {}
    for one in _rounds_in(document):
        found.setdefault((one.setting, one.number), one)
    return list(found.values())


def _rounds_in(document: Any) -> Iterator[Round]:
    if isinstance(document, Mapping):
        if {"setting", "number", "values"} <= document.keys():
            values = {
                name: math.nan if value is None else float(value)
                for name, value in document["values"].items()
            }
            setting = Setting.from_json(document["setting"])
            yield Round(setting, int(document["number"]), values, document.get("seconds", 0.0))
        else:
            for value in document.values():
                yield from _rounds_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from _rounds_in(value)


def to_json(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """What `rounds_in` reads."""
    return [
        {
            "setting": one.setting.to_json(),
            "number": one.number,
            "values": {name: _or_none(value) for name, value in one.values.items()},
            "seconds": round(one.seconds, 1),
        }
        for one in rounds
    ]


def missing(
    rounds: Sequence[Round], wanted: Sequence[Setting], *, runs: int
) -> list[tuple[Setting, list[int]]]:
    """For each setting the numbers below `runs` that have no round yet; without the complete."""
    had = {(one.setting, one.number) for one in rounds}
    gaps = [(one, [n for n in range(runs) if (one, n) not in had]) for one in wanted]
    return [(setting, numbers) for setting, numbers in gaps if numbers]


def group_of(setting: Setting) -> str:
    """The row's name."""
    budget = setting.max_num_batched_tokens
    if budget is None:
        return "as vLLM"
    if not setting.enable_chunked_prefill:
        return "chunked prefill off"
    threshold = setting.long_prefill_token_threshold
    if threshold is None or threshold == budget:
        return f"{budget} tokens"
    return f"{budget} tokens, {threshold} of a prompt"


def curve_figures(rounds: Sequence[Round], wanted: Sequence[Setting]) -> list[Figure]:
    """A row per setting that has rounds, in the order of `wanted`; ratios to the first, by number.

    A ratio has a value for each number that both have: the same requests, asked of both.
    """
    values = {(one.setting, one.number): one.values for one in rounds}
    figures = []
    for setting in wanted:
        numbers = sorted(number for each, number in values if each == setting)
        if not numbers:
            continue
        for key, name, unit, better in _SHOWN:
            shown = tuple(values[setting, n].get(key, math.nan) for n in numbers)
            figures.append(Figure(name, unit, shown, better, group_of(setting)))
        first = wanted[0]
        both = [n for n in numbers if (first, n) in values]
        if setting == first or not both:
            continue
        for key, name, _, better in _SHOWN:
            if key in _COMPARED:
                ratios = tuple(
                    _ratio(values[setting, n].get(key), values[first, n].get(key)) for n in both
                )
                figures.append(Figure(f"{name} / off", "x", ratios, better, group_of(setting)))
    return figures


def _ratio(value: float | None, first: float | None) -> float:
    return value / first if value is not None and first else math.nan


def _or_none(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
