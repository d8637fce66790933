"""What every engine promises to the controller and to tenants.

The fake engine and the real one run the same tests: the fake is trusted for that alone.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.base_model import read_base_model
from adapters.parity.protocol import SuitePrompt, VerifyItem, VerifyRow
from adapters.parity.runners import RunnerFacts, StandaloneAnswer
from adapters.parity.runners.openai import OpenAiRunner
from serving.contract import (
    KeyGrant,
    Probe,
    ProbeCase,
    Role,
    TenantEntry,
    VersionState,
    hash_key,
)
from tests.builders.engine_fleet import GATE, PROMPT, Fleet
from tests.builders.random_adapters import edit_tensors
from tests.fakes.engine_under_test import SECRET, EngineUnderTest
from tests.fakes.tiny_model import TinyModel


@pytest.fixture(scope="module")
def model(engine: EngineUnderTest) -> TinyModel:
    return TinyModel(engine.base)


def test_a_version_is_loaded_proven_and_reported(fleet: Fleet) -> None:
    wanted = fleet.entry("acme/support@1", seed=1)
    revision = fleet.publish(wanted)

    found = fleet.settled("acme/support@1")

    assert (found.state, found.digest, found.reason) == (VersionState.PROVEN, wanted.digest, None)
    report = fleet.engine.desired.wait_until(lambda report: report.revision >= revision)
    assert report.is_ready
    assert report.url == fleet.engine.url
    assert report.build
    assert report.dtype == "float32"
    assert report.base_revision == read_base_model(fleet.engine.base).revision
    assert (report.stopping, report.waits_for_gate) == (False, False)


def test_pinned_and_alias_names_are_answered_and_the_answer_names_the_version(
    fleet: Fleet,
) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1), aliases={"acme/support": 1})
    fleet.settled("acme/support@1")

    answers = [
        fleet.answer(fleet.acme, model)
        for model in ("support", "acme/support", "support@1", "acme/support@1")
    ]

    assert {model for model, _ in answers} == {"acme/support@1"}
    assert len({tuple(tokens) for _, tokens in answers}) == 1


def test_answers_are_the_adapters_own_to_the_last_token(fleet: Fleet, model: TinyModel) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1))
    fleet.settled("acme/support@1")
    model.load(fleet.adapter(1), "one")

    choice = fleet.ask(fleet.acme, "support@1", max_tokens=8).json()["choices"][0]
    base = fleet.ask(fleet.acme, "base", max_tokens=8).json()["choices"][0]

    expected = model.generate(PROMPT, max_tokens=8, key="one")
    assert choice["token_ids"] == expected.token_ids
    assert choice["logprobs"]["token_logprobs"] == pytest.approx(expected.logprobs, abs=1e-3)
    assert base["token_ids"] == model.generate(PROMPT, max_tokens=8, key=None).token_ids
    assert choice["token_ids"] != base["token_ids"]


def test_one_alias_name_means_another_adapter_for_each_tenant(fleet: Fleet) -> None:
    fleet.publish(
        fleet.entry("acme/support@1", seed=1),
        fleet.entry("globex/support@1", seed=2),
        aliases={"acme/support": 1, "globex/support": 1},
    )
    fleet.settled("acme/support@1")
    fleet.settled("globex/support@1")

    ours, theirs = fleet.answer(fleet.acme, "support"), fleet.answer(fleet.globex, "support")

    assert (ours[0], theirs[0]) == ("acme/support@1", "globex/support@1")
    assert ours[1] != theirs[1]


def test_a_foreign_adapter_and_an_unknown_one_look_the_same(fleet: Fleet) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1), aliases={"acme/support": 1})
    fleet.settled("acme/support@1")

    foreign = fleet.ask(fleet.globex, "acme/support@1")
    unknown = fleet.ask(fleet.globex, "acme/nothing@1")
    own_unknown = fleet.ask(fleet.globex, "support")

    assert foreign.status_code == unknown.status_code == own_unknown.status_code == 404
    assert foreign.text.replace("support", "nothing") == unknown.text
    assert foreign.json()["error"]["code"] == 404


def test_a_candidate_is_reached_by_the_gates_key_alone(fleet: Fleet) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1, role=Role.CANDIDATE))
    assert fleet.settled("acme/support@1").state is VersionState.PROVEN

    assert fleet.ask(fleet.acme, "acme/support@1").status_code == 404
    assert fleet.answer(GATE, "acme/support@1")[0] == "acme/support@1"


def test_the_gates_key_reaches_every_tenants_versions_and_the_base(fleet: Fleet) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1), fleet.entry("globex/sql@2", seed=2))
    fleet.settled("acme/support@1")
    fleet.settled("globex/sql@2")

    for name in ("acme/support@1", "globex/sql@2", "base"):
        assert fleet.answer(GATE, name)[0] == name


def test_the_base_model_needs_its_own_scope(fleet: Fleet) -> None:
    fleet.caught_up(fleet.publish())

    assert fleet.ask(fleet.acme, "base").status_code == 200
    assert fleet.ask(fleet.globex, "base").status_code == 404


def test_a_key_that_nobody_holds_is_turned_away(fleet: Fleet) -> None:
    fleet.caught_up(fleet.publish())

    assert fleet.ask("lp_nobody", "base").status_code == 401


def test_a_bad_adapter_is_reported_failed_and_harms_nobody_else(fleet: Fleet) -> None:
    edit_tensors(fleet.adapter(9), drop="layers.1.self_attn.q_proj.lora_B")
    good, bad = fleet.entry("acme/support@1", seed=1), fleet.entry("globex/bad@1", seed=9)
    fleet.publish(good, bad, aliases={"acme/support": 1})

    found = fleet.settled("globex/bad@1")

    assert found.state is VersionState.FAILED
    assert found.reason
    assert fleet.settled("acme/support@1").state is VersionState.PROVEN
    assert fleet.answer(fleet.acme, "support")[0] == "acme/support@1"
    assert fleet.ask(fleet.globex, "bad@1").status_code in {404, 503}


def test_a_probe_that_gives_other_tokens_fails_the_version(fleet: Fleet, model: TinyModel) -> None:
    model.load(fleet.adapter(1), "one")
    answer = model.generate(PROMPT, max_tokens=6, key="one")

    def probe(tokens: list[int]) -> Probe:
        case = ProbeCase(PROMPT, tokens, answer.logprobs)
        return Probe([case], max_mean_delta_nats=0.05, tie_margin_nats=0.001)

    wrong = [(token + 1) % 1000 for token in answer.token_ids]
    fleet.publish(
        fleet.entry("acme/good@1", seed=1, probe=probe(answer.token_ids)),
        fleet.entry("acme/wrong@1", seed=1, probe=probe(wrong)),
    )

    assert fleet.settled("acme/good@1").state is VersionState.PROVEN
    assert fleet.settled("acme/wrong@1").state is VersionState.FAILED


def test_a_higher_attempt_makes_the_engine_try_again(fleet: Fleet) -> None:
    edit_tensors(fleet.adapter(9), drop="layers.1.self_attn.q_proj.lora_B")
    bad = fleet.entry("globex/bad@1", seed=9)
    fleet.publish(bad)
    assert fleet.settled("globex/bad@1").attempt == 0

    fleet.publish(fleet.entry("globex/bad@1", seed=9, attempt=1))

    found = fleet.settled("globex/bad@1", attempt=1)
    assert (found.state, found.attempt) == (VersionState.FAILED, 1)


def test_an_alias_moves_with_the_snapshot_and_the_old_version_stays_pinned(fleet: Fleet) -> None:
    first, second = fleet.entry("acme/support@1", seed=1), fleet.entry("acme/support@2", seed=2)
    fleet.publish(first, second, aliases={"acme/support": 1})
    fleet.settled("acme/support@2")
    before = fleet.answer(fleet.acme, "support")

    fleet.caught_up(fleet.publish(first, second, aliases={"acme/support": 2}))

    after = fleet.answer(fleet.acme, "support")
    assert (before[0], after[0]) == ("acme/support@1", "acme/support@2")
    assert before[1] != after[1]
    assert fleet.answer(fleet.acme, "support@1") == before


def test_a_controller_that_is_away_for_a_while_is_followed_afterwards(fleet: Fleet) -> None:
    desired = fleet.engine.desired
    desired.refuse_reports(2)
    desired.wait_refused()

    fleet.publish(fleet.entry("acme/support@1", seed=1), aliases={"acme/support": 1})

    assert fleet.settled("acme/support@1").state == VersionState.PROVEN


def test_a_version_that_left_the_snapshot_is_no_longer_reported_or_answered(fleet: Fleet) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1), aliases={"acme/support": 1})
    fleet.settled("acme/support@1")

    revision = fleet.publish()

    fleet.engine.desired.wait_until(
        lambda report: report.revision >= revision and not report.versions
    )
    assert fleet.ask(fleet.acme, "support").status_code == 404
    assert fleet.ask(fleet.acme, "support@1").status_code == 404


@pytest.mark.engine
def test_a_real_engine_can_be_the_standalone_deployment(
    real_engine: EngineUnderTest, tmp_path: Path
) -> None:
    """What the runner `openai` relies on, on the pinned vLLM: see adapters/parity/runners."""
    fleet, model = Fleet(real_engine, tmp_path), TinyModel(real_engine.base)
    grant = KeyGrant(
        key_id="acme",
        key_hash=hash_key(fleet.acme, cluster_secret=SECRET),
        tenant="acme",
        scopes=["inference"],
    )
    real_engine.desired.publish(keys=[grant], tenants=[TenantEntry(tenant="acme")])
    fleet.publish(fleet.entry("acme/support@1", seed=1))
    fleet.settled("acme/support@1")
    model.load(fleet.adapter(1), "one")
    own = model.generate(PROMPT, max_tokens=6, key="one").token_ids
    item = VerifyItem("c", tuple(PROMPT), (*own[:3], (own[3] + 1) % 1000))
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    chat = SuitePrompt("b", 5, messages=[{"role": "user", "content": "hi"}], tools=[tool])

    async def asked() -> tuple[list[VerifyRow], list[StandaloneAnswer], RunnerFacts]:
        runner = OpenAiRunner(url=real_engine.url, model="acme/support@1", key=fleet.acme)
        async with runner.open() as session:
            rows = await session.verify([item] * 3)
            prompts = [SuitePrompt("a", 5, prompt="hello"), chat]
            return rows, await session.answers(prompts), session.facts

    rows, answers, facts = asyncio.run(asked())

    expected = model.read([*PROMPT, *item.token_ids], key="one")[len(PROMPT) - 1 : -1]
    for row in rows:
        assert row.argmax_ids == tuple(own[:4])
        wanted = [float(expected[i, token]) for i, token in enumerate(item.token_ids)]
        assert row.token_logprobs == pytest.approx(wanted, abs=1e-3)
        assert row.argmax_logprobs == pytest.approx(expected.max(dim=-1).values.tolist(), abs=1e-3)
    assert facts.can_verify_tokens
    assert facts.versions == {"deployment_model": "acme/support@1"}
    assert [note.code for note in facts.notes] == ["tool_calls_as_text"]
    assert [(item.is_cut, len(item.token_ids or ())) for item in answers] == [(True, 5)] * 2


def test_an_engine_that_serves_is_not_shut_out_by_a_registry_that_forgot_its_kind(
    fleet: Fleet,
) -> None:
    fleet.publish(fleet.entry("acme/support@1", seed=1), aliases={"acme/support": 1})
    fleet.settled("acme/support@1")
    try:
        revision = fleet.engine.desired.publish(cleared=[])

        report = fleet.engine.desired.wait_until(lambda report: report.revision >= revision)

        assert (report.is_ready, report.waits_for_gate) == (True, False)
        assert fleet.answer(fleet.acme, "support")[0] == "acme/support@1"
    finally:
        fleet.engine.desired.publish(cleared=None)
