import json
from dataclasses import replace

import pytest

from adapters.parity.gate_plan import NoiseFloor, floor_key, measure, plan_verification
from adapters.parity.protocol import EffectRow
from tests.builders.parity_cases import answer, floor, inputs, row_for

KEY = {"engine_build": "e", "base_revision": "r", "dtype": "float32", "suite_digest": "s"}


def test_equal_repeats_are_read_once():
    answers = [answer(case, repeat) for repeat in range(3) for case in range(4)]
    other = replace(answer(2, 1), token_ids=(1, 2), logprobs=(-1.0, -1.0))

    plan = plan_verification([*answers, other])

    assert [item.case_id for item in plan] == ["case-0", "case-1", "case-2", "case-3", "case-2"]


def test_a_floor_survives_being_stored_as_json():
    made = floor(delta=0.003)

    assert NoiseFloor.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("changed", list(KEY))
def test_a_floors_key_depends_on_everything_that_the_floor_does(changed):
    assert floor_key(**KEY) == floor_key(**KEY)
    assert floor_key(**{**KEY, changed: "other"}) != floor_key(**KEY)


def test_the_effect_is_measured_on_answers_and_before_them_on_prompts():
    assert measure(inputs()).effect_nats == pytest.approx(1.5)
    early = measure(inputs(answers=(), rows={}))
    assert early.effect_nats == pytest.approx(1.0)
    assert early.effect_by_case["case-0"] == pytest.approx(1.0)
    assert measure(inputs(answers=(), rows={}, effects=())).effect_nats is None


def test_poisoned_cases_are_named_once():
    effects = (EffectRow("case-1", False), EffectRow("case-2", True, 1.0, 1.0))

    assert measure(inputs(effects=effects)).non_finite_cases == ("case-1",)


def test_a_case_counts_as_answered_when_every_repeat_has_tokens():
    good = inputs(n_repeats=2)
    empty = replace(answer(3, 1), token_ids=(), logprobs=())
    answers = tuple(empty if (a.case_id, a.repeat) == ("case-3", 1) else a for a in good.answers)
    rows = {item: row_for(item) for item in plan_verification(answers)}

    assert measure(replace(good, answers=answers, rows=rows)).n_answered_cases == 7


def test_an_answer_that_nobody_read_is_a_bug():
    with pytest.raises(KeyError):
        measure(inputs(rows={}))
