"""Imaginary suites with gold, answered well or badly on each side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters.parity.suite import Case
from adapters.parity.task_measure import TaskInputs

GOOD, BAD = "yes", "no"


def gold_cases(segments: Mapping[str, int]) -> tuple[Case, ...]:
    """Cases with a text as gold, so many for each segment."""
    return tuple(
        Case(id=f"{segment}-{i}", prompt=f"{segment} {i}", segment=segment, expect={"text": GOOD})
        for segment, n in segments.items()
        for i in range(n)
    )


def answered(
    cases: Sequence[Case],
    *,
    wrong_engine: Sequence[str] = (),
    wrong_standalone: Sequence[str] = (),
    wrong_live: Sequence[str] | None = None,
    n_repeats: int = 3,
    wrong_in_one_repeat: Sequence[str] = (),
) -> TaskInputs:
    """Right answers everywhere but in the named cases; `wrong_live` None: there is no live one."""

    def text(case: Case, wrong: Sequence[str]) -> str:
        return BAD if case.id in wrong else GOOD

    engine = {case.id: (text(case, wrong_engine),) * n_repeats for case in cases}
    for case_id in wrong_in_one_repeat:
        engine[case_id] = (GOOD,) * (n_repeats - 1) + (BAD,)
    live = {} if wrong_live is None else {case.id: text(case, wrong_live) for case in cases}
    return TaskInputs(
        cases=tuple(cases),
        engine=engine,
        standalone={case.id: text(case, wrong_standalone) for case in cases},
        live=live,
        live_version=None if wrong_live is None else "acme/support@1",
    )
