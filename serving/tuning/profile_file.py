"""The recommended profile as a YAML file that `loraplane engine --profile` takes. Pure.

The parser of profiles is strict, so the evidence is in comments above the fields, and in full in
the search's result beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from serving.engine.profile import EngineProfile
from serving.tuning.conclusion import Conclusion, Found, Row
from serving.tuning.search import Plan, State

_WIDTH = 98


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where and when a search ran; every value is shown as it is."""

    measured_at: str
    """UTC, ISO 8601."""
    machine: str
    versions: Mapping[str, str]
    base: str
    """Name and revision of the base model."""
    shape: str
    shape_digest: str
    journal: str
    """Name of the folder with the record, without its path."""


def profile_text(
    profile: EngineProfile,
    plan: Plan,
    state: State,
    conclusion: Conclusion,
    provenance: Provenance,
    *,
    stop: str,
) -> str:
    """The whole file. Only fields that differ from their defaults are written, and the searched."""
    chosen = conclusion.chosen.apply(profile)
    lines = evidence_lines(plan, state, conclusion, provenance, stop=stop)
    comment = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    return comment + yaml.safe_dump(profile_fields(chosen), sort_keys=False, allow_unicode=True)


def profile_fields(profile: EngineProfile) -> dict[str, Any]:
    """What `parse_profile` makes the same profile of."""
    # cpu_slots always: without it the parser chooses by gpu_slots, and may choose another.
    kept = {"model", "gpu_slots", "cpu_slots", "max_num_batched_tokens", "enable_chunked_prefill"}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(profile):
        value = getattr(profile, field.name)
        if value is None or (field.name not in kept and value == field.default):
            continue
        fields[field.name] = list(value) if isinstance(value, tuple) else value
    return fields


def evidence_lines(
    plan: Plan, state: State, conclusion: Conclusion, provenance: Provenance, *, stop: str
) -> list[str]:
    """Date, versions, machine, load, figures with intervals, what was beaten and why it stopped."""
    lines = [
        f"Found by `loraplane tune` on {provenance.measured_at}.",
        f"Base: {provenance.base}",
        f"Machine: {provenance.machine}",
        "Versions: " + ", ".join(f"{n} {v}" for n, v in sorted(provenance.versions.items())),
        f"Load: {provenance.shape}, digest {provenance.shape_digest}",
        f"Goal: {plan.goals.text}",
        f"Spent: {state.spent_seconds / 60:.1f} engine-minutes; it ended because {stop}.",
        f"Record: {provenance.journal}",
        "",
        _verdict(conclusion),
        f"The start is `{plan.start.name}`. Means of rounds are geometric; intervals of the mean "
        f"hold with {100 * plan.rules.confidence:g} %, ratios to the start with "
        f"{100 * conclusion.confidence:.1f} % each, so that all of them together do with "
        f"{100 * plan.rules.confidence:g} %.",
    ]
    for row in conclusion.rows:
        lines += ["", *_row_lines(row)]
    if state.failed:
        lines += ["", "Failed:"]
        lines += [f"  {setting.name}: {reason}" for setting, reason in state.failed.items()]
    return [part for line in lines for part in _wrapped(line)]


def _verdict(conclusion: Conclusion) -> str:
    chosen = conclusion.chosen.name
    if not conclusion.is_better:
        return f"Nothing beats the start beyond chance ({conclusion.reason}): this is the start."
    near = "".join(f" `{setting.name}` could not be told from it." for setting in conclusion.near)
    return f"Chosen: `{chosen}`, because {conclusion.reason}.{near}"


def _row_lines(row: Row) -> list[str]:
    shown = [_figure(found) for found in row.figures if found.rounds]
    n_rounds = max((len(found.rounds) for found in row.figures), default=0)
    head = f"{row.setting.name} ({row.verdict}, {n_rounds} rounds"
    if row.n_unanswered:
        head += f"; {row.n_unanswered} requests not answered"
    if row.ratio_interval is not None:
        low, high = row.ratio_interval
        head += f"; goal {row.ratio:.3g} times the start's, {low:.3g} to {high:.3g}"
    return [head + ")", "  " + ", ".join(shown)]


def _figure(found: Found) -> str:
    text = f"{found.metric} {found.mean:.4g} {found.unit}"
    if found.interval is not None:
        text += f" ({found.interval.low:.4g} to {found.interval.high:.4g})"
    return text


def _wrapped(line: str) -> list[str]:
    """At words. Whatever a log or a name holds, nothing ends the comment or breaks YAML."""
    indent = " " * (len(line) - len(line.lstrip(" ")))
    lines, current = [], ""
    for raw in line.split():
        word = "".join(letter for letter in raw if letter.isprintable())
        if current and len(indent) + len(current) + 1 + len(word) > _WIDTH:
            lines.append(indent + current)
            current = word
        else:
            current = f"{current} {word}".strip()
    return [*lines, indent + current if current else ""]
