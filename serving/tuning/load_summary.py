"""A load in figures, class by class, for people and for JSON. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from serving.tuning.measure import LoadResult, Seconds, percentile

ALL = "all"
MOST_LAG_SECONDS = 0.01
"""p99 of the generator's own lag above which its latencies are partly its own. Arbitrary: a tenth
of the shortest latency that people notice."""
COLUMNS = (
    "class", "requests", "failed", "TTFT p50", "p90", "p99", "gap p50", "p99", "max",
    "end to end p50", "p99", "tokens/s",
)  # fmt: skip


def class_figures(result: LoadResult) -> dict[str, dict[str, float]]:
    """By class, and for `all` where there is more than one: counts, seconds, tokens a second.

    `tokens_per_second` of a class is its part of the load's, so the classes' sum up to all's.
    """
    kinds: list[str | None] = list(result.kinds)
    if len(kinds) != 1:
        kinds.append(None)
    return {kind or ALL: _figures(result, kind) for kind in kinds}


def summary_json(result: LoadResult) -> dict[str, Any]:
    """The figures as a JSON document; null: nothing that could be measured."""
    by_class = {
        kind: {name: None if math.isnan(value) else value for name, value in figures.items()}
        for kind, figures in class_figures(result).items()
    }
    lag = percentile(result.lag(), 99)
    return {
        "seconds": None if math.isnan(result.seconds) else result.seconds,
        "lag_p99_seconds": None if math.isnan(lag) else lag,
        "classes": by_class,
        "errors": dict(errors_of(result)),
    }


def rows(result: LoadResult) -> list[tuple[str, ...]]:
    """Cells for `COLUMNS`, one row a class."""
    return [
        (
            kind,
            str(one["n"]),
            str(one["n_failed"]),
            *(milliseconds(one[f"ttft_{point}_seconds"]) for point in ("p50", "p90", "p99")),
            *(milliseconds(one[f"gap_{point}_seconds"]) for point in ("p50", "p99", "max")),
            *(milliseconds(one[f"e2e_{point}_seconds"]) for point in ("p50", "p99")),
            _shown(one["tokens_per_second"], ".1f"),
        )
        for kind, one in class_figures(result).items()
    ]


def errors_of(result: LoadResult) -> list[tuple[str, int]]:
    """What failed requests said, the most frequent first."""
    return Counter(s.error for s in result.samples if s.error is not None).most_common()


def lag_warning(result: LoadResult) -> str | None:
    """One sentence where the generator itself was late; None: it kept up."""
    lag = percentile(result.lag(), 99)
    if not lag > MOST_LAG_SECONDS:
        return None
    return (
        f"The generator sent late, by {milliseconds(lag)} at p99: this machine is busy, and every "
        "latency here has that in it. Run it on another machine, or with a lower rate."
    )


def milliseconds(seconds: float) -> str:
    """`12.3 ms`; a dash for nan."""
    return _shown(1000 * seconds, ".1f", " ms")


def _shown(value: float, form: str, unit: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}{unit}"


def _figures(result: LoadResult, kind: str | None) -> dict[str, float]:
    samples: Sequence[Any] = [s for s in result.samples if kind is None or s.kind == kind]
    answered = [sample for sample in samples if sample.is_answered]
    tokens = sum(sample.n_prompt + sample.n_output for sample in answered)
    outputs = sum(sample.n_output for sample in answered)
    return {
        "n": len(samples),
        "n_failed": len(samples) - len(answered),
        **_percentiles("ttft", result.ttft(kind), 50, 90, 99),
        **_percentiles("gap", result.gaps(kind), 50, 99),
        "gap_max_seconds": percentile(result.gaps(kind), 100),
        **_percentiles("e2e", result.e2e(kind), 50, 99),
        "tokens_per_second": tokens / result.seconds if result.seconds > 0 else math.nan,
        "output_tokens_per_second": outputs / result.seconds if result.seconds > 0 else math.nan,
    }


def _percentiles(name: str, values: Seconds, *points: int) -> dict[str, float]:
    return {f"{name}_p{q}_seconds": percentile(values, q) for q in points}
