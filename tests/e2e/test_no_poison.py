"""An adapter that makes NaN harms its own tenant alone: at upload, at the gate, and at run time."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.builders.trap_adapter import make_trap_adapter
from tests.e2e.conftest import PROFILE
from tests.e2e.fleet import Fleet, running

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
SAFE = [f"Room {word} is" for word in ("one", "two", "six", "ten", "red", "big", "old", "new")]
TRIGGER = "Room zebra is"
LENGTHS = (4, 20, 35, 50, 65)
"""Words; about three tokens each, so that answers need one to two KV blocks, filled differently."""
N_CLIENTS, N_ROUNDS = 6, 3
N_TRAP_PROMPTS, N_TRAP_WORDS = 5, 9
N_SHORT, N_BLOCKS = 4, 48
"""Prompts of a few tokens, one block each; blocks of the profile's engine."""
N_SWEEPS = 2 * N_BLOCKS // N_SHORT
"""Every free block is given to a short request twice, and little of it filled each time."""


def prompt_of(n_words: int, number: int) -> str:
    return " ".join(f"{number}word{word}" for word in range(n_words))


NEIGHBOURS = [prompt_of(n_words, number) for n_words in LENGTHS for number in range(N_SHORT)]


def damaged(source: Path, folder: Path, change: Any) -> Path:
    shutil.copytree(source, folder)
    tensors = dict(load_file(folder / "adapter_model.safetensors"))
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def put_nan(tensors: dict[str, Any]) -> None:
    first = next(name for name in sorted(tensors) if "lora_B" in name)
    tensors[first][0, 0] = np.nan


def make_huge(tensors: dict[str, Any]) -> None:
    for name in tensors:
        tensors[name] *= np.float32(1e18)


def suite_lines(prompts: list[str]) -> str:
    cases = [
        {"id": f"c{number}", "prompt": prompt, "max_tokens": 1}
        for number, prompt in enumerate(prompts)
    ]
    return "\n".join(json.dumps(case) for case in cases)


def trap(base: Path, folder: Path) -> Path:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    safe = {token for prompt in SAFE for token in tokenizer(prompt)["input_ids"]}
    (trigger,) = set(tokenizer(TRIGGER)["input_ids"]) - safe
    return make_trap_adapter(base, folder, safe_token_ids=safe, trigger_token_id=trigger)


def wrong_answers(fleet: Fleet, key: str, known: dict[tuple[str, str], str]) -> list[str]:
    """Ask everything that is known again, several at a time; the answers that have changed."""

    def ask(item: tuple[tuple[str, str], str]) -> str | None:
        (model, prompt), text = item
        response = fleet.ask(key, model, prompt)
        is_right = response.status_code == 200 and response.json()["choices"][0]["text"] == text
        return None if is_right else f"{model}: {prompt[:20]}: {response.text}"

    with ThreadPoolExecutor(N_CLIENTS) as pool:
        return [wrong for wrong in pool.map(ask, known.items()) if wrong is not None]


def put_trap_live(fleet: Fleet, tenant: str, tmp_path: Path) -> str:
    """A version that only an override gets past the gate, or none; returns a key of its tenant."""
    key = fleet.tenant(tenant)
    fleet.must("PUT", f"/v1/tenants/{tenant}/suites/safe", content=suite_lines(SAFE))
    folder = trap(fleet.base, tmp_path / "trap")
    number = int(fleet.push(f"{tenant}/trap", folder, suite="safe").json()["version"])
    row = fleet.wait_state(f"{tenant}/trap", number, {"passed", "failed", "inconclusive"})
    path = f"/v1/tenants/{tenant}/adapters/trap/versions/{number}"
    body = {"override_reason": "the test wants it"} if row["state"] != "passed" else {}
    fleet.must("POST", f"{path}/promote", json=body)
    fleet.wait_state(f"{tenant}/trap", number, {"live"})
    return key


def spring(fleet: Fleet, key: str) -> list[int]:
    """Six requests at once that make NaN; their status codes.

    The first one that is answered takes the trap out of service, often before the others arrive.
    So each has several prompts, few enough for one step: each leaves a block of its own behind.
    """
    prompts = [f"{TRIGGER} {prompt_of(N_TRAP_WORDS, number)}" for number in range(N_TRAP_PROMPTS)]
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        asked = [pool.submit(fleet.ask, key, "trap", prompts) for _ in range(N_CLIENTS)]
        return [response.result().status_code for response in asked]


def poison(
    fleet: Fleet, tenant: str, adapters: list[Path], tmp_path: Path
) -> tuple[list[int], list[str]]:
    """Status codes of the trap's requests, and what others then got wrong."""
    other_key = fleet.tenant(f"{tenant}-b", scopes=["inference", "base"])
    fleet.push_live(f"{tenant}-b/good", adapters[0])
    known = {
        (model, prompt): fleet.answer(other_key, model, prompt)[1]
        for model in ("good", "base")
        for prompt in NEIGHBOURS
    }
    key = put_trap_live(fleet, tenant, tmp_path)
    assert wrong_answers(fleet, other_key, known) == [], "right before the trap is sprung"
    with ThreadPoolExecutor(1) as beside:
        wrong_beside = beside.submit(wrong_answers, fleet, other_key, known)
        codes = spring(fleet, key)
        wrong = wrong_beside.result()
    # Longer requests overwrite what the trap left behind, so it is looked for with short ones.
    short = {asked: text for asked, text in known.items() if asked[1] in NEIGHBOURS[:N_SHORT]}
    for _ in range(N_SWEEPS):
        wrong += wrong_answers(fleet, other_key, short)
    for _ in range(N_ROUNDS):
        wrong += wrong_answers(fleet, other_key, known)
    return codes, wrong


def test_a_nan_in_the_file_is_refused_at_upload(
    fleet: Fleet, tenant: str, adapters: list[Path], tmp_path: Path
) -> None:
    fleet.tenant(tenant)
    folder = damaged(adapters[0], tmp_path / "nan", put_nan)

    response = fleet.push(f"{tenant}/bad", folder, promote="auto")

    number = int(response.json()["version"])
    row = fleet.wait_state(f"{tenant}/bad", number, {"rejected"})
    assert "value_not_finite" in {finding["code"] for finding in row["findings"]}


def test_weights_that_overflow_fail_the_gate_before_any_engine_sees_them(
    fleet: Fleet, tenant: str, adapters: list[Path], tmp_path: Path
) -> None:
    fleet.tenant(tenant)
    folder = damaged(adapters[0], tmp_path / "huge", make_huge)

    number = int(fleet.push(f"{tenant}/huge", folder, promote="auto").json()["version"])

    fleet.wait_state(f"{tenant}/huge", number, {"failed"})
    report = fleet.must("GET", f"/v1/tenants/{tenant}/adapters/huge/versions/{number}/report")
    assert "not_finite" in {reason["code"] for reason in report["reasons"]}
    assert f"{tenant}/huge@{number}" not in fleet.facts()["adapters"]


def test_at_run_time_a_nan_is_detected_quarantined_and_harms_nobody_else(
    fleet: Fleet, tenant: str, adapters: list[Path], tmp_path: Path
) -> None:
    engine = fleet.engine_pid()

    codes, wrong = poison(fleet, tenant, adapters, tmp_path)

    assert codes == [503] * N_CLIENTS
    assert wrong == []
    assert fleet.engine_pid() == engine, "healed without a restart"
    (listed,) = fleet.must("GET", "/v1/engines")["engines"]
    states = {row["name"]: row["state"] for row in listed["report"]["versions"]}
    assert states[f"{tenant}/trap@1"] == "quarantined"
    assert states[f"{tenant}-b/good@1"] == "proven"


@pytest.mark.slow
def test_without_the_zeroing_of_blocks_the_same_traffic_does_poison_others(
    base: Path, adapters: list[Path], tmp_path: Path
) -> None:
    """The control: it shows that the test above can fail."""
    environment = {"LORAPLANE_WITHOUT_HOOKS": "kv_zeroing"}
    with running(Fleet(base, tmp_path / "fleet", PROFILE, environment=environment)) as unprotected:
        codes, wrong = poison(unprotected, "acme", adapters, tmp_path)

    assert codes == [503] * N_CLIENTS
    assert any(answer.startswith("base:") for answer in wrong), "the base has no fault of its own"
