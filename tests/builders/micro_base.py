"""A base of some thousand weights with its own tokenizer and chat template, and adapters for it.

Everything about it is real (transformers, PEFT, training); only its size is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'developer' %}{{ raise_exception('no developer here') }}{% endif %}"
    "<s>{{ message['role'] }} {{ message['content'] }}</s>{% endfor %}"
    "{% if tools %}<s>tools {{ tools | tojson }}</s>{% endif %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}"
)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PROMPTS = ["hello there", "call the tool", "a third one"]
_TEXT = ["user assistant system tools hello there call the tool with a city and a date"] * 4


def micro_base(folder: Path, *, seed: int = 3, n_layers: int = 3) -> Path:
    """A random Llama in float32 whose greedy answers are clear."""
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.4,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(_TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def live_adapter(
    base: Path, *, seed: int = 1, dtype: torch.dtype = torch.float32, **config: Any
) -> Any:
    """A PEFT model after a short training run on random tokens; B is no longer zero."""
    model = LlamaForCausalLM.from_pretrained(base, dtype=dtype)
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    peft_model = get_peft_model(model, LoraConfig(**{**settings, **config}))
    weights = [item for item in peft_model.parameters() if item.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.02)
    ids = torch.randint(5, 300, (4, 24), generator=torch.Generator().manual_seed(seed))
    for _ in range(6):
        peft_model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return peft_model


def rewrite_tensors(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> Path:
    """Replace the adapter file's tensors by what `change` makes of them."""
    file = folder / "adapter_model.safetensors"
    changed = change(load_file(file))
    save_file({name: item.contiguous() for name, item in changed.items()}, file)
    return folder


def rewrite_config(folder: Path, **changes: Any) -> Path:
    """Change fields of adapter_config.json."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder
