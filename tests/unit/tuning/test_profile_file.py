"""The profile that a search writes: taken by the engine unchanged, with the evidence above it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.profile import EngineProfile, parse_profile, read_profile
from serving.settings import EngineSettings
from serving.tuning.conclusion import conclude
from serving.tuning.profile_file import Provenance, profile_fields, profile_text
from serving.tuning.search import Plan, State
from serving.tuning.space import Setting
from tests.builders.searches import PROFILE, NoisyEngines, plan, race

WHERE = Provenance(
    measured_at="2026-11-30T10:00Z",
    machine="2 x Some CPU, 24 GiB",
    versions={"vllm": "0.32.0", "loraplane": "0.1.0"},
    base="smol, revision 123",
    shape="long-prefill",
    shape_digest="sha256:abc",
    journal="work",
)


@pytest.fixture(scope="module")
def found() -> SimpleNamespace:
    search = replace(plan(), budget_seconds=math.inf)
    state, stop = race(search, NoisyEngines(seed=3))
    return SimpleNamespace(plan=search, state=state, stop=stop.reason)


def written(plan_: Plan, state: State, stop: str, profile: EngineProfile = PROFILE) -> str:
    return profile_text(profile, plan_, state, conclude(plan_, state), WHERE, stop=stop)


def test_the_engine_takes_the_file_as_it_is(tmp_path: Path, found: SimpleNamespace) -> None:
    file = tmp_path / "tuned.yaml"
    file.write_text(written(found.plan, found.state, found.stop))

    profile = read_profile(EngineSettings(profile=file, cluster_secret="s"))

    assert profile == conclude(found.plan, found.state).chosen.apply(PROFILE)
    assert profile != PROFILE


def test_the_file_says_what_was_beaten_by_how_much_and_where(found: SimpleNamespace) -> None:
    text = written(found.plan, found.state, found.stop)

    for part in ("2026-11-30", "vllm 0.32.0", "2 x Some CPU", "sha256:abc", "tokens as vLLM",
                 "times the start's", "gap_p99", "engine-minutes"):  # fmt: skip
        assert part in text


def test_where_nothing_is_better_the_start_is_written_and_said_so(found: SimpleNamespace) -> None:
    only_start = tuple(r for r in found.state.rounds if r.setting == found.plan.start)
    state = replace(found.state, rounds=only_start)

    text = written(found.plan, state, found.stop)

    assert "Nothing beats the start beyond chance" in text
    assert parse_profile(yaml.safe_load(text)) == PROFILE


@given(reason=st.text())
@settings(max_examples=60, deadline=None)
def test_no_reason_of_a_failure_breaks_out_of_the_comment(reason: str) -> None:
    search = plan()
    start_only = tuple(r for r in _STATE.rounds if r.setting == search.start)
    state = replace(_STATE, rounds=start_only, failed={search.candidates[0]: reason})

    assert parse_profile(yaml.safe_load(written(search, state, "it did"))) == PROFILE


_STATE = race(plan(), NoisyEngines(seed=3))[0]


@given(
    budget=st.none() | st.integers(16, 8192),
    share=st.floats(0.05, 1.0),
    seqs=st.none() | st.integers(1, 512),
    slots=st.integers(1, 64),
    memory=st.none() | st.sampled_from([0.8, 0.85, 0.92]),
)
@settings(max_examples=60, deadline=None)
def test_every_setting_survives_the_way_through_a_file(
    budget: int | None, share: float, seqs: int | None, slots: int, memory: float | None
) -> None:
    setting = Setting(
        max_num_batched_tokens=budget,
        long_prefill_token_threshold=None if budget is None else max(1, int(budget * share)),
        max_num_seqs=seqs,
        gpu_slots=slots,
        gpu_memory_share=memory,
    )
    profile = setting.apply(replace(PROFILE, extra_arguments=("--seed=3",), waived=()))

    fields = yaml.safe_load(yaml.safe_dump(profile_fields(profile), sort_keys=False))

    assert parse_profile(fields) == profile
