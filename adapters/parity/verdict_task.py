"""The verdict's reasons from levels 2 and 3, and from the suite itself. Pure.

FAIL takes a drop that is proven in the total or in a gated segment. A drop of the total that is
beyond the margin and not proven leaves the question open; the same in one segment is a note,
because among many segments one of them always moves.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapters.parity.comparison import Comparison, SegmentComparison, detectable_sentence
from adapters.parity.gate_plan import Measurements
from adapters.parity.policy import GatePolicy
from adapters.parity.reasons import Reason


def suite_against(measured: Measurements) -> Iterator[Reason]:
    """A suite that is known from training proves nothing."""
    report = measured.contamination
    if report is not None and report.is_refused:
        text = (
            f"the suite is contaminated: {len(report.leaked_ids)} of {report.n_cases} cases "
            f"({report.fraction:.2%}) are near-duplicates of training data, allowed "
            f"{report.rules.max_fraction:.2%}"
        )
        yield Reason("suite_contaminated", text)


def task_against(measured: Measurements) -> Iterator[Reason]:
    """Proven regressions and missed thresholds."""
    task = measured.task
    for comparison, code in (
        (task.serving, "task_regression"),
        (task.live, "regression_against_live"),
    ):
        if comparison is not None:
            for item in comparison.regressions:
                yield Reason(code, _regression(comparison, item))
    if task.serving is not None:
        for item in task.serving.segments:
            if item.is_below_threshold:
                text = (
                    f"segment {item.segment}: {item.after_rate or 0.0:.1%} of {item.n} cases pass, "
                    f"at least {item.threshold or 0.0:.1%} is asked"
                )
                yield Reason("below_threshold", text)


def task_open_questions(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    """What levels 2 and 3 leave undefined, where the suite has gold answers."""
    task = measured.task
    if not task.n_gold:
        return
    if task.serving is None or task.serving.total.is_regression is None:
        text = (
            f"{task.n_scored} cases with a gold answer were scored on both sides, "
            f"{policy.min_cases} are needed (policy: min_cases)"
        )
        yield Reason("too_few_gold_cases", text)
    yield from _above_margin(task.serving)
    yield from _above_margin(task.live)
    spread = task.pass_rate_spread
    if spread is not None and spread > policy.max_repeat_spread:
        text = (
            f"the engine is not deterministic enough: pass rates of the repeats spread by "
            f"{spread:.1%}, allowed {policy.max_repeat_spread:.1%}"
        )
        yield Reason("repeats_spread", text)


def _above_margin(comparison: Comparison | None) -> Iterator[Reason]:
    if comparison is None:
        return
    total = comparison.total
    if total.is_above_margin and not total.is_regression:
        text = f"a drop beyond the margin is not excluded: {_regression(comparison, total)}"
        yield Reason("regression_not_excluded", text)


def task_notes(measured: Measurements) -> Iterator[Reason]:
    """What a reader of a PASS has to know."""
    task = measured.task
    yield from measured.runner_notes
    if measured.n_excluded:
        text = f"{measured.n_excluded} cases of the suite were left out (see excluded)"
        yield Reason("cases_excluded", text)
    if task.serving is not None:
        yield Reason("detectable", detectable_sentence(task.serving))
        for name in task.serving.unknown_thresholds:
            yield Reason("threshold_without_cases", f"no case belongs to segment {name}")
    for comparison in (task.serving, task.live):
        if comparison is None:
            continue
        small = [item.segment for item in comparison.segments if not item.is_gated]
        if small and comparison is task.serving:
            names = ", ".join(small[:10])
            text = f"{len(small)} segments are too small to be gated: {names}"
            yield Reason("segments_not_gated", text)
        for item in comparison.segments:
            if item.is_gated and item.is_above_margin and not item.is_regression:
                yield Reason("segment_drop_not_proven", _regression(comparison, item))


def _regression(comparison: Comparison, item: SegmentComparison) -> str:
    where = "in total" if item is comparison.total else f"segment {item.segment}"
    text = (
        f"{where}: {comparison.before_name} {item.before_rate or 0.0:.1%}, "
        f"{comparison.after_name} {item.after_rate or 0.0:.1%} of {item.n} cases"
    )
    if item.interval is not None:
        low, high = (100 * bound for bound in item.interval)
        text += f", {comparison.rules.confidence:.0%} interval {low:+.1f} to {high:+.1f} points"
    text += f"; {item.n_worse} cases worse, {item.n_better} better"
    return text if item.holm_p is None else f"{text}, p = {item.holm_p:.2g} after Holm"
