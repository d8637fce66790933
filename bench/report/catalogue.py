"""Which scenarios are reported, in which order, and the goals set before measuring. Pure.

A scenario without a result file is reported as not measured yet.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trade:
    """A plot of one figure against another, a mark per group: what is paid for what."""

    x: str
    y: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """One module of bench/scenarios whose section is generated. `title` heads it."""

    name: str
    title: str
    trades: tuple[Trade, ...] = ()
    about: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """A goal that was set before there was a figure.

    `topic` is a part of the name of the scenario's goal that answers it, without regard to case.
    """

    scenario: str
    topic: str
    name: str
    wanted: str
    figure: str = ""
    """What answers it instead of a goal: a figure of the scenario that has to be there."""


SCENARIOS = (
    Scenario(
        "tuned_profile", "A profile that was searched for",
        (Trade("gap_p99", "capacity"), Trade("gap_p99", "throughput")),
    ),
    Scenario("replay_gate", "Replay as a gate for a profile"),
    Scenario("generator_check", "The load generator against an established one"),
    Scenario("multi_lora_or_standalone", "Many adapters on one engine, or an engine each"),
    Scenario("adapters_on_slots", "More adapters than slots"),
    Scenario(
        "chunked_prefill", "Chunked prefill and the batch's token budget",
        (Trade("short gap p99", "all at once"),),
    ),
    Scenario("tenancy_overhead", "What tenancy adds to a request"),
    Scenario("cold_load", "From disk to the first token"),
    Scenario("reference_cost", "Verifying answers against generating them"),
    Scenario("gate_time", "Where a gate's time goes"),
    Scenario("control_plane_scale", "The control plane with 10,000 adapters and 100 agents"),
    Scenario("tenant_hashing", "Tenants hashed onto engines, or in turn"),
)  # fmt: skip
"""In the order of the page."""

WANTS = (
    Want(
        "tuned_profile", "short p99 gap", "p99 gap of short requests, default profile / tuned one",
        "at least 4",
    ),
    Want("tuned_profile", "throughput", "throughput lost to it", "at most 11 %"),
    Want("tuned_profile", "grid's best", "search against the exhaustive grid's best", "within 5 %"),
    Want("tuned_profile", "engine-minutes", "engine-minutes, search / grid", "at most a third"),
    Want("replay_gate", "bad profile", "a planted bad profile fails the replay", "3 of 3"),
    Want("replay_gate", "good profile", "a good profile passes the replay", "3 of 3"),
    Want(
        "adapters_on_slots", "throughput of",
        "throughput of 40 adapters on 8 slots / of one adapter", "at least 0.95",
    ),
    Want("tenancy_overhead", "in process", "added in process at p50", "at most 50 us"),
    Want(
        "tenancy_overhead", "LiteLLM", "what LiteLLM adds at p50 / what ours adds", "in the table",
        figure="adds p50, LiteLLM / ours",
    ),
    Want(
        "tenancy_overhead", "Envoy", "what Envoy adds at p50 / what ours adds", "in the table",
        figure="adds p50, Envoy / ours",
    ),
    Want("control_plane_scale", "promotion reaches", "promotion to 100 agents", "p99 under 1 s"),
    Want(
        "control_plane_scale", "growth of", "costs from 100 to 10,000 adapters",
        "no faster than linear",
    ),
)  # fmt: skip
"""What was promised before measuring, in the order of the table of goals."""

N_RUNS = 5
"""Over how many runs the spread of a figure is stated."""
