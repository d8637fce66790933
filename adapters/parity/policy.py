"""What an operator asks of the gate: one policy's fields, partial policies, and which one wins.

Pure. A policy is made of patches, widest scope first: fleet, tenant, adapter. Where patches are
kept and who may write them is the controller's business.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from adapters.errors import PolicyInvalid
from adapters.parity.policy_rules import Choice, Count, Flag, Number, Rule, Text, Thresholds


class OnInconclusive(StrEnum):
    """What follows an INCONCLUSIVE verdict of a version that its uploader wants promoted."""

    HOLD = "hold"
    PROMOTE = "promote"


class OnRecheckFail(StrEnum):
    """What follows when a version in service FAILs on a new engine build or base."""

    ALERT = "alert"
    ROLLBACK = "rollback"


class Runner(StrEnum):
    """What the standalone side is."""

    PEFT = "peft"
    OPENAI = "openai"
    MERGED = "merged"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContaminationPolicy:
    """When a suite counts as known from training."""

    jaccard: float = 0.7
    """Least Jaccard similarity of two texts that counts as a near-duplicate."""
    shingle: int = 5
    """Characters per shingle."""
    num_perm: int = 256
    """Permutations of MinHash: more find near-duplicates more surely and cost more."""
    max_fraction: float = 0.005
    """A larger part of leaked cases refuses the suite; below, they are left out and listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """Everything that a verdict depends on beside the measurements."""

    margin: float = 0.005
    """Largest tolerated fall of a pass rate or score, as a fraction: 0.005 is half a point."""
    confidence: float = 0.95
    """Coverage of intervals, and 1 minus the false-block rate over all gated segments."""
    repeats: int = 3
    """How often the candidate answers the suite, in different batch compositions."""
    min_repeats: int = 2
    """Fewer answered repeats than this are INCONCLUSIVE; `resolve` caps it at `repeats`."""
    max_repeat_spread: float = 0.01
    """Pass rates of the repeats that spread by more say that the engine is not deterministic."""
    min_cases: int = 50
    """Fewer cases with gold answers than this are INCONCLUSIVE at the task level."""
    min_numeric_cases: int = 8
    """Fewer cases than this are INCONCLUSIVE at every level."""
    min_cases_per_segment: int = 20
    """Smaller segments are shown and decide nothing."""
    segment_thresholds: Mapping[str, float] = field(default_factory=dict)
    """Least pass rate of a segment on the engine, 0 to 1."""
    noise_factor: float = 3.0
    """Disagreement beyond this multiple of the noise floor, with real divergences, fails."""
    effect_factor: float = 10.0
    """An effect under this multiple of the noise floor cannot be told from the base model."""
    max_floor_nats: float = 0.1
    """A base that disagrees more with its own reference is not the same base; nats per token."""
    contamination: ContaminationPolicy = field(default_factory=ContaminationPolicy)
    """Comparison of the suite with the training set."""
    require_export_evidence: bool = False
    """Whether files that nothing independent vouches for are INCONCLUSIVE."""
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    """`promote`: an INCONCLUSIVE version that was pushed with promote=auto goes on all the same."""
    on_recheck_fail: OnRecheckFail = OnRecheckFail.ALERT
    """`rollback`: a live version that FAILs its re-check gives way to the previous version."""
    runner: Runner = Runner.PEFT
    """The standalone side: base and adapter (peft), a deployment (openai), merged weights."""
    deployment_url: str = ""
    """Of the runner `openai`: the standalone deployment to compare with, as `http://host:port`."""
    deployment_model: str = ""
    """Of the runner `openai`: the model's name there."""
    use_judges: bool = False
    """Whether the controller's judges compare free-text answers of cases without gold."""
    seed: int = 0
    """Of every random choice: resamples, orders, sampled cases."""

    def to_json(self) -> dict[str, Any]:
        """Every field, JSON-ready; `PolicyPatch` reads it back."""
        return {
            **{item.name: _to_json(getattr(self, item.name)) for item in dataclasses.fields(self)},
            "contamination": dataclasses.asdict(self.contamination),
            "segment_thresholds": dict(self.segment_thresholds),
        }


_RULES: dict[str, Rule] = {
    "margin": Number(0.0, 1.0),
    "confidence": Number(0.5, 0.9999),
    "repeats": Count(1, 20),
    "min_repeats": Count(1, 20),
    "max_repeat_spread": Number(0.0, 1.0),
    "min_cases": Count(1, 1_000_000),
    "min_numeric_cases": Count(1, 1_000_000),
    "min_cases_per_segment": Count(1, 1_000_000),
    "segment_thresholds": Thresholds(),
    "noise_factor": Number(0.0, 1e6, is_low_open=True),
    "effect_factor": Number(0.0, 1e6, is_low_open=True),
    "max_floor_nats": Number(0.0, 100.0, is_low_open=True),
    "contamination.jaccard": Number(0.0, 1.0, is_low_open=True),
    "contamination.shingle": Count(1, 50),
    "contamination.num_perm": Count(16, 1024),
    "contamination.max_fraction": Number(0.0, 1.0),
    "require_export_evidence": Flag(),
    "on_inconclusive": Choice(OnInconclusive),
    "on_recheck_fail": Choice(OnRecheckFail),
    "runner": Choice(Runner),
    "deployment_url": Text(),
    "deployment_model": Text(),
    "use_judges": Flag(),
    "seed": Count(0, 2**32 - 1),
}
"""By dotted name; a test compares it with the fields."""


class Scope(StrEnum):
    """Where a field's value comes from, widest first."""

    DEFAULT = "default"
    SETTINGS = "settings"
    """The controller's own settings (`gate_*`)."""
    FLEET = "fleet"
    TENANT = "tenant"
    ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class PolicySource:
    """One patch: its scope and its number there; None where patches are not numbered."""

    scope: Scope
    number: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For reports and answers."""
        return {"scope": self.scope.value, "number": self.number}


@dataclass(frozen=True, slots=True)
class PolicyPatch:
    """A partial policy; a field that it leaves out stays as the wider scope says."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """By dotted name (`contamination.jaccard`, `segment_thresholds.refund_flow`), in its type."""

    def to_json(self) -> dict[str, Any]:
        """Nested as it is written; equal patches give equal JSON."""
        result: dict[str, Any] = {}
        for name, value in sorted(self.values.items()):
            outer, _, inner = name.partition(".")
            if inner:
                result.setdefault(outer, {})[inner] = _to_json(value)
            else:
                result[name] = _to_json(value)
        return result


@dataclass(frozen=True, slots=True)
class ResolvedPolicy:
    """The policy that holds, and where each of its fields comes from."""

    policy: GatePolicy
    sources: Mapping[str, PolicySource]
    """By dotted name, as in `PolicyPatch.values`; every field and every threshold is there."""

    @property
    def applied(self) -> tuple[PolicySource, ...]:
        """The patches that still decide at least one field, widest scope first."""
        used = set(self.sources.values())
        order = list(Scope)
        return tuple(sorted(used, key=lambda item: (order.index(item.scope), item.number or 0)))

    def to_json(self) -> dict[str, Any]:
        """`policy` and `sources`, JSON-ready."""
        sources = {name: source.to_json() for name, source in sorted(self.sources.items())}
        return {"policy": self.policy.to_json(), "sources": sources}


def parse_policy(content: object) -> PolicyPatch:
    """Read a partial policy, as JSON or YAML gave it; `{"gate": {...}}` may wrap it.

    Raises:
        PolicyInvalid: an unknown field, a wrong type, or a value out of range.
    """
    if isinstance(content, Mapping) and set(content) == {"gate"}:
        content = content["gate"]
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        problem = f"{type(content).__name__} is no mapping of fields"
        raise PolicyInvalid(field="", problem=problem, fix="Write `field: value` lines.")
    return PolicyPatch(dict(sorted(_read(content))))


def resolve(defaults: GatePolicy, *patches: tuple[PolicySource, PolicyPatch]) -> ResolvedPolicy:
    """Lay patches over the defaults, each over those before it: widest scope first.

    Thresholds of segments are laid over each other one by one; a narrower scope ends one with 0.
    """
    values = dict(_flat(defaults))
    sources = dict.fromkeys(values, PolicySource(Scope.DEFAULT))
    for source, patch in patches:
        for name, value in patch.values.items():
            values[name], sources[name] = value, source
    return ResolvedPolicy(_build(values), sources)


def field_names() -> tuple[str, ...]:
    """Every field by its dotted name, without the segments of `segment_thresholds`."""
    return tuple(_RULES)


def _read(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if name == "contamination":
            if not isinstance(value, Mapping):
                fix = "Write its fields one level deeper, as in {jaccard: 0.7}."
                raise PolicyInvalid(field=name, problem="it is no mapping of fields", fix=fix)
            yield from _read(value, "contamination.")
        elif name not in _RULES or "." in str(key):
            raise PolicyInvalid(field=name, problem="there is no such field", fix=_near(name))
        elif name == "segment_thresholds":
            read = _RULES[name].read(name, value)
            yield from ((f"{name}.{segment}", rate) for segment, rate in read.items())
        else:
            yield name, _RULES[name].read(name, value)


def _near(name: str) -> str:
    known = [*field_names(), "contamination"]
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(known)}."


def _flat(policy: GatePolicy) -> Iterator[tuple[str, Any]]:
    for name in field_names():
        if name == "segment_thresholds":
            yield from (
                (f"{name}.{segment}", rate) for segment, rate in policy.segment_thresholds.items()
            )
        elif name.startswith("contamination."):
            yield name, getattr(policy.contamination, name.partition(".")[2])
        else:
            yield name, getattr(policy, name)


def _build(values: Mapping[str, Any]) -> GatePolicy:
    plain = {name: value for name, value in values.items() if "." not in name}
    nested: dict[str, dict[str, Any]] = {"contamination": {}, "segment_thresholds": {}}
    for name, value in values.items():
        outer, _, inner = name.partition(".")
        if inner:
            nested[outer][inner] = value
    plain["min_repeats"] = min(plain["min_repeats"], plain["repeats"])
    return GatePolicy(
        **plain,
        contamination=ContaminationPolicy(**nested["contamination"]),
        segment_thresholds=nested["segment_thresholds"],
    )


def _to_json(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value
