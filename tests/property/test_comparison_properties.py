from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.comparison import ComparisonRules, PairedScore, detectable_sentence
from tests.builders.paired_scores import compared

RULES = ComparisonRules(
    min_cases=12, min_cases_per_segment=4, n_resamples=60, segment_thresholds={"a": 0.5}
)
passes = st.sampled_from([0.0, 1.0])
scores = st.one_of(passes, st.sampled_from([0.25, 0.5]), st.floats(0.0, 1.0))


@st.composite
def suites(draw: st.DrawFn) -> list[PairedScore]:
    values = draw(st.sampled_from([passes, scores]))
    rows = draw(st.lists(st.tuples(st.sampled_from("abcd"), values, values), max_size=60))
    return [PairedScore(str(i), *row) for i, row in enumerate(rows)]


@settings(deadline=None, max_examples=30)
@given(suites(), st.randoms(use_true_random=False))
def test_the_order_of_the_cases_changes_nothing(pairs, random):
    shuffled = random.sample(pairs, len(pairs))

    assert compared(pairs, RULES) == compared(shuffled, RULES)


@settings(deadline=None, max_examples=30)
@given(suites())
def test_a_regression_needs_a_gated_row_a_drop_above_the_margin_and_proof(pairs):
    comparison = compared(pairs, RULES)

    for item in (comparison.total, *comparison.segments):
        needed = RULES.min_cases if item is comparison.total else RULES.min_cases_per_segment
        assert item.is_gated == (item.n >= needed)
        assert (item.is_regression is None) == (not item.is_gated)
        assert (item.holm_p is None) == (not item.is_gated)
        if item.is_regression:
            assert item.delta < -RULES.margin
            assert item.worse_p <= item.holm_p <= comparison.false_block_rate
            assert item.interval is None or item.interval.high < 0.0


@settings(deadline=None, max_examples=30)
@given(suites())
def test_no_case_and_no_segment_is_dropped(pairs):
    comparison = compared(pairs, RULES)

    assert comparison.total.n == len(pairs) == sum(item.n for item in comparison.segments)
    assert {item.segment for item in comparison.segments} == {pair.segment for pair in pairs}
    for item in (comparison.total, *comparison.segments):
        assert (item.delta is None) == (item.n == 0)
        if item.interval is not None:
            assert -1.0 <= item.interval.low <= item.delta <= item.interval.high <= 1.0


@settings(deadline=None, max_examples=30)
@given(suites())
def test_better_and_worse_turn_round_with_the_sides(pairs):
    forth = compared(pairs, RULES).total
    turned = [replace(pair, before=pair.after, after=pair.before) for pair in pairs]
    back = compared(turned, RULES).total

    assert (forth.n_worse, forth.n_better) == (back.n_better, back.n_worse)
    assert forth.mcnemar_p == back.mcnemar_p
    if forth.delta is not None:
        assert abs(forth.delta + back.delta) < 1e-12
    assert not (forth.is_regression and back.is_regression)


@settings(deadline=None, max_examples=30)
@given(suites())
def test_identical_sides_are_never_a_regression_and_the_sentence_is_one(pairs):
    same = [replace(pair, after=pair.before) for pair in pairs]

    comparison = compared(same, RULES)

    assert not comparison.is_regression
    assert comparison.regressions == comparison.unproven == ()
    assert detectable_sentence(comparison).startswith("This suite ")
