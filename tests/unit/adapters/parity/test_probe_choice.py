"""Which answers an engine repeats at each load."""

from dataclasses import replace

import pytest

from adapters.parity.gate_plan import measure, plan_verification
from adapters.parity.probe_choice import select_probe
from tests.builders.parity_cases import inputs, row_for


def probed(given, **kwargs):
    return select_probe(given, measure(given), **kwargs)


def test_the_probe_holds_the_cases_with_the_largest_effect_and_the_engines_answers():
    good = inputs()
    rows = {
        item: row_for(item, effect=float(index)) for index, item in enumerate(good.rows, start=1)
    }

    probe = probed(replace(good, rows=rows), n=3, max_tokens=4)

    assert [case.prompt_token_ids for case in probe.cases] == [(1, 7), (1, 6), (1, 5)]
    assert probe.cases[0].expected_token_ids == (100, 101, 102, 103)
    assert probe.cases[0].expected_logprobs == (-0.5,) * 4
    assert probe.max_mean_delta_nats == pytest.approx(1e-3)
    assert probe.tie_margin_nats > 0


def test_a_load_without_the_adapter_cannot_pass_the_probe():
    probe = probed(inputs(dtype="bfloat16", row={"effect": 0.1}))

    assert probe.max_mean_delta_nats == pytest.approx(0.05)


def test_answers_that_repeats_do_not_share_are_not_probed():
    good = inputs(n_cases=2)
    answers = tuple(
        replace(a, token_ids=(9, *a.token_ids[1:])) if (a.case_id, a.repeat) == ("case-1", 2) else a
        for a in good.answers
    )
    rows = {item: row_for(item) for item in plan_verification(answers)}

    probe = probed(replace(good, answers=answers, rows=rows))

    assert [case.prompt_token_ids for case in probe.cases] == [(1, 0)]


def test_without_answers_the_probe_is_empty():
    assert probed(inputs(answers=(), rows={}, floor=None)).cases == ()
