"""Merged weights say in float32 what the unmerged adapter says, and the loaded model stays."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from adapters.errors import ReferenceFailed, StrictLoadFailed
from adapters.parity.protocol import VerifyItem
from adapters.parity.reference import Reference
from tests.builders.micro_base import live_adapter, rewrite_tensors

IDS = torch.tensor([[5, 6, 7, 80, 9, 200, 11]])


def opened(base, dtype="float32"):
    reference = Reference()
    reference.load_base(str(base), dtype)
    return reference


def test_merged_and_unmerged_logits_agree_in_float32(base, trained, tmp_path):
    reference = opened(base)
    before = reference.verify(str(trained), [VerifyItem("c", (5, 6), (7, 8))], True)

    facts = reference.merge(str(trained), str(tmp_path / "merged"))

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    unmerged = reference._load(trained).model
    with torch.inference_mode():
        difference = (merged(IDS).logits - unmerged(IDS).logits).abs().max()
        effect = (merged(IDS).logits - AutoModelForCausalLM.from_pretrained(base)(IDS).logits).abs()
    assert float(difference) <= 1e-4
    assert float(effect.max()) > 0.1
    assert facts.n_modules == 21
    assert facts.is_exact
    assert facts.lost_fraction < 1e-5
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").decode([5]) is not None
    assert reference.verify(str(trained), [VerifyItem("c", (5, 6), (7, 8))], True) == before


def test_merged_in_bfloat16_the_loss_is_measured(base, trained, tmp_path):
    facts = opened(base, "bfloat16").merge(str(trained), str(tmp_path / "merged"))

    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {item.dtype for item in weights.values()} == {torch.bfloat16}
    assert not facts.is_exact
    assert 0.0005 < facts.lost_fraction < 1.0


def test_a_base_with_tied_embeddings_stays_tied(base, tmp_path):
    tied = shutil.copytree(base, tmp_path / "tied")
    config = LlamaConfig.from_pretrained(base, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(tied)
    live_adapter(tied).save_pretrained(tmp_path / "adapter")
    reference = opened(tied)

    reference.merge(str(tmp_path / "adapter"), str(tmp_path / "merged"))

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    unmerged = reference._load(tmp_path / "adapter").model
    with torch.inference_mode():
        assert float((merged(IDS).logits - unmerged(IDS).logits).abs().max()) <= 1e-4
    assert "lm_head.weight" not in load_file(tmp_path / "merged" / "model.safetensors")


def test_an_adapter_that_does_nothing_loses_nothing(base, copy, tmp_path):
    rewrite_tensors(copy, lambda t: {n: v * 0 if "lora_B" in n else v for n, v in t.items()})

    assert opened(base).merge(str(copy), str(tmp_path / "m")).lost_fraction is None


def test_a_folder_that_cannot_be_written_is_told(base, trained, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ReferenceFailed, match="cannot be saved"):
        opened(base).merge(str(trained), str(tmp_path / "file" / "inside"))


def test_an_adapter_that_does_not_load_strictly_is_not_merged(base, copy, tmp_path):
    rewrite_tensors(copy, lambda t: {n: v for n, v in t.items() if "layers.2" not in n})

    with pytest.raises(StrictLoadFailed):
        opened(base).merge(str(copy), str(tmp_path / "m"))
