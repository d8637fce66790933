"""The report holds everything that a verdict was made of."""

import json

from adapters.parity.gate_plan import measure
from adapters.parity.policy import GatePolicy, resolve
from adapters.parity.protocol import BaseFacts
from adapters.parity.report import ReportContext, build_report
from adapters.parity.suite import Case, Suite
from adapters.parity.verdict import decide
from tests.builders.parity_cases import inputs


def context(n_cases=8):
    cases = tuple(Case(id=f"case-{n}", prompt="x") for n in range(n_cases))
    base = BaseFacts("m", "r", "float32", 1, {"torch": "2"})
    return ReportContext(
        "acme/support@3",
        "sha256:d",
        Suite(cases),
        base,
        resolve(GatePolicy(seed=4)),
        engine_build="e",
    )


def report_of(given):
    measured = measure(given)
    verdict = decide(measured, GatePolicy())
    return build_report(context(), inputs=given, measured=measured, verdict=verdict)


def test_the_report_starts_with_who_vouches_and_holds_everything():
    report = report_of(inputs())

    assert next(iter(report)) == "first_line"
    assert "14 modules" in report["first_line"]
    assert report["verdict"] == "PASS"
    assert report["seed"] == 4
    assert report["versions"] == {"torch": "2"}
    assert report["controls"]["negative"]["totals"]["token_agreement"] == 1.0
    assert report["controls"]["repeat"]["n_repeats"] == 3
    assert [len(case["answers"]) for case in report["cases"]] == [3] * 8
    first = report["cases"][0]["answers"][0]
    assert len(first["engine_logprobs"]) == len(first["standalone_logprobs"]) == 10
    assert first["numeric"]["first_divergence"] is None
    json.dumps(report, allow_nan=False)


def test_a_report_of_what_never_reached_an_engine_is_valid_too():
    report = report_of(inputs(load_problem="bad", answers=(), rows={}, effects=(), floor=None))

    assert report["verdict"] == "FAIL"
    assert report["controls"]["negative"] is None
    assert report["cases"][0]["answers"] == []
    assert report["cases"][0]["is_finite_alone"] is None
    json.dumps(report, allow_nan=False)
