"""Gate reports as `report.py` writes them, of imaginary versions, without a model or an engine."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from typing import Any

from adapters.parity.contamination import ContaminationReport, ContaminationRules, Leak, SweepRow
from adapters.parity.numeric import resolution_of
from tests.builders import gate_report_parts as parts
from tests.builders.gate_report_parts import DIGEST, Story


def a_report(story: Story | None = None) -> dict[str, Any]:
    """A whole report of format 2."""
    story = story or Story()
    rng = random.Random(story.seed)
    cases = parts.cases_of(story, rng)
    resolved = parts.policy_of(story)
    task = parts.task_of(cases, resolved.policy, story) if story.has_gold else None
    return {
        "first_line": story.first_line,
        "format": 2,
        "version": "acme/support@3",
        "adapter_digest": DIGEST,
        "verdict": story.verdict,
        "reasons": [{"code": code, "text": text} for code, text in story.reasons],
        "notes": [{"code": code, "text": text} for code, text in story.notes],
        "proves": "task and numeric parity" if story.has_gold else "numeric parity only",
        "vouched_by": "fingerprint",
        **parts.provenance_of(story, len(cases)),
        "policy": resolved.policy.to_json(),
        "policy_source": [item.to_json() for item in resolved.applied],
        "policy_sources": resolved.to_json()["sources"],
        "resolution": resolution_of(story.dtype)._asdict(),
        "excluded": parts.excluded_of(story),
        "contamination": story.contamination.to_json() if story.contamination else None,
        "controls": parts.controls_of(story, cases),
        "numeric": parts.numeric_of(cases),
        "distributions": parts.distributions_of(rng).to_json(),
        "answer": parts.equality_of(cases),
        "segments": [
            parts.segment_of(name, cases, has_gold=story.has_gold) for name in story.segments
        ],
        "task": task,
        "detectable": None if task is None else task.pop("detectable"),
        "judge": None,
        "export": {"status": "matched", "n_modules": 210, "n_answers": 8, "findings": []},
        "load_problem": None,
        "non_finite_cases": [],
        "divergences": [parts.divergence_of(case) for case in cases if case["equality"] != "exact"],
        "cases": cases,
    }


def passing() -> dict[str, Any]:
    """PASS with gold answers, a live version, and a few near-ties."""
    text = (
        "3600 answers to 1200 cases: 99.86% of 86400 tokens equal, mean difference 0.0079 nats; "
        "effect 2.1 nats"
    )
    contamination = contamination_of({"order_status-0903": 0.84}, 353)
    return a_report(
        Story(
            reasons=[("parity", text)],
            broken={"order_status": 2, "product_search": 1, "smalltalk": 1},
            mended={"order_status": 1, "change_address": 1, "product_search": 1},
            contamination=contamination,
        )
    )


def failing_on_a_segment() -> dict[str, Any]:
    """FAIL: one segment of 47 cases is worse, the total is not."""
    text = (
        "refund_flow: 12 of 47 cases got worse and 1 better, -23.4 points, 95% interval "
        "-38.3 to -10.6, Holm p 0.008"
    )
    nothing = (
        "Nothing independent vouches for the files: there is no training fingerprint, "
        "so a wrong export would look right here."
    )
    return a_report(
        Story(
            verdict="FAIL",
            reasons=[("segment_regression", text)],
            notes=[("export_evidence_absent", nothing)],
            first_line=nothing,
            broken={"refund_flow": 12, "order_status": 3, "vip_escalation": 2, "smalltalk": 1},
            mended={"order_status": 6, "product_search": 5, "refund_flow": 1, "change_address": 2},
            n_divergences=14,
        )
    )


def inconclusive() -> dict[str, Any]:
    """INCONCLUSIVE: too few cases with gold to say anything of the task."""
    return a_report(
        Story(
            verdict="INCONCLUSIVE",
            reasons=[("too_few_cases", "the suite has 12 cases with gold answers, 50 are needed")],
            segments={"order_status": 12},
            has_live=False,
            n_divergences=0,
        )
    )


def numeric_only() -> dict[str, Any]:
    """PASS of the built-in probe suite: no gold, no training set."""
    report = a_report(
        Story(
            reasons=[("parity", "24 answers to 8 cases: 100.00% of 480 tokens equal")],
            segments={"probe": 8},
            has_gold=False,
            n_divergences=0,
            dtype="float32",
        )
    )
    report["suite"] |= {"id": None, "is_builtin": True}
    return report


def contaminated() -> dict[str, Any]:
    """FAIL: more of the suite is in the training set than the policy allows."""
    leaks = {f"order_status-{n:04d}": 0.99 - n / 80 for n in range(23)}
    found = contamination_of(leaks, 375)
    text = "23 of 375 cases (6.13%) are nearly in the training set, at most 0.5% are allowed"
    story = Story(verdict="FAIL", reasons=[("contaminated_suite", text)], contamination=found)
    return a_report(story)


def judged() -> dict[str, Any]:
    """PASS with free-text answers that three judges compared, one of them refused."""
    return {**passing(), "judge": parts.judge_of("order_status").to_json()}


def given_up() -> dict[str, Any]:
    """INCONCLUSIVE before anything was measured."""
    text = "no engine was ready within 600 s"
    return {
        "first_line": text,
        "format": 2,
        "version": "acme/support@3",
        "adapter_digest": DIGEST,
        "verdict": "INCONCLUSIVE",
        "reasons": [{"code": "no_engine", "text": text}],
        "notes": [],
    }


def of_format_1() -> dict[str, Any]:
    """A report from before task scores: numbers and answers alone."""
    report = numeric_only()
    newer = ("vouched_by", "policy_source", "policy_sources", "excluded", "contamination", "task",
             "distributions", "answer", "segments", "detectable", "judge", "divergences", "runner",
             "reused_stages")  # fmt: skip
    for name in newer:
        del report[name]
    for case in report["cases"]:
        for name in ("scores", "equality", "standalone_text", "live_text"):
            del case[name]
    numeric = report["cases"][0]["answers"][0]["numeric"]
    numeric |= {"first_divergence": 3, "divergence_margin_nats": 0.004}
    return {**report, "format": 1}


@functools.cache
def report_of(kind: str) -> dict[str, Any]:
    """The report of one of `KINDS`; shared, so not to be changed."""
    return _MAKERS[kind]()


def contamination_of(leaks: Mapping[str, float], n_cases: int) -> ContaminationReport:
    """What was found where these cases are in the training set, with their similarity."""
    rules = ContaminationRules()
    counts = {limit: sum(j >= limit for j in leaks.values()) for limit in rules.sweep}
    return ContaminationReport(
        n_cases=n_cases,
        n_documents=94_000,
        rules=rules,
        leaks=tuple(Leak(case, 811 + i * 37, j) for i, (case, j) in enumerate(leaks.items())),
        sweep=tuple(SweepRow(limit, n, n / n_cases) for limit, n in counts.items()),
    )


_MAKERS = {
    maker.__name__: maker
    for maker in (
        passing, failing_on_a_segment, inconclusive, numeric_only, contaminated, judged, given_up,
        of_format_1,
    )
}  # fmt: skip
KINDS = tuple(_MAKERS)
