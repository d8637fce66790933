from adapters.parity.scoring import CaseScore, Mean, summarise


def test_each_mean_is_over_the_cases_that_define_it():
    called = CaseScore(
        *("a", "tool_calls", True, 1.0, 1.0),
        argument_exact=True,
        argument_f1=1.0,
        n_fields=6,
        n_hallucinated=0,
        recovery=True,
        trajectory_delta=0,
    )
    spoilt = CaseScore(
        *("b", "tool_calls", False, 0.5, 0.5),
        argument_exact=False,
        argument_f1=0.5,
        n_fields=2,
        n_hallucinated=2,
        trajectory_delta=-1,
    )
    text = CaseScore("c", "text", True, 1.0)

    metrics = summarise([called, spoilt, text])

    assert metrics.to_json() == {
        "tool_selection": 0.75,
        "argument_exact": 0.5,
        "argument_f1": 0.75,
        "hallucination_rate": 0.25,
        "recovery": 1.0,
        "trajectory_delta": -0.5,
        "score": 2.5 / 3,
        "pass_rate": 2 / 3,
    }
    assert metrics.n_scored == 3
    assert metrics.counts()["hallucination_rate"] == 8
    assert metrics.recovery == Mean(1.0, 1)


def test_what_no_case_defines_is_undefined_and_not_zero():
    nothing, text = summarise([]), summarise([CaseScore("c", "text", False, 0.0)])

    assert set(nothing.to_json().values()) == {None}
    assert text.to_json()["tool_selection"] is None
    assert text.to_json()["hallucination_rate"] is None
    assert text.to_json()["pass_rate"] == 0.0


def test_answers_that_fill_no_field_have_no_hallucination_rate():
    silent = CaseScore("c", "tool_calls", False, 0.0, 0.0, n_fields=0, n_hallucinated=0)

    assert summarise([silent]).hallucination_rate == Mean(None, 0)
