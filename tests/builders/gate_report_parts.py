"""The parts of a gate report: cases, comparisons, controls and provenance of an imaginary version.

Scores, comparisons, policy and distributions come from the product's own types.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.parity.comparison import ComparisonRules, PairedScore, compare, detectable_sentence
from adapters.parity.contamination import ContaminationReport, Excluded
from adapters.parity.distributions import PROBABILITIES, Distributions
from adapters.parity.judge_outcome import (
    Decision,
    JudgedCounts,
    JudgedPair,
    JudgeOutcome,
    JudgeRecord,
    Vote,
)
from adapters.parity.policy import (
    GatePolicy,
    PolicyPatch,
    PolicySource,
    ResolvedPolicy,
    Scope,
    resolve,
)
from adapters.parity.scoring import CaseScore, summarise

SEGMENTS = {
    "order_status": 110, "product_search": 80, "change_address": 60, "smalltalk": 40,
    "refund_flow": 47, "vip_escalation": 15,
}  # fmt: skip
DIGEST = "sha256:5d0c3c4f2b9e8a6f" + "0" * 48
FINGERPRINT = (
    "A fingerprint recorded at training vouches for the files: 210 modules and 8 answers match."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened; each field spoils or adds one thing."""

    verdict: str = "PASS"
    reasons: Sequence[tuple[str, str]] = ()
    notes: Sequence[tuple[str, str]] = ()
    first_line: str = FINGERPRINT
    segments: Mapping[str, int] = field(default_factory=lambda: SEGMENTS)
    broken: Mapping[str, int] = field(default_factory=dict)
    """segment -> cases that only the standalone side passes."""
    mended: Mapping[str, int] = field(default_factory=dict)
    """segment -> cases that only the engine passes."""
    has_gold: bool = True
    has_live: bool = True
    n_divergences: int = 6
    contamination: ContaminationReport | None = None
    dtype: str = "bfloat16"
    seed: int = 7


def cases_of(story: Story, rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    for segment, n_cases in story.segments.items():
        broken, mended = story.broken.get(segment, 0), story.mended.get(segment, 0)
        for index in range(n_cases):
            passes = (index >= mended, index < mended or index >= mended + broken)
            if index >= mended + broken and rng.random() < 0.06:
                passes = (False, False)
            rows.append(_case(f"{segment}-{index:04d}", segment, passes, story, rng))
    for row in rng.sample(rows, min(story.n_divergences, len(rows))):
        margin = round(rng.uniform(0.01, 0.24), 3)
        numeric = row["answers"][0]["numeric"]
        numeric |= {"first_divergence": 9, "divergence_margin_nats": margin, "n_equal": 22}
        row["equality"] = "equivalent" if row["equality"] == "exact" else row["equality"]
    return rows


def _case(
    name: str, segment: str, passes: tuple[bool, bool], story: Story, rng: random.Random
) -> dict[str, Any]:
    order, amount = f"A-{rng.randrange(1000, 9999)}", rng.randrange(5, 200)
    good = json.dumps({"name": segment, "arguments": {"order_id": order, "amount": amount}})
    bad = json.dumps({"name": segment, "arguments": {"order_id": order, "amount": amount * 10}})
    texts = [good if passed else bad for passed in passes]
    is_same = texts[0] == texts[1]
    mean = abs(rng.gauss(0.008, 0.003))
    numeric = {
        "case_id": name, "repeat": 0, "n_tokens": 24, "n_equal": 24 if is_same else 21,
        "mean_delta_nats": mean, "max_delta_nats": mean * 6, "is_finite": True,
        "first_divergence": None if is_same else 11,
        "divergence_margin_nats": None if is_same else round(rng.uniform(0.3, 2.2), 3),
        "n_real_divergences": 0 if is_same else 1,
    }  # fmt: skip
    standalone, engine = (_score(name, passed) for passed in passes)
    scores = {
        "engine": [engine.to_json()] * 3,
        "standalone": standalone.to_json(),
        "live": standalone.to_json() if story.has_live else None,
    }
    return {
        "id": name,
        "segment": segment,
        "prompt_token_ids": [1, 2, 3],
        "effect_nats": rng.uniform(1.2, 3.4),
        "is_finite_alone": True,
        "standalone_text": texts[0],
        "live_text": texts[0] if story.has_live else None,
        "equality": "exact" if is_same else "different",
        "scores": scores if story.has_gold else {"engine": [], "standalone": None, "live": None},
        "answers": [{"repeat": 0, "token_ids": [4, 5], "text": texts[1], "numeric": numeric}],
    }


def _score(case_id: str, passed: bool) -> CaseScore:
    return CaseScore(
        case_id=case_id, kind="tool_calls", is_pass=passed, score=1.0 if passed else 0.5,
        tool_selection=1.0, argument_exact=passed, argument_f1=1.0 if passed else 0.5, n_fields=2,
        n_hallucinated=0, trajectory_delta=0, detail="" if passed else "amount: another number",
    )  # fmt: skip


def task_of(cases: Sequence[Mapping[str, Any]], policy: GatePolicy, story: Story) -> dict[str, Any]:
    rules = ComparisonRules(
        margin=policy.margin, min_cases=policy.min_cases, n_resamples=1_000,
        min_cases_per_segment=policy.min_cases_per_segment,
        segment_thresholds=policy.segment_thresholds,
    )  # fmt: skip
    sides = {name: [_pass(case, name) for case in cases] for name in ("standalone", "live")}
    after = [float(case["scores"]["engine"][0]["is_pass"]) for case in cases]

    def compared(name: str, title: str) -> Any:
        pairs = [
            PairedScore(case["id"], case["segment"], before, value)
            for case, before, value in zip(cases, sides[name], after, strict=True)
        ]
        return compare(pairs, rules=rules, before_name=title, after_name="engine")

    serving = compared("standalone", "standalone")
    live = compared("live", "acme/support@2") if story.has_live else None
    return {
        "n_gold": len(cases),
        "n_scored": len(cases),
        "metrics": metrics_of(cases),
        "serving": serving.to_json(),
        "live": live.to_json() if live else None,
        "live_version": "acme/support@2" if live else None,
        "detectable": {
            "effect": serving.minimum_detectable_effect,
            "sentence": detectable_sentence(serving),
        },
    }


def _pass(case: Mapping[str, Any], side: str) -> float:
    score = case["scores"][side]
    return float(score["is_pass"]) if score else 0.0


def metrics_of(cases: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    by_side: dict[str, dict[str, float | None]] = {}
    for side in ("standalone", "engine", "live"):
        rows = [case["scores"][side] for case in cases]
        rows = [row[0] if isinstance(row, list) else row for row in rows if row]
        by_side[side] = summarise([CaseScore(**row) for row in rows]).to_json()
    return {
        name: {side: values[name] for side, values in by_side.items()} for name in by_side["engine"]
    }


def segment_of(name: str, cases: Sequence[Mapping[str, Any]], *, has_gold: bool) -> dict[str, Any]:
    own = [case for case in cases if case["segment"] == name]
    return {
        "segment": name,
        "n": len(own),
        "numeric": numeric_of(own),
        "answer": equality_of(own),
        "metrics": metrics_of(own) if has_gold else {},
    }


def numeric_of(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [case["answers"][0]["numeric"] for case in cases]
    n_tokens, n_equal = sum(r["n_tokens"] for r in rows), sum(r["n_equal"] for r in rows)
    return {
        "n_answers": len(rows),
        "n_tokens": n_tokens,
        "n_equal": n_equal,
        "n_same_answers": sum(row["first_divergence"] is None for row in rows),
        "n_real_divergences": sum(row["n_real_divergences"] for row in rows),
        "n_non_finite": 0,
        "mean_delta_nats": math.fsum(row["mean_delta_nats"] for row in rows) / len(rows),
        "max_delta_nats": max(row["max_delta_nats"] for row in rows),
        "token_agreement": n_equal / n_tokens,
    }


def equality_of(cases: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    kinds = [case["equality"] for case in cases]
    names = ("exact", "equivalent", "different")
    return {"n": len(kinds), **{f"n_{name}": kinds.count(name) for name in names}}


def policy_of(story: Story) -> ResolvedPolicy:
    tenant = PolicyPatch({"margin": 0.01})
    adapter = PolicyPatch({"segment_thresholds.refund_flow": 0.85})
    patches = [(PolicySource(Scope.TENANT, 2), tenant), (PolicySource(Scope.ADAPTER, 1), adapter)]
    return resolve(GatePolicy(), *patches[: 2 if story.has_gold else 0])


def provenance_of(story: Story, n_cases: int) -> dict[str, Any]:
    excluded = excluded_of(story)
    return {
        "suite": {
            "id": "acme/support-v4",
            "digest": "sha256:77aa" + "1" * 60,
            "is_builtin": False,
            "n_cases": n_cases,
            "n_excluded": len(excluded),
        },
        "base": {
            "model": "example/base-8b",
            "revision": "0e9e39f249a16976918f6564b8830bc894c89659",
            "dtype": story.dtype,
            "n_parameters": 8_030_261_248,
        },
        "engine": {"id": "engine-0", "build": "example build 1"},
        "runner": "peft",
        "versions": {"torch": "2.13.0", "transformers": "5.1.0", "peft": "0.18.1"},
        "seed": 0,
        "started_at": "2026-11-23T21:14:07+00:00",
        "seconds_by_stage": {
            "fetch": 1.8, "standalone": 21.4, "floor": 12.9, "candidate": 96.2, "verify": 41.7,
            "generate": 6.3, "score": 2.1,
        },
        "reused_stages": ["floor"],
    }  # fmt: skip


def excluded_of(story: Story) -> list[dict[str, str]]:
    leaks = story.contamination.leaks if story.contamination else ()
    return [
        Excluded(
            leak.case_id,
            leak.case_id.rpartition("-")[0],
            "contaminated",
            f"line {leak.document} of the training set has Jaccard similarity {leak.jaccard:.3f}",
        ).to_json()
        for leak in leaks
    ]


def controls_of(story: Story, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    totals = {**numeric_of(cases), "mean_delta_nats": 0.0071, "token_agreement": 0.9989}
    rates = [0.921, 0.920, 0.921] if story.has_gold else None
    return {
        "negative": {
            "engine_build": "example build 1",
            "base_revision": "0e9e39f2",
            "dtype": story.dtype,
            "suite_digest": "sha256:77aa",
            "totals": totals,
        },
        "positive": {"effect_nats": 2.1},
        "repeat": {
            "n_repeats": 3, "n_pairs": 2 * len(cases), "n_equal_pairs": 2 * len(cases) - 2,
            "n_compared_tokens": 48 * len(cases), "n_equal_tokens": 48 * len(cases) - 2,
            "token_agreement": 1 - 2 / (48 * len(cases)), "pass_rates": rates,
        },
    }  # fmt: skip


def distributions_of(rng: random.Random) -> Distributions:
    """Three log-normal shapes; the candidate's lies in the noise floor."""

    def shape(median: float, spread: float) -> tuple[float, ...]:
        draws = sorted(median * math.exp(rng.gauss(0, spread)) for _ in range(4_000))
        return tuple(draws[min(int(p * len(draws)), len(draws) - 1)] for p in PROBABILITIES)

    return Distributions(
        candidate=shape(0.0031, 1.25), negative=shape(0.0029, 1.2), positive=shape(0.8, 1.1)
    )


def divergence_of(case: Mapping[str, Any]) -> dict[str, Any]:
    answer = case["answers"][0]
    numeric = answer["numeric"]
    margin = numeric["divergence_margin_nats"]
    is_same = answer["text"] == case["standalone_text"]
    return {
        "case_id": case["id"],
        "segment": case["segment"],
        "repeat": 0,
        "position": numeric["first_divergence"],
        "margin_nats": margin,
        "is_near_tie": margin <= 0.25,
        "engine_text": answer["text"].replace(": ", ":") if is_same else answer["text"],
        "standalone_text": case["standalone_text"],
        "engine_token_id": 15,
        "standalone_token_id": 1270,
        "equality": case["equality"],
    }


def judge_of(segment: str) -> JudgeOutcome:
    """Two judges that agree with themselves and one that does not, over 40 pairs."""
    votes = {"judge-a": Vote.AFTER, "judge-b": Vote.BEFORE}
    judges = tuple(
        JudgeRecord(name, "judges.example", f"model-{name[-1]}", 40, n_consistent, 80, n_invalid=1)
        for name, n_consistent in (("judge-a", 40), ("judge-b", 38), ("judge-c", 31))
    )
    counts = JudgedCounts(segment, 40, 22, 12, 1, 2, 3)
    pair = JudgedPair(f"{segment}-0007", segment, votes, Decision.DROPPED)
    return JudgeOutcome(
        judges,
        "standalone",
        counts,
        (counts,),
        (pair,),
        mcnemar_p=1.0,
        worse_p=0.81,
        is_worse=False,
    )
