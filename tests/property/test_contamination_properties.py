"""The search against the definition, on texts that are often alike by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.contamination import (
    ContaminationReport,
    ContaminationRules,
    Leak,
    SweepRow,
    find_contamination,
)
from adapters.parity.shingles import jaccard, normalise, shingle_set
from tests.builders.near_texts import a_case

RULES = ContaminationRules(shingle=3)
words = st.sampled_from(["book", "flight", "to", "Zürich", "Rome", "on", "may", "5", "for", "two"])
texts = st.lists(words, max_size=8).map(" ".join)
lists = st.lists(texts, min_size=1, max_size=12)


def best_by_definition(text: str, documents: Sequence[str]) -> float:
    sets = [shingle_set(normalise(item), RULES.shingle) for item in (text, *documents)]
    return max((jaccard(sets[0], other) or 0.0 for other in sets[1:]), default=0.0)


def find(texts: Sequence[str], documents: Sequence[str]) -> ContaminationReport:
    cases = [a_case(number, text) for number, text in enumerate(texts)]
    return find_contamination(cases, documents, rules=RULES)


def is_certain(value: float) -> bool:
    """A pair that the search misses less than once in 10 million."""
    return value >= 0.68


@settings(max_examples=60)
@given(lists, lists)
def test_a_report_says_what_the_definition_says(cases: list[str], documents: list[str]) -> None:
    report = find(cases, documents)

    best = {f"case-{i}": best_by_definition(text, documents) for i, text in enumerate(cases)}
    assert {leak.case_id: leak.jaccard for leak in report.leaks} == {
        case_id: value for case_id, value in best.items() if value >= RULES.jaccard
    }
    for row in report.sweep:
        n_true = sum(value >= row.jaccard for value in best.values())
        assert row.n_leaked == n_true if is_certain(row.jaccard) else row.n_leaked <= n_true
        assert row.fraction == row.n_leaked / len(cases)
    for leak in report.leaks:
        text = cases[int(leak.case_id.removeprefix("case-"))]
        assert leak.jaccard == best_by_definition(text, [documents[leak.document - 1]])


@settings(max_examples=40)
@given(lists, lists, st.randoms(use_true_random=False))
def test_the_order_of_documents_changes_nothing_but_lines(
    cases: list[str], documents: list[str], rng: random.Random
) -> None:
    order = list(range(len(documents)))
    rng.shuffle(order)

    one = find(cases, documents)
    two = find(cases, [documents[i] for i in order])

    assert [(leak.case_id, leak.jaccard) for leak in one.leaks] == [
        (leak.case_id, leak.jaccard) for leak in two.leaks
    ]
    assert one.sweep == two.sweep


@settings(max_examples=40)
@given(lists, st.data())
def test_an_identical_text_is_always_found(cases: list[str], data: st.DataObject) -> None:
    filled = [text for text in cases if text]
    if not filled:
        return
    text = data.draw(st.sampled_from(filled))

    report = find(cases, ["something else entirely", text.upper()])

    assert all(report.leaked_ids >= {f"case-{i}"} for i, other in enumerate(cases) if other == text)


unit = st.floats(0.0, 1.0)
rules = st.builds(
    ContaminationRules,
    jaccard=st.floats(0.01, 1.0),
    shingle=st.integers(1, 50),
    num_perm=st.integers(16, 1024),
    max_fraction=unit,
    sweep=st.lists(st.floats(0.01, 1.0), max_size=4).map(tuple),
)
reports = st.builds(
    ContaminationReport,
    n_cases=st.integers(0, 50),
    n_documents=st.integers(0, 10**6),
    rules=rules,
    leaks=st.lists(st.builds(Leak, st.text(), st.integers(1), unit), max_size=3).map(tuple),
    sweep=st.lists(st.builds(SweepRow, unit, st.integers(0, 50), st.none() | unit), max_size=4).map(
        tuple
    ),
    n_without_text=st.integers(0, 50),
    n_plain_documents=st.integers(0, 50),
    training_digest=st.none() | st.text(),
)


@settings(max_examples=60)
@given(reports)
def test_a_report_is_read_back_as_it_was_written(report: ContaminationReport) -> None:
    assert ContaminationReport.from_json(report.to_json()) == report
