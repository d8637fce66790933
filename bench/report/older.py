"""Results that are older than the common format, read as results of it. Pure.

Their files stay as they were measured; nothing here computes more than ratios and medians.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from bench.result import Better, Figure, Result

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class _Column:
    """One field of a row: its name and unit in a figure, and what to multiply it by."""

    key: str
    name: str
    unit: str
    better: Better | None = "lower"
    factor: float = 1.0


def read_older(stem: str, document: Any) -> Result | None:
    """The result in a file of that name without ending; None where nobody knows its form."""
    if stem not in _READERS:
        return None
    question, read = _READERS[stem]
    return Result(
        scenario=stem,
        question=question,
        parameters=_parameters(document),
        figures=tuple(read(document)),
        environment=document.get("environment", {}),
    )


def _parameters(document: Json) -> dict[str, Any]:
    given = {**document.get("options", {}), **document.get("profile", {})}
    return {key: value for key, value in given.items() if key != "out"}


def _by_group(rows: Iterable[Json], label: str, columns: Sequence[_Column]) -> list[Figure]:
    """A figure per value of the field `label` and column; rows of one value are its runs."""
    kept: dict[str, list[Json]] = {}
    for row in rows:
        kept.setdefault(str(row[label]), []).append(row)
    return [
        Figure(
            column.name,
            column.unit,
            tuple(column.factor * float(row[column.key]) for row in runs),
            column.better,
            group,
        )
        for group, runs in kept.items()
        for column in columns
    ]


def _lora_kernels(document: Json) -> list[Figure]:
    figures = []
    for adapters in document["runs"]["ours"]:
        group = (
            "base model" if adapters == "base" else f"{adapters} adapter" + "s" * (adapters != "1")
        )
        sides = {side: document["runs"][side][adapters] for side in ("upstream", "ours")}
        measures: tuple[tuple[str, str, str, Better], ...] = (
            ("tokens_per_second", "throughput", "tokens/s", "higher"),
            ("ttft_p50_ms", "TTFT p50", "ms", "lower"),
        )
        for key, name, unit, better in measures:
            values = {side: [float(run[key]) for run in runs] for side, runs in sides.items()}
            for side, found in values.items():
                figures.append(Figure(f"{name} {side}", unit, tuple(found), better, group))
            pairs = zip(values["ours"], values["upstream"], strict=True)
            ratios = tuple(ours / theirs for ours, theirs in pairs)
            figures.append(Figure(f"{name} ours / upstream", "x", ratios, better, group))
    return figures


def _load_stall(document: Json) -> list[Figure]:
    words = {
        "nothing": "nothing is loaded",
        "prefetch": "prefetch, then commit",
        "in_loop": "inside the engine's loop, as vLLM does",
    }
    rows = [{**row, "kind": words[row["kind"]]} for row in document["rows"]]
    gap = _Column("largest_gap_seconds", "largest gap", "ms", factor=1000)
    figures = _by_group(rows, "kind", [gap])
    prefetch, in_loop = figures[1].values, figures[2].values
    ratios = tuple(a / b for a, b in zip(in_loop, prefetch, strict=True))
    return [
        *figures,
        Figure("largest gap", "x", ratios, "lower", "in the loop / prefetch, round by round"),
    ]


def _gate_and_tenants(document: Json) -> list[Figure]:
    columns = [
        _Column("p99_ms", "inter-token gap p99", "ms"),
        _Column("p50_ms", "inter-token gap p50", "ms"),
        _Column("gate_answers", "answers of the gate", "", "higher"),
    ]
    return _by_group(document["rows"], "kind", columns)


def _soft_pins(document: Json) -> list[Figure]:
    units = {"ms": ("ms", "TTFT ")}
    figures: list[Figure] = []
    for row in document["ratios"]:
        unit, prefix = units.get(row["measure"].rpartition("_")[2], ("", ""))
        name = prefix + _SOFT_PINS_NAMES.get(row["measure"], row["measure"].removesuffix("_ms"))
        group = f"{row['trace']}: {name}"
        if unit == "ms":
            group += f", {row['requests']} requests"
        if any(figure.group == group for figure in figures):
            continue  # Loads are of the whole engine, told once for each kind of requests.
        for side, key in (("off", "off"), ("on", "auto")):
            values = tuple(map(float, row[key]))
            figures.append(Figure(side, unit, values, "lower", group))
    return figures


_SOFT_PINS_NAMES = {"loads_cache": "loads into slots", "loads_disk": "reads from disk"}


def _curve_cost(document: Json) -> list[Figure]:
    subjects = {
        "curve_exact": "curve",
        "curve_sampled": "curve of a sample",
        "stack_distance": "of it the stack distance",
        "hot_sets": "hot sets",
        "fleet_of_1_to_4_engines": "curves for 1 to 4 engines",
    }
    return [
        Figure(
            subjects.get(row["subject"], row["subject"]),
            "us",
            # The file keeps a median and its range, not each repeat.
            (float(row["range"][0]), float(row["microseconds"]), float(row["range"][1])),
            "lower",
            f"{row['adapters']:,} adapters, {row['trace']}",
        )
        for row in sorted(document["costs"], key=lambda row: (row["adapters"], row["trace"]))
    ]


def _capacity_curve(document: Json) -> list[Figure]:
    columns = [
        _Column("loads_cache_predicted", "loads into slots predicted", "", None),
        _Column("loads_cache_counted", "loads into slots counted", "", None),
        _Column("loads_disk_predicted", "reads from disk predicted", "", None),
        _Column("loads_disk_counted", "reads from disk counted", "", None),
    ]
    rows = [
        {
            **row,
            "group": f"{row['gpu_slots']} slots, {row['cpu_slots']} places in CPU memory, "
            f"{row['in_flight']} in flight",
        }
        for row in [*document["rows"], document["after"]]
    ]
    return _by_group(rows, "group", columns)


def _capacity_scale(document: Json) -> list[Figure]:
    columns = [
        _Column("p50_ms", "p50", "ms"),
        _Column("max_ms", "slowest", "ms"),
        _Column("bytes", "size of the answer", "kB", None, 1e-3),
    ]
    figures = _by_group(
        [{**row, "route": f"`{row['route']}`"} for row in document["rows"]], "route", columns
    )
    for key, name in (
        ("page_seconds", "the dashboard's table in Chromium"),
        ("report_seconds", "an engine's report of 10,000 versions"),
    ):
        times = sorted(1000 * float(value) for value in document[key])
        middle = times[len(times) // 2]
        figures += [
            Figure("p50", "ms", (middle,), "lower", name),
            Figure("slowest", "ms", (times[-1],), "lower", name),
        ]
    return figures


def _contamination(document: Json) -> list[Figure]:
    columns = [
        _Column("n_true", "alike by the definition", "", None),
        _Column("n_found", "found", "", None),
        _Column("precision", "precision", "share", "higher"),
        _Column("recall", "recall", "share", "higher"),
        _Column("n_planted", "planted of them", "", None),
        _Column("n_planted_found", "planted found", "", None),
    ]
    rows = [{**row, "group": f"similarity from {row['jaccard']}"} for row in document["thresholds"]]
    return _by_group(rows, "group", columns)


def _tenancy_overhead(document: Json) -> list[Figure]:
    return [
        Figure(percentile, "us", (float(row[f"{percentile}_us"]),), "lower", part)
        for part, row in document["inside"].items()
        for percentile in ("p50", "p99")
    ]


def _reference_cost(document: Json) -> list[Figure]:
    rounds = document["rounds"]
    ways = {"verify": "verify", "batched": "generate in batches", "one_by_one": "one by one"}
    figures = [
        Figure("processor time a case", "s", tuple(row[key] for row in rounds), "lower", way)
        for key, way in ways.items()
    ]
    for key in ("batched", "one_by_one"):
        ratios = tuple(row[key] / row["verify"] for row in rounds)
        figures.append(Figure("times verification", "x", ratios, "higher", ways[key]))
    return figures


def _tenant_hashing(document: Json) -> list[Figure]:
    rows = [row for row in document["ratios"] if not row["measure"].startswith("evictions")]
    figures = []
    for measure, alike in groupby(sorted(rows, key=lambda row: str(row["measure"])), _measure):
        unit = "ms" if measure.endswith("_ms") else ""
        name = _HASHING_NAMES.get(
            measure,
            measure.removesuffix("_ms").replace("ttft_", "TTFT ").replace("e2e_", "end to end "),
        )
        for number, row in enumerate(alike):
            if not number:
                values = tuple(map(float, row["round_robin"]))
                figures.append(Figure("round robin", unit, values, "lower", name))
            values = tuple(map(float, row["ours"]))
            figures.append(Figure(row["mode"], unit, values, "lower", name))
    return figures


def _measure(row: Json) -> str:
    return str(row["measure"])


def _statistics(document: Json) -> list[Figure]:
    """Coverage alone: the other tables of it are short and stand in the docs as they are."""
    rows = [
        {**row, "group": f"{row['n']:,} cases, {row['discordance']:.0%} discordant"}
        for row in document["coverage_of_passes"]
    ]
    columns = [
        _Column("score", "score interval", "%", None, 100),
        _Column("bootstrap", "bootstrap", "%", None, 100),
        _Column("bootstrap_defined", "bootstrap defined", "% of runs", None, 100),
        _Column("percentile", "percentile bootstrap", "%", None, 100),
        _Column("percentile_defined", "percentile bootstrap defined", "% of runs", None, 100),
    ]
    return _by_group(rows, "group", columns)


_HASHING_NAMES = {"loads_cache": "loads into slots", "loads_disk": "reads from disk"}

_READERS: dict[str, tuple[str, Callable[[Json], list[Figure]]]] = {
    "lora_kernels_bfloat16": (
        "What do our LoRA products on a CPU gain over those of vLLM?",
        _lora_kernels,
    ),
    "load_stall": ("What do streams feel of a load?", _load_stall),
    "gate_and_tenants": ("What do tenants feel of a gate run?", _gate_and_tenants),
    "soft_pins": ("What do soft pins save?", _soft_pins),
    "curve_cost": ("What does the miss-ratio curve cost a request?", _curve_cost),
    "capacity_curve": ("Are predicted loads those that are counted?", _capacity_curve),
    "capacity_scale": ("How fast are the capacity pages at 10,000 adapters?", _capacity_scale),
    "contamination": ("Is what leaked into a suite found?", _contamination),
    "statistics": ("Do the gate's statistics hold?", _statistics),
    "tenancy_overhead": ("What does tenancy add to a request?", _tenancy_overhead),
    "reference_cost_float32": ("What does verifying cost in float32?", _reference_cost),
    "reference_cost_bfloat16": ("What does verifying cost in bfloat16?", _reference_cost),
    "tenant_hashing": ("What does hashing on the tenant save?", _tenant_hashing),
}
