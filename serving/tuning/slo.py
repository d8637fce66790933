"""What a replay must keep: limits of its own, and how much worse than the current one it may be.

Pure. A file of goals is strict, as every file here; docs/replay.md has its fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from serving.tuning.goals import METRICS, THROUGHPUT, Values, is_higher_better, loss
from serving.tuning.load_shape import Shape
from serving.tuning.strict_fields import FieldInvalid, Fields, parse_yaml

ALL = "all"
"""The name of the class that is every request."""
LATENCIES = ("ttft_p50", "ttft_p99", "gap_p50", "gap_p99", "e2e_p50", "e2e_p99")
_WORDS = MappingProxyType({"ttft": "TTFT", "gap": "gap between tokens", "e2e": "end-to-end time"})
MOST_FAILED_RATIO = 0.01
"""With more unanswered, a p99 of the answered ones would leave out the worst that happened."""
DEFAULT_RATIOS: Mapping[str, float] = MappingProxyType(
    {"ttft_p99": 1.25, "gap_p99": 1.25, THROUGHPUT: 0.95}
)
"""Against the current one: p99s scatter by some 10 % from run to run, throughput hardly does."""
DEFAULT_LIMITS: Mapping[str, float] = MappingProxyType({"ttft_p99": 2000.0, "gap_p99": 200.0})
"""Without a current one, in ms: two seconds until something happens, then 5 tokens a second, which
is about as fast as people read (250 words a minute)."""


class SloInvalid(ValueError):
    """A goal that cannot be meant; `field` and `problem` say where and why."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"goals: {field}: {problem}")


@dataclass(frozen=True, slots=True)
class Slo:
    """One limit of one figure of one class."""

    metric: str
    """One of `LATENCIES`, or `throughput`."""
    limit: float
    """ms, or tokens/s; if relative, the candidate's figure over the current one's."""
    kind: str | None = None
    """None: of all requests."""
    is_relative: bool = False

    def __post_init__(self) -> None:
        if self.metric not in (*LATENCIES, THROUGHPUT):
            known = ", ".join((*LATENCIES, THROUGHPUT))
            raise SloInvalid(self.metric, f"is not one of {known}")
        if not 0 < self.limit < math.inf:
            raise SloInvalid(self.metric, f"{self.limit:g} is no limit: it must be above 0")
        if self.metric == THROUGHPUT and self.kind is not None:
            raise SloInvalid(THROUGHPUT, "is of all requests together, not of one class")

    @property
    def figure(self) -> str:
        """`p99 TTFT of short requests`."""
        of = f" of {self.kind} requests" if self.kind else ""
        name, _, quantile = self.metric.partition("_")
        return f"{quantile} {_WORDS[name]}{of}" if quantile else self.metric

    @property
    def text(self) -> str:
        """The whole goal, as a person would say it."""
        side = "at least" if is_higher_better(self.metric) else "at most"
        unit = "x the current one's" if self.is_relative else METRICS[self.metric]
        return f"{self.figure} {side} {self.limit:g} {unit}"

    def excess(self, candidate: Values, current: Values | None) -> float:
        """Logarithm of how far over the limit a run is; 0 or less keeps it, nan: not defined."""
        mine = loss(self.metric, candidate.get(self.metric, math.nan))
        limit = loss(self.metric, self.limit)
        if not self.is_relative:
            return mine - limit
        theirs = math.nan if current is None else current.get(self.metric, math.nan)
        return mine - loss(self.metric, theirs) - limit

    def figure_at(self, excess: float) -> float:
        """The figure, or the ratio, that is so far over the limit: the inverse of `excess`."""
        try:
            return self.limit * math.exp(-excess if is_higher_better(self.metric) else excess)
        except OverflowError:
            return math.inf


@dataclass(frozen=True, slots=True)
class Slos:
    """All goals of a replay."""

    goals: tuple[Slo, ...]
    max_failed_ratio: float = 0.0
    """Of the candidate's requests; they may be unanswered."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed_ratio < MOST_FAILED_RATIO:
            raise SloInvalid(
                "max_failed_ratio",
                f"{self.max_failed_ratio:g} is not from 0 to below {MOST_FAILED_RATIO}",
            )
        seen = [(slo.metric, slo.kind, slo.is_relative) for slo in self.goals]
        for slo, key in zip(self.goals, seen, strict=True):
            if seen.count(key) > 1:
                raise SloInvalid(slo.metric, f"is there twice: {slo.figure}")

    @property
    def needs_current(self) -> bool:
        """Whether one of them compares."""
        return any(slo.is_relative for slo in self.goals)

    def check(self, shape: Shape, *, has_current: bool) -> None:
        """Refuse what this replay cannot show.

        Raises:
            SloInvalid: a comparison without a current one, or a class that the window has not.
        """
        for slo in self.goals:
            if slo.is_relative and not has_current:
                raise SloInvalid(slo.metric, "compares with a current profile: name one")
            if slo.kind is not None and slo.kind not in shape.kinds:
                known = ", ".join(shape.kinds) or "no requests"
                raise SloInvalid(slo.kind, f"is not a class of the window, which has {known}")


def default_goals(shape: Shape, *, has_current: bool) -> tuple[Slo, ...]:
    """Relative ones where there is a current one, absolute ones otherwise; latencies by class.

    Gaps only of classes whose answers have some. The absolute limits are an interactive user's,
    who waits longer for a long prompt: a class "long" has no limit of its TTFT.
    """
    goals = []
    for kind in shape.kinds:
        has_gaps = any(one.n_output > 1 for one in shape.arrivals if one.kind == kind)
        for metric, limit in (DEFAULT_RATIOS if has_current else DEFAULT_LIMITS).items():
            if metric == THROUGHPUT or (metric == "gap_p99" and not has_gaps):
                continue
            if not has_current and kind == "long" and metric == "ttft_p99":
                continue
            goals.append(Slo(metric, limit, kind, is_relative=has_current))
    if has_current:
        goals.append(Slo(THROUGHPUT, DEFAULT_RATIOS[THROUGHPUT], is_relative=True))
    return tuple(goals)


def read_slos(path: Path) -> Slos:
    """The goals of a YAML file.

    Raises:
        SloInvalid: the file cannot be read, or what it says cannot be meant.
    """
    try:
        loaded = parse_yaml(path.read_text())
    except (OSError, UnicodeError, FieldInvalid) as exc:
        raise SloInvalid(str(path), str(exc)) from exc
    return parse_slos(loaded)


def parse_slos(document: Any) -> Slos:
    """Goals as a YAML document says them.

    Raises:
        SloInvalid: a field that is unknown, of another type or impossible, or no goal at all.
    """
    try:
        fields = Fields(document, known=("limits", "against_current", "max_failed_ratio"))
        goals = (
            *_goals_of(fields, "limits", is_relative=False),
            *_goals_of(fields, "against_current", is_relative=True),
        )
        failed = fields.number("max_failed_ratio", 0.0, least=0)
    except FieldInvalid as exc:
        raise SloInvalid(exc.field, exc.problem) from exc
    if not goals:
        raise SloInvalid("limits", "is missing, and so is against_current: nothing is asked")
    return Slos(goals, failed)


def _goals_of(fields: Fields, name: str, *, is_relative: bool) -> Iterable[Slo]:
    if name not in fields:
        return
    value = fields.value(name)
    classes = Fields(value, known=value if isinstance(value, dict) else (), path=name)
    for kind in value:
        path = classes.path_of(str(kind))
        known = (*LATENCIES, THROUGHPUT) if kind == ALL else LATENCIES
        limits = Fields(classes.value(kind), known=known, path=path)
        for metric in known:
            if metric in limits:
                yield Slo(
                    metric,
                    limits.number(metric, above=0),
                    None if kind == ALL else str(kind),
                    is_relative=is_relative,
                )
