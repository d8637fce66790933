"""Rules, reports and what follows from them."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import SuiteContaminated, SuiteInvalid
from adapters.parity.contamination import (
    ContaminationReport,
    ContaminationRules,
    Excluded,
    Leak,
    SweepRow,
    TrainingText,
    exclude_leaks,
    find_contamination,
)
from adapters.parity.suite import Suite
from tests.builders.near_texts import a_case

RULES = ContaminationRules()
TEXTS = [f"please book flight number {n * 7919} for passenger {n * 104729}" for n in range(10)]
CASES = [a_case(number, text) for number, text in enumerate(TEXTS)]


def a_report(*leaks: Leak, n_cases: int = 1000) -> ContaminationReport:
    return ContaminationReport(
        n_cases=n_cases, n_documents=5, rules=RULES, leaks=leaks, sweep=(SweepRow(0.7, 0, 0.0),)
    )


def test_each_case_counts_once_with_its_most_similar_document() -> None:
    documents = ["something else", TEXTS[3] + "!", TEXTS[3], TEXTS[3], TEXTS[5]]

    report = find_contamination(CASES, documents, rules=RULES)

    assert report.leaks == (Leak("case-3", 3, 1.0), Leak("case-5", 5, 1.0))
    assert (report.n_cases, report.n_documents, report.fraction) == (10, 5, 0.2)
    assert report.leaked_ids == {"case-3", "case-5"}


def test_the_sweep_counts_at_every_threshold_and_leaks_follow_the_rule_alone() -> None:
    near = TEXTS[0].replace("book", "cancel")
    rules = ContaminationRules(jaccard=0.95)

    report = find_contamination(CASES, [near, TEXTS[1]], rules=rules)

    assert [leak.case_id for leak in report.leaks] == ["case-1"]
    assert [(row.jaccard, row.n_leaked) for row in report.sweep] == [
        (0.9, 1), (0.8, 1), (0.7, 1), (0.6, 2),
    ]  # fmt: skip


def test_what_all_cases_share_does_not_make_them_alike() -> None:
    report = find_contamination(CASES, ["a question that nobody asked before"], rules=RULES)

    assert report.sweep[-1].n_leaked == 0


def test_several_texts_of_one_line_are_one_document() -> None:
    texts = [TrainingText(4, "a"), TrainingText(4, TEXTS[2]), TrainingText(9, "b", is_plain=True)]
    heard: list[int] = []

    report = find_contamination(CASES, texts, rules=RULES, on_progress=heard.append)

    assert report.leaks == (Leak("case-2", 4, 1.0),)
    assert (report.n_documents, report.n_plain_documents) == (2, 1)
    assert heard == []


def test_progress_is_told_now_and_then() -> None:
    heard: list[int] = []

    find_contamination(CASES, ["x"] * 2500, rules=RULES, on_progress=heard.append)

    assert heard == [1000, 2000]


def test_a_suite_without_cases_has_no_fraction_and_is_not_refused() -> None:
    report = find_contamination([], TEXTS, rules=RULES)

    assert report.fraction is None
    assert not report.is_refused
    assert {row.fraction for row in report.sweep} == {None}


@pytest.mark.parametrize(("n_leaked", "is_refused"), [(0, False), (5, False), (6, True)])
def test_a_suite_is_refused_above_the_limit_and_not_at_it(n_leaked: int, is_refused: bool) -> None:
    report = a_report(*(Leak(f"case-{n}", n + 1, 0.9) for n in range(n_leaked)))

    assert report.is_refused is is_refused
    assert report.to_json()["is_refused"] is is_refused
    if not is_refused:
        report.check()
        return
    with pytest.raises(SuiteContaminated) as caught:
        report.check()
    fields = caught.value.fields
    assert (fields["n_leaked"], fields["n_cases"]) == (6, 1000)
    assert (fields["fraction"], fields["limit"]) == (0.006, 0.005)
    assert fields["errors"][0] == {
        "code": "leaked_case",
        "subject": "case-0",
        "title": "like line 1 of the training set (Jaccard 0.900)",
        "case_id": "case-0",
        "document": 1,
        "jaccard": 0.9,
    }


def test_a_refusal_names_the_first_leaked_cases_and_not_thousands() -> None:
    report = a_report(*(Leak(f"case-{n}", 1, 0.9) for n in range(400)))

    with pytest.raises(SuiteContaminated) as caught:
        report.check()

    assert len(caught.value.fields["errors"]) == 20
    assert len(report.to_json()["leaks"]) == 400


def test_leaked_cases_are_left_out_and_listed() -> None:
    suite = Suite(tuple(CASES))
    report = a_report(Leak("case-4", 17, 0.812345), Leak("case-77", 1, 1.0))

    rest, excluded = exclude_leaks(suite, report)

    assert [case.id for case in rest.cases] == [f"case-{n}" for n in range(10) if n != 4]
    detail = "line 17 of the training set has Jaccard similarity 0.812"
    assert excluded == (Excluded("case-4", "booking", "contaminated", detail),)
    assert excluded[0].to_json()["id"] == "case-4"
    assert not rest.is_builtin


def test_without_a_report_or_leaks_the_suite_stays_what_it_is() -> None:
    suite = Suite(tuple(CASES), is_builtin=True)

    assert exclude_leaks(suite, None) == (suite, ())
    assert exclude_leaks(suite, a_report()) == (suite, ())


@pytest.mark.parametrize(
    "change",
    [
        {"jaccard": 0.0}, {"jaccard": 1.1}, {"sweep": (0.9, 0.0)}, {"shingle": 0}, {"shingle": 51},
        {"num_perm": 15}, {"num_perm": 1025}, {"max_fraction": -0.1}, {"max_fraction": 1.1},
        {"jaccard": float("nan")},
    ],
)  # fmt: skip
def test_rules_that_mean_nothing_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        ContaminationRules(**change)


@pytest.mark.parametrize("spoil", ["rules", "leaks", "sweep", "n_cases"])
def test_what_is_not_a_report_is_refused(spoil: str) -> None:
    raw = {**a_report().to_json(), spoil: [{"x": 1}]}
    if spoil == "n_cases":
        del raw[spoil]

    with pytest.raises(SuiteInvalid):
        ContaminationReport.from_json(raw)
