"""What became of an adapter, and what breaks the zoo's claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.zoo.bad import BAD
from bench.zoo.good import GOOD
from bench.zoo.outcome import Outcome, Place, judged, refused, rejected
from bench.zoo.rows import Row, State, Task, plan, row_of_json
from bench.zoo.table import Results, to_json, to_markdown


def report(verdict: str, *codes: str, **fields: Any) -> dict[str, Any]:
    reasons = [{"code": code, "text": f"because of {code}"} for code in codes]
    return {"verdict": verdict, "first_line": "line", "reasons": reasons, **fields}


def finding(code: str) -> dict[str, Any]:
    return {"code": code, "severity": "blocking", "meaning": "m"}


def row(kind: str, outcome: Outcome, *, rank: int = 4, has_fingerprint: bool = False) -> Row:
    return Row(Task("tiny", "float32", kind, rank, has_fingerprint), outcome, 1.0)


PASSED = judged("passed", report("PASS", "parity", numeric={"mean_delta_nats": 1e-6}))


@pytest.mark.parametrize(
    ("outcome", "place"),
    [
        (refused(409, {"code": "invalid_name"}), Place.UPLOAD),
        (rejected({"findings": [finding("rank_differs")]}), Place.PREFLIGHT),
        (rejected({"findings": [finding("export_b_negated")]}), Place.FINGERPRINT),
        (
            judged("failed", report("FAIL", "strict_load_failed", load_problem="x")),
            Place.STRICT_LOAD,
        ),
        (judged("failed", report("FAIL", "not_finite", non_finite_cases=["a"])), Place.STANDALONE),
        (judged("failed", report("FAIL", "export_answers_differ")), Place.FINGERPRINT),
        (judged("inconclusive", report("INCONCLUSIVE", "inert_or_blind")), Place.ENGINE),
        (PASSED, Place.NOWHERE),
    ],
)
def test_the_link_that_stopped_it_is_known(outcome: Outcome, place: Place) -> None:
    assert outcome.place is place
    assert outcome.is_caught == (place is not Place.NOWHERE)


def test_a_refusal_is_named_by_its_code_and_by_the_reason_inside() -> None:
    problem = {"code": "archive_refused", "data": {"reason": "path_traversal"}}

    assert refused(422, problem).codes == ("archive_refused", "path_traversal")


def test_a_bad_one_that_passes_breaks_a_claim_and_only_a_claim() -> None:
    assert row("sign_of_b_flipped", PASSED, has_fingerprint=True).complaint
    assert row("sign_of_b_flipped", PASSED).complaint is None
    assert row("transposed", PASSED).complaint


def test_a_bad_one_that_is_caught_for_another_reason_breaks_a_claim() -> None:
    outcome = rejected({"findings": [finding("tensor_transposed")]})

    assert row("transposed", outcome).complaint is None
    assert "does not name" in str(row("vectors", outcome).complaint)


def test_a_good_one_that_does_not_pass_is_a_false_alarm() -> None:
    held = judged("inconclusive", report("INCONCLUSIVE", "too_few_cases"))

    assert row("rank-4", held, rank=0).complaint == "a good adapter is inconclusive: too_few_cases"
    assert row("rank-4", PASSED, rank=0).complaint is None


def test_what_could_not_be_judged_is_no_result() -> None:
    broken = judged("inconclusive", report("INCONCLUSIVE", "reference_failed"))

    assert "not judged" in str(row("sign_of_b_flipped", broken).complaint)


def test_a_kind_that_only_training_can_name_is_sent_with_and_without_a_fingerprint() -> None:
    tasks = plan("tiny", ["float32"], kinds=["transposed", "sign_of_b_flipped", "rank-4"])

    sent = [(task.kind, task.rank, task.has_fingerprint) for task in tasks]
    assert sent == [
        *(("transposed", rank, False) for rank in (4, 16, 64)),
        *(("sign_of_b_flipped", rank, True) for rank in (4, 16, 64)),
        *(("sign_of_b_flipped", rank, False) for rank in (4, 16, 64)),
        ("rank-4", 0, True),
    ]


def test_a_full_plan_holds_every_kind_and_every_good_adapter_in_every_number_type() -> None:
    tasks = plan("smol", ["float32", "bfloat16"])

    for dtype in ("float32", "bfloat16"):
        assert {t.kind for t in tasks if t.dtype == dtype} == {*BAD, *GOOD}
    assert len({task.key for task in tasks}) == len(tasks)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    tasks = plan("tiny", ["float32"], kinds=["transposed"])
    state = State(tmp_path / "state.jsonl")
    state.add(Row(tasks[0], PASSED, 2.0))

    again = State(tmp_path / "state.jsonl")

    assert again.rows == state.rows
    assert again.missing(tasks) == tasks[1:]


def test_a_row_survives_its_json() -> None:
    kept = row("transposed", PASSED)

    assert row_of_json(kept.to_json()) == kept


def test_the_tables_say_what_was_not_caught_and_what_was_not_run() -> None:
    results = Results([row("sign_of_b_flipped", PASSED), row("transposed", PASSED)])

    page = to_markdown(results)

    assert "| sign of b flipped | not run | **not caught** (0 of 1) |" in page
    assert '"complaints": [\n  "tiny/float32/transposed/r4/alone' in to_json(results, about={})
