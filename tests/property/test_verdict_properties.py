"""Whatever is measured: PASS only with every control valid, and undefined never counts for it."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.export_evidence import ExportEvidence, ExportFinding, ExportStatus
from adapters.parity.gate_plan import Measurements, NoiseFloor
from adapters.parity.numeric import NumericTotals, RepeatNumbers, resolution_of
from adapters.parity.policy import GatePolicy
from adapters.parity.verdict import VerdictKind, decide

maybe_nats = st.one_of(
    st.sampled_from([None, math.nan, math.inf, 0.0]), st.floats(0, 5), st.floats(0, 1e-3)
)
counts = st.integers(0, 60)


@st.composite
def totals(draw: st.DrawFn) -> NumericTotals:
    n_tokens = draw(counts)
    return NumericTotals(
        n_answers=draw(counts),
        n_tokens=n_tokens,
        n_equal=draw(st.integers(0, n_tokens)),
        n_same_answers=0,
        n_real_divergences=draw(st.sampled_from([0, 0, 1, 9])),
        n_non_finite=draw(st.sampled_from([0, 0, 0, 1])),
        mean_delta_nats=draw(maybe_nats),
        max_delta_nats=None,
    )


@st.composite
def evidence(draw: st.DrawFn) -> ExportEvidence:
    status = draw(st.sampled_from(ExportStatus))
    is_mismatch = status is ExportStatus.MISMATCHED
    if status in (ExportStatus.ABSENT, ExportStatus.MATCHED):
        return ExportEvidence(status)
    return ExportEvidence(status, (ExportFinding("c", None, 1, 2, "t", is_mismatch=is_mismatch),))


@st.composite
def measurements(draw: st.DrawFn) -> Measurements:
    dtype = draw(st.sampled_from(["float32", "bfloat16"]))
    floor_dtype = draw(st.sampled_from([dtype, dtype, "float32"]))
    has_floor = draw(st.integers(0, 4)) > 0
    n_cases = draw(st.integers(0, 12))
    compared = draw(counts)
    return Measurements(
        dtype=dtype,
        n_cases=n_cases,
        n_answered_cases=draw(st.sampled_from([n_cases, n_cases, max(0, n_cases - 1)])),
        export=draw(evidence()),
        load_problem=draw(st.sampled_from([None, None, None, "missing tensors"])),
        non_finite_cases=draw(st.sampled_from([(), (), ("case-1",)])),
        numeric=draw(totals()),
        per_answer=(),
        repeats=RepeatNumbers(
            draw(st.integers(0, 3)), 1, 1, compared, draw(st.integers(0, compared))
        ),
        floor=NoiseFloor("e", "r", floor_dtype, "s", draw(totals())) if has_floor else None,
        effect_nats=draw(maybe_nats),
        effect_by_case={},
        n_unexplained=draw(st.sampled_from([0, 0, 0, 2])),
    )


@st.composite
def good_measurements(draw: st.DrawFn) -> Measurements:
    dtype = draw(st.sampled_from(["float32", "bfloat16"]))
    quiet = resolution_of(dtype).mean_delta_nats
    clean = NumericTotals(24, 100, 100, 24, 0, 0, draw(st.floats(0, quiet)), quiet)
    return Measurements(
        dtype=dtype,
        n_cases=8,
        n_answered_cases=8,
        export=ExportEvidence(draw(st.sampled_from([ExportStatus.MATCHED, ExportStatus.ABSENT]))),
        load_problem=None,
        non_finite_cases=(),
        numeric=clean,
        per_answer=(),
        repeats=RepeatNumbers(3, 16, 16, 160, 160),
        floor=NoiseFloor("e", "r", dtype, "s", clean),
        effect_nats=draw(st.floats(0.5, 5)),
        effect_by_case={},
    )


@settings(deadline=None)
@given(st.one_of(measurements(), good_measurements()))
def test_pass_needs_every_control_valid_and_nothing_undefined(measured: Measurements) -> None:
    policy = GatePolicy()
    verdict = decide(measured, policy)

    assert verdict.reasons
    if verdict.kind is not VerdictKind.PASS:
        return
    floor = measured.floor
    assert measured.load_problem is None
    assert measured.non_finite_cases == ()
    assert measured.n_answered_cases == measured.n_cases >= policy.min_numeric_cases
    assert floor is not None
    assert floor.dtype == measured.dtype
    assert floor.totals.n_tokens > 0
    assert floor.totals.n_non_finite == 0
    assert floor.totals.mean_delta_nats is not None
    assert floor.totals.mean_delta_nats <= policy.max_floor_nats
    assert measured.numeric.mean_delta_nats is not None
    assert measured.numeric.n_tokens > 0
    assert measured.n_unexplained == 0
    assert measured.effect_nats is not None
    assert measured.effect_nats >= policy.effect_factor * floor.totals.mean_delta_nats
    assert measured.effect_nats >= 10 * measured.numeric.mean_delta_nats / policy.noise_factor
    assert measured.repeats.n_repeats >= policy.min_repeats
    assert measured.repeats.token_agreement is not None
    assert measured.export.status in (ExportStatus.MATCHED, ExportStatus.ABSENT)


@settings(deadline=None)
@given(good_measurements())
def test_a_clean_candidate_passes(measured: Measurements) -> None:
    assert decide(measured, GatePolicy()).kind is VerdictKind.PASS


@settings(deadline=None)
@given(measurements())
def test_fail_needs_evidence_against_the_adapter(measured: Measurements) -> None:
    if decide(measured, GatePolicy()).kind is VerdictKind.FAIL:
        assert (
            measured.load_problem is not None
            or measured.non_finite_cases
            or measured.export.is_mismatch
            or measured.numeric.n_real_divergences > 0
        )


@settings(deadline=None)
@given(measurements())
def test_the_verdict_is_a_function_of_its_inputs(measured: Measurements) -> None:
    assert decide(measured, GatePolicy()) == decide(measured, GatePolicy())
