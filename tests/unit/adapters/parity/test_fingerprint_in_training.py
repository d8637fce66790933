"""The documented ways to record, run as documented: plain PEFT loop, Trainer, SFTTrainer."""

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.errors import FingerprintInvalid
from adapters.parity import FingerprintCallback, record_fingerprint
from adapters.parity.export_check import check_export
from adapters.parity.export_evidence import ExportStatus
from adapters.parity.fingerprint_file import FILE_NAME, parse_fingerprint
from adapters.parity.protocol import TokenizedPrompt
from adapters.parity.reference import Reference
from bench.fixtures.base_model import tiny_base
from tests.builders.micro_base import PROMPTS, live_adapter, rewrite_config

_BLOCKS = re.findall(r"^```python\n(.*?)^```", Path("docs/fingerprint.md").read_text(), re.M | re.S)
SHARED, LOOP, TRAINER, SFT = _BLOCKS


class Standalone:
    """The gate's standalone side, in this process."""

    def __init__(self, base: Path) -> None:
        self.reference = Reference()
        self.facts = self.reference.load_base(str(base), "float32")

    async def verify(self, adapter, items, *, against_base=False):
        return self.reference.verify(str(adapter), items, against_base)

    async def judge(self, folder: Path):
        alone = self.reference.check_finite(str(folder), [TokenizedPrompt("a", (5, 6, 7), 4)])
        fingerprint = parse_fingerprint((folder / FILE_NAME).read_bytes())
        return await check_export(self, folder, fingerprint, alone=alone, base=self.facts)


@pytest.fixture(scope="module")
def standalone():
    return Standalone(tiny_base())


def run(block, folder, monkeypatch):
    """Execute a documented example in `folder`, on the tiny base; its variables."""
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(SHARED, "docs/fingerprint.md", "exec"), names)  # noqa: S102
    names["BASE"] = str(tiny_base())
    exec(compile(block, "docs/fingerprint.md", "exec"), names)  # noqa: S102
    return names


def values_of(folder):
    return parse_fingerprint((folder / FILE_NAME).read_bytes()).modules


@pytest.mark.parametrize(
    ("block", "place", "damage", "code"),
    [
        (LOOP, "out/loop", {"lora_alpha": 32}, "export_alpha_changed"),
        (TRAINER, "out/trainer", {"use_rslora": False}, "export_rslora_lost"),
        (SFT, "out/sft", {"lora_alpha": 8}, "export_alpha_changed"),
    ],
    ids=["loop", "Trainer", "SFTTrainer"],
)
async def test_the_documented_example_vouches_for_what_it_saved(
    block, place, damage, code, standalone, tmp_path, monkeypatch
):
    run(block, tmp_path, monkeypatch)

    folders = [tmp_path / place, *sorted((tmp_path / place).glob("checkpoint-*"))]
    for folder in folders:
        evidence = await standalone.judge(folder)
        assert evidence.status is ExportStatus.MATCHED, evidence.findings
        assert (evidence.n_modules > 0, evidence.n_answers) == (True, 3)
    assert len(folders) == (1 if block is LOOP else 3)

    tampered = shutil.copytree(folders[0], tmp_path / "tampered")
    rewrite_config(tampered, **damage)
    evidence = await standalone.judge(tampered)
    assert evidence.status is ExportStatus.MISMATCHED
    assert [item.code for item in evidence.findings] == [code]


def micro_trainer(base, folder, callback, *, model=None, **arguments):
    from transformers import Trainer, TrainingArguments

    ids = torch.randint(5, 300, (8, 12), generator=torch.Generator().manual_seed(1))
    rows = [{"input_ids": row, "labels": row} for row in ids]
    settings = {
        "max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 2, "report_to": [],
        "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no", "learning_rate": 0.01,
        **arguments,
    }  # fmt: skip
    return Trainer(
        model=model or live_adapter(base),
        args=TrainingArguments(str(folder), **settings),
        train_dataset=rows,
        eval_dataset=rows[:2],
        callbacks=[callback],
    )


async def test_the_final_fingerprint_is_of_the_best_model_when_that_is_the_one_that_is_saved(
    base, tokenizer, tmp_path
):
    trainer = micro_trainer(
        base,
        tmp_path,
        FingerprintCallback(tokenizer, PROMPTS, max_new_tokens=4),
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        greater_is_better=True,  # the loss falls, so "best" is the first checkpoint
    )

    trainer.train()
    trainer.save_model()

    best = Path(trainer.state.best_model_checkpoint)
    assert best.name == "checkpoint-2"
    assert values_of(tmp_path) == values_of(best) != values_of(tmp_path / "checkpoint-4")
    evidence = await Standalone(base).judge(tmp_path)
    assert evidence.status is ExportStatus.MATCHED, evidence.findings


async def test_mixed_precision_and_gradient_checkpointing_leave_answers_that_can_be_given_again(
    base, tokenizer, tmp_path
):
    trainer = micro_trainer(
        base,
        tmp_path,
        FingerprintCallback(tokenizer, PROMPTS),
        bf16=True,
        gradient_checkpointing=True,
        max_steps=2,
    )

    trainer.train()
    trainer.save_model()

    evidence = await Standalone(base).judge(tmp_path)
    assert evidence.status is ExportStatus.MATCHED, evidence.findings
    assert parse_fingerprint((tmp_path / FILE_NAME).read_bytes()).base.dtype == "float32"
    assert trainer.model.training


def test_recording_draws_no_random_numbers(base, tokenizer, tmp_path):
    model = live_adapter(base, lora_dropout=0.5)
    model.train()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()

    record_fingerprint(model, tokenizer, PROMPTS, tmp_path)

    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_training_with_the_callback_ends_with_the_same_weights(base, tokenizer, tmp_path):
    weights = []
    for number, n_prompts in enumerate((0, 2)):
        callback = FingerprintCallback(tokenizer, PROMPTS[:n_prompts], max_new_tokens=4)
        model = live_adapter(base, lora_dropout=0.3)
        trainer = micro_trainer(base, tmp_path / str(number), callback, model=model, seed=5)
        trainer.train()
        weights.append(values_of(tmp_path / str(number)))

    assert weights[0] == weights[1]


def test_an_adapter_of_another_name_has_its_fingerprint_in_its_own_folder(
    base, tokenizer, tmp_path
):
    import peft
    from transformers import LlamaForCausalLM

    config = peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(LlamaForCausalLM.from_pretrained(base), config, "support")
    callback = FingerprintCallback(tokenizer, PROMPTS[:1], adapter_name="support")

    micro_trainer(base, tmp_path, callback, model=model, max_steps=1, save_steps=1).train()

    beside = tmp_path / "checkpoint-1" / "support"
    assert {FILE_NAME, "adapter_config.json"} <= {path.name for path in beside.iterdir()}
    assert not (tmp_path / "checkpoint-1" / FILE_NAME).exists()


def test_a_model_that_cannot_be_recorded_stops_before_the_first_step(base, tokenizer, tmp_path):
    from transformers import LlamaForCausalLM

    plain = LlamaForCausalLM.from_pretrained(base)
    trainer = micro_trainer(
        base, tmp_path, FingerprintCallback(tokenizer, PROMPTS), model=plain, max_steps=1
    )

    with pytest.raises(FingerprintInvalid, match="no PEFT model"):
        trainer.train()

    assert trainer.state.global_step == 0


def test_a_sharded_model_is_refused(base, tokenizer, tmp_path):
    model = live_adapter(base)
    next(model.parameters()).ds_id = 1  # what DeepSpeed ZeRO-3 marks its parameters with

    with pytest.raises(FingerprintInvalid, match="sharded"):
        record_fingerprint(model, tokenizer, PROMPTS, tmp_path)


def test_a_model_in_distributed_data_parallel_or_compiled_is_unwrapped(base, tokenizer, tmp_path):
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(live_adapter(base))
        record_fingerprint(wrapped, tokenizer, PROMPTS[:1], tmp_path / "ddp")
    finally:
        torch.distributed.destroy_process_group()
    record_fingerprint(
        torch.compile(live_adapter(base)), tokenizer, PROMPTS[:1], tmp_path / "compiled"
    )

    assert values_of(tmp_path / "ddp") == values_of(tmp_path / "compiled")
