"""What the scenarios about the gate's cost make of what they timed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.parity.protocol import TokenizedPrompt
from bench.result import Figure
from bench.scenarios import gate_time, reference_cost


def by_key(figures: list[Figure]) -> dict[tuple[str, str], Figure]:
    return {(figure.group, figure.name): figure for figure in figures}


def test_ways_are_compared_with_verification_run_by_run() -> None:
    one = dict.fromkeys(reference_cost.WAYS, 1.0) | {"verify": 0.5, "batched": 2.0}
    two = dict.fromkeys(reference_cost.WAYS, 1.0) | {"verify": 0.1, "batched": 1.0}
    more = {"confirmed": 1.0, "ours_equal": 0.5, "prompt_tokens": 75.0, "answer_tokens": 46.0}

    found = by_key(reference_cost.figures_of([one | more, two | more]))

    batched = found["generate in batches", "times verification"]
    assert (batched.values, batched.unit) == ((4.0, 10.0), "x")
    assert found["verify", "processor time a case"].values == (0.5, 0.1)
    assert found["cases", "answers confirmed to the last token"].median == 1.0


def test_each_run_of_the_gate_has_other_cases() -> None:
    suites = [
        [json.loads(line) for line in gate_time.suite_of(
            run=run, n_runs=3, n_cases=12, max_tokens=7
        ).splitlines()]
        for run in range(3)
    ]  # fmt: skip

    ids = [case["id"] for suite in suites for case in suite]
    assert len(ids) == len(set(ids)) == 12
    assert {case["max_tokens"] for suite in suites for case in suite} == {7}
    assert all(case["expect"]["tool_calls"] for suite in suites for case in suite)


def row(kind: str, run: int, *, kept: list[str], **seconds: float) -> dict[str, Any]:
    return {
        "run": run, "from": kind, "seconds_by_stage": seconds, "reused_stages": kept,
        "overhead_ratio": 0.02,
    }  # fmt: skip


def test_a_stage_that_was_kept_takes_no_time() -> None:
    rows = [
        row(gate_time.FIRST, 0, kept=[], reference=20.0, candidate=10.0),
        row(gate_time.AGAIN, 0, kept=["reference"], reference=20.0, candidate=8.0),
    ]

    found = by_key(gate_time.figures_of(rows, n_cases=10))

    assert found["reference", gate_time.FIRST].values == (2.0,)
    assert found["reference", gate_time.AGAIN].values == (0.0,)
    assert found["candidate", gate_time.AGAIN].values == (0.8,)
    assert found["overhead", gate_time.AGAIN].median == pytest.approx(2.0)


class PlayedBench:
    """Answers each prompt with its own tokens; the base says the same, ours errs on one case."""

    def generate(self, prompts: Any, *, batch: int) -> dict[str, list[int]]:
        return {prompt.case_id: list(prompt.token_ids) for prompt in prompts}

    def generate_ours(self, prompts: Any) -> dict[str, list[int]]:
        return {**self.generate(prompts, batch=1), prompts[0].case_id: [0]}

    def verify(self, items: Any) -> int:
        return len(items) - 1

    def verify_base(self, items: Any) -> int:
        return len(items)


def test_a_run_times_every_way_and_counts_what_was_confirmed() -> None:
    prompts = [TokenizedPrompt(f"c{n}", (1, 2, 3), 64) for n in range(4)]
    bench: Any = PlayedBench()

    row = reference_cost.measure_run(bench, prompts, seed=0, n_alone=9)

    assert set(reference_cost.WAYS) <= row.keys()
    assert (row["confirmed"], row["ours_equal"]) == (0.75, 0.75)
    assert (row["prompt_tokens"], row["answer_tokens"]) == (3, 3)
