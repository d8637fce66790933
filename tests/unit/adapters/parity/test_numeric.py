import math

import pytest

from adapters.parity.numeric import measure_answer, measure_repeats, resolution_of, total
from adapters.parity.protocol import VerifyRow
from tests.builders.parity_cases import answer, row_for


def test_an_answer_that_the_standalone_model_would_give_is_the_same():
    given = answer(1)

    numbers = measure_answer(given, row_for(given.item, delta=0.25), tie_margin_nats=0.1)

    assert numbers.is_same_answer
    assert numbers.n_equal == numbers.n_tokens == 10
    assert numbers.mean_delta_nats == pytest.approx(0.25)
    assert numbers.max_delta_nats == pytest.approx(0.25)
    assert numbers.first_divergence is None


def test_the_first_divergence_is_given_with_its_margin():
    given = answer(1)

    row = row_for(given.item, divergent={3: 0.05, 6: 0.4})
    numbers = measure_answer(given, row, tie_margin_nats=0.1)

    assert numbers.first_divergence == 3
    assert numbers.divergence_margin_nats == pytest.approx(0.05)
    assert numbers.n_equal == 8
    assert numbers.n_real_divergences == 1
    assert not numbers.is_same_answer


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_logprob_of_the_engine_that_is_not_finite_leaves_no_number(value):
    given = answer(1, n=3)
    poisoned = type(given)(given.case_id, 0, given.prompt_token_ids, (1, 2, 3), (-1.0, value, -1.0))

    numbers = measure_answer(poisoned, row_for(poisoned.item), tie_margin_nats=0.1)

    assert not numbers.is_finite
    assert numbers.mean_delta_nats is None
    assert not numbers.is_same_answer


def test_a_poisoned_standalone_pass_leaves_no_number():
    given = answer(1)

    numbers = measure_answer(given, VerifyRow(given.case_id, False), tie_margin_nats=0.1)

    assert not numbers.is_finite
    assert numbers.max_delta_nats is None


def test_a_row_of_another_answer_is_a_bug_and_not_a_measurement():
    with pytest.raises(ValueError, match="other lengths"):
        measure_answer(answer(1, n=4), row_for(answer(1, n=3).item), tie_margin_nats=0.1)


def test_totals_weigh_by_token_and_count_what_is_not_finite():
    short, long = answer(1, n=1), answer(2, n=9)
    measured = [
        measure_answer(short, row_for(short.item, delta=1.0), tie_margin_nats=0.1),
        measure_answer(long, row_for(long.item, delta=0.0), tie_margin_nats=0.1),
        measure_answer(short, VerifyRow("case-1", False), tie_margin_nats=0.1),
    ]

    sums = total(measured)

    assert sums.mean_delta_nats == pytest.approx(0.1)
    assert sums.max_delta_nats == pytest.approx(1.0)
    assert sums.n_tokens == 10
    assert sums.n_non_finite == 1
    assert sums.token_agreement == 1.0


def test_totals_of_nothing_are_undefined():
    sums = total([])

    assert sums.mean_delta_nats is None
    assert sums.max_delta_nats is None
    assert sums.token_agreement is None


def test_an_empty_answer_is_no_evidence_of_agreement():
    given = answer(1, n=0)

    numbers = measure_answer(given, row_for(given.item), tie_margin_nats=0.1)

    assert not numbers.is_same_answer
    assert numbers.mean_delta_nats is None


def test_repeats_are_compared_up_to_their_first_difference():
    first = answer(1, 0, n=4)
    second = type(first)("case-1", 1, (1, 1), (100, 101, 9, 9, 9), (-1.0,) * 5)

    repeats = measure_repeats([first, second, answer(2, 0), answer(2, 1)])

    assert repeats.n_repeats == 2
    assert (repeats.n_pairs, repeats.n_equal_pairs) == (2, 1)
    assert (repeats.n_compared_tokens, repeats.n_equal_tokens) == (13, 12)


def test_an_answer_that_goes_on_differs_from_one_that_ended():
    first = answer(1, 0, n=2)
    longer = answer(1, 1, n=3)

    repeats = measure_repeats([longer, first])

    assert repeats.n_equal_pairs == 0
    assert repeats.token_agreement == pytest.approx(2 / 3)


def test_one_repeat_has_no_agreement():
    assert measure_repeats([answer(1), answer(2)]).token_agreement is None


def test_an_unknown_number_type_is_taken_for_the_coarsest():
    assert resolution_of("fp8") == resolution_of("bfloat16")
    assert resolution_of("float32").tie_margin_nats < resolution_of("float16").tie_margin_nats
