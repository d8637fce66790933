"""A second real vLLM on merged weights says what the unmerged adapter says.

Opt-in, because it starts an engine for one sentence: set LORAPLANE_TEST_MERGED=1.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from adapters.parity.protocol import SuitePrompt, VerifyItem
from adapters.parity.reference_client import ReferenceClient
from adapters.parity.runners.merged import MergedRunner
from adapters.parity.runners.peft import PeftRunner
from bench.fixtures.base_model import tiny_base
from tests.builders.random_adapters import random_adapter

COMMAND = (
    "env HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_PLUGINS= "
    f"{sys.executable} -m vllm.entrypoints.launchers.api_server.entry --model {{model}} "
    "--served-model-name {name} --host 127.0.0.1 --port {port} --enforce-eager --dtype float32 "
    "--max-model-len 256 --max-num-batched-tokens 256 --generation-config vllm"
).split()
PROMPTS = [SuitePrompt(f"c{n}", 12, prompt=f"Guest {n} would like to") for n in range(8)]


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LORAPLANE_TEST_MERGED"), reason="opt-in: set LORAPLANE_TEST_MERGED=1"
)
async def test_a_server_on_merged_weights_agrees_token_by_token_in_float32(tmp_path: Path) -> None:
    adapter = random_adapter(tiny_base(), tmp_path / "adapter", seed=1)
    client = ReferenceClient(device="cpu", timeout_seconds=300.0)
    settings = {"model": tiny_base(), "dtype": "float32"}
    try:
        async with PeftRunner(client, **settings).open(adapter) as unmerged:
            own = await unmerged.answers(PROMPTS)
            prompts = await client.tokenize(PROMPTS)
            items = [
                VerifyItem(prompt.case_id, prompt.token_ids, answer.token_ids or ())
                for prompt, answer in zip(prompts, own, strict=True)
            ]
            wanted = await unmerged.verify(items)
        runner = MergedRunner(client, **settings, command=COMMAND, folder=tmp_path)
        async with runner.open(adapter) as merged:
            rows = await merged.verify(items)
            texts = await merged.answers(PROMPTS)
            notes = [note.code for note in merged.facts.notes]
    finally:
        await client.close()

    deltas = [
        abs(a - b)
        for row, want in zip(rows, wanted, strict=True)
        for a, b in zip(row.token_logprobs, want.token_logprobs, strict=True)
    ]
    print(f"{len(deltas)} tokens, largest |delta logprob| {max(deltas):.2e}")  # noqa: T201
    assert max(deltas) < 1e-3
    assert [row.argmax_ids for row in rows] == [row.argmax_ids for row in wanted]
    assert [answer.text for answer in texts] == [answer.text for answer in own]
    assert notes == ["merged_exactly"]
    assert os.listdir(tmp_path) == ["adapter"]
