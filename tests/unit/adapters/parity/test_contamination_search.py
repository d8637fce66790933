"""Parts of a training set, searched apart, give what the whole gives."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.contamination import ContaminationRules, Leak
from adapters.parity.contamination_search import Findings, Match, merge, report_of, search
from adapters.parity.training_set import Part, read_training_set
from tests.builders.near_texts import a_case, json_lines

RULES = ContaminationRules(shingle=3)
words = st.sampled_from(["book", "a", "flight", "to", "Rome", "for", "two"])
texts = st.lists(words, min_size=1, max_size=6).map(" ".join)


@settings(max_examples=40)
@given(
    st.lists(texts, min_size=1, max_size=6), st.lists(texts, min_size=1, max_size=9),
    st.integers(1, 4),
)  # fmt: skip
def test_merged_parts_are_the_whole(asked: list[str], documents: list[str], n_parts: int) -> None:
    cases = [a_case(number, text) for number, text in enumerate(asked)]
    data = json_lines([{"prompt": text} for text in documents])

    def found(part: Part) -> Findings:
        return search(cases, read_training_set(io.BytesIO(data), part=part), rules=RULES)

    parts = [found(Part(number, n_parts)) for number in range(n_parts)]

    assert merge(parts) == merge(parts[::-1]) == found(Part(0, 1))


def test_of_equally_similar_documents_the_first_line_is_kept() -> None:
    one = Findings((Match(0, 7, 0.9), Match(1, 2, 0.7)), 5, 1, 0)
    two = Findings((Match(0, 4, 0.9), Match(1, 9, 0.8), Match(2, 3, 1.0)), 6, 0, 0)

    together = merge([one, two])

    assert together == Findings(
        (Match(0, 4, 0.9), Match(1, 9, 0.8), Match(2, 3, 1.0)), n_documents=11, n_plain=1,
        n_without_text=0,
    )  # fmt: skip
    assert Findings.from_json(json.loads(json.dumps(together.to_json()))) == together


def test_a_report_lists_the_most_similar_first() -> None:
    cases = [a_case(number, "x") for number in range(4)]
    matches = (Match(0, 1, 0.71), Match(1, 2, 0.95), Match(2, 3, 0.65), Match(3, 4, 0.95))

    report = report_of(cases, Findings(matches, 9, 2, 1), ContaminationRules())

    assert report.leaks == (
        Leak("case-1", 2, 0.95), Leak("case-3", 4, 0.95), Leak("case-0", 1, 0.71),
    )  # fmt: skip
    assert [row.n_leaked for row in report.sweep] == [2, 2, 3, 4]
    assert (report.n_documents, report.n_plain_documents, report.n_without_text) == (9, 2, 1)
    assert report.fraction == pytest.approx(0.75)
