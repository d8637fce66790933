"""Recording a training fingerprint: the end of training says what it made. For training code.

    from adapters.parity import record_fingerprint
    record_fingerprint(peft_model, tokenizer, prompts, output_dir)

Needs torch, PEFT and transformers. `fingerprint_file` has the form, `export_evidence` the use.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import peft
import torch
import transformers
from peft import get_peft_model_state_dict

from adapters.errors import FingerprintInvalid
from adapters.parity.fingerprint_file import (
    FILE_NAME,
    BasePrint,
    Fingerprint,
    ModulePrint,
    RecordedTokens,
    TensorPrint,
    parse_tensor_name,
)
from adapters.parity.reference_batches import Row
from adapters.parity.reference_forward import greedy, score_rows, stop_ids_of
from adapters.parity.reference_load import live_scalings
from adapters.parity.reference_revision import base_revision, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

Prompt = str | Sequence[Mapping[str, Any]]
"""A user's message (or plain text, where the tokenizer has no chat template), or a conversation."""

_MAX_PROMPTS = 16


def record_fingerprint(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    output_dir: str | os.PathLike[str],
    *,
    adapter_name: str = "default",
    max_new_tokens: int = 24,
) -> Path:
    """Write `loraplane_fingerprint.json` for a live PEFT model; returns its path.

    Call it at the end of training, on the model that `save_pretrained` writes: hashes are over the
    bytes that it writes, in the dtype that it writes, so converting the file later breaks them. The
    model's mode and weights are left as they were. At most 16 prompts are answered, greedily.

    Raises:
        FingerprintInvalid: not an unmerged PEFT LoRA model with `adapter_name` active.
    """
    bare = _unwrap(model, adapter_name)
    fingerprint = Fingerprint(
        base=_base_print(bare),
        modules=_module_prints(bare, adapter_name),
        answers=_answers(bare, tokenizer, prompts[:_MAX_PROMPTS], max_new_tokens=max_new_tokens),
        use_rslora=bool(bare.peft_config[adapter_name].use_rslora),
        versions={
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    )
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    # Renamed into place: a training run that is killed leaves no half file beside its weights.
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(fingerprint), indent=1) + b"\n")
    partial.replace(path)
    return path


class FingerprintCallback(transformers.TrainerCallback):  # type: ignore[misc]  # untyped base
    """Records a fingerprint beside every checkpoint and at the end of training.

    Each lies beside the adapter that it is of: in `checkpoint-N/` for a checkpoint, in `output_dir`
    for the model that training ends with, which is the best one under `load_best_model_at_end`.
    Only the process that saves writes.

    Args:
        tokenizer: the one that formats the prompts.
        prompts: see `record_fingerprint`; three or four are enough.
        max_new_tokens: length of the recorded answers.
        adapter_name: the adapter that is trained. PEFT saves one that is not called `default` in a
            folder of its name, and the fingerprint goes there too.

    What cannot be recorded stops training before its first step (`FingerprintInvalid`): a model
    without a LoRA adapter, or one that is sharded over processes (FSDP, DeepSpeed ZeRO-3); gather
    such a model at the end and call `record_fingerprint` yourself.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int = 24,
        adapter_name: str = "default",
    ) -> None:
        self._tokenizer, self._prompts = tokenizer, list(prompts)
        self._max_new_tokens, self._adapter_name = max_new_tokens, adapter_name

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find out now, and not after hours, whether this model can be recorded."""
        _unwrap(kwargs.get("model"), self._adapter_name)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record beside the checkpoint that was just written."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        # A hyperparameter search saves in folders of its own: its trials are no candidates.
        if folder.is_dir():
            self._record(args, kwargs.get("model"), folder)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record in the output folder, where `save_model` writes the final adapter."""
        self._record(args, kwargs.get("model"), Path(args.output_dir))

    def _record(self, args: Any, model: Any, folder: Path) -> None:
        if not args.should_save:
            return
        record_fingerprint(
            model,
            self._tokenizer,
            self._prompts,
            folder if self._adapter_name == "default" else folder / self._adapter_name,
            adapter_name=self._adapter_name,
            max_new_tokens=self._max_new_tokens,
        )


def _unwrap(model: Any, adapter_name: str) -> Any:
    bare = model
    while not isinstance(bare, peft.PeftModel):
        # DistributedDataParallel and the like, and torch.compile.
        inner = getattr(bare, "module", None) or getattr(bare, "_orig_mod", None)
        if inner is None:
            problem = f"{type(bare).__name__} is no PEFT model"
            raise FingerprintInvalid(field="model", problem=problem)
        bare = inner
    if adapter_name not in bare.active_adapters:
        problem = f"{adapter_name!r} is not active; active are {bare.active_adapters}"
        raise FingerprintInvalid(field="adapter_name", problem=problem)
    if any(getattr(module, "merged", False) for module in bare.modules()):
        raise FingerprintInvalid(field="model", problem="the adapter is merged into the base")
    if any(_is_sharded(weight) for weight in bare.parameters()):
        problem = "sharded over processes; gather the whole model first"
        raise FingerprintInvalid(field="model", problem=problem)
    return bare


def _is_sharded(weight: Any) -> bool:
    # A DTensor of FSDP, or a parameter that DeepSpeed ZeRO-3 has taken apart.
    return hasattr(weight, "_local_tensor") or hasattr(weight, "ds_id")


def _base_print(model: Any) -> BasePrint:
    config = model.get_base_model().config
    quantization = getattr(config, "quantization_config", None)
    method = getattr(quantization, "quant_method", None) if quantization is not None else None
    revision = base_revision(model)
    if revision is None and method is None:
        method = "unknown"
    return BasePrint(
        # A hub id as it is; of a local path only the last part, which says nothing of the machine.
        name=_label(getattr(config, "_name_or_path", None)),
        revision=revision,
        dtype=str(model.get_base_model().dtype).removeprefix("torch."),
        quantization=None if method is None else str(getattr(method, "value", method)),
    )


def _label(name_or_path: str | None) -> str | None:
    if name_or_path and Path(name_or_path).is_dir():
        return Path(name_or_path).resolve().name
    return name_or_path or None


def _module_prints(model: Any, adapter_name: str) -> dict[str, ModulePrint]:
    state = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    sides: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        place = parse_tensor_name(name)
        if place is not None:
            sides.setdefault(place.module, {})[place.side] = tensor
    scalings = live_scalings(model, adapter_name)
    prints = {
        module: ModulePrint(
            scaling=scalings[module],
            a=_tensor_print(pair["A"]),
            b=_tensor_print(pair["B"], is_negated_too=True),
        )
        for module, pair in sides.items()
        if module in scalings and len(pair) == 2
    }
    if not prints:
        raise FingerprintInvalid(field="model", problem="no LoRA module")
    return prints


def _tensor_print(tensor: torch.Tensor, *, is_negated_too: bool = False) -> TensorPrint:
    return TensorPrint(
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        sha256=_sha256(tensor),
        negated_sha256=_sha256(-tensor) if is_negated_too else None,
    )


def _sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor_bytes(tensor)).hexdigest()


def _answers(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], *, max_new_tokens: int
) -> list[RecordedTokens]:
    answers = []
    # Mixed precision wraps the outermost forward function in autocast; the adapted base below it
    # computes in the weights' own number type, which is the one that is recorded.
    adapted = model.get_base_model()
    device = adapted.device.type
    with _evaluating(model), torch.autocast(device, enabled=False):
        stops = stop_ids_of(adapted)
        for prompt in prompts:
            ids = _prompt_ids(tokenizer, prompt)
            tokens, logprobs = greedy(adapted, ids, max_new_tokens, stop_ids=stops)
            answers.append(RecordedTokens(tuple(ids), tuple(tokens), tuple(logprobs)))
        with _without_adapter(model):
            bare = score_rows(adapted, [_row(answer) for answer in answers])
    return [
        msgspec.structs.replace(answer, base_logprobs=scored.token_logprobs)
        for answer, scored in zip(answers, bare, strict=True)
    ]


def _row(answer: RecordedTokens) -> Row:
    prompt, tokens = answer.prompt_token_ids, answer.token_ids
    return Row((*prompt, *tokens), len(prompt) - 1, tokens)


@contextmanager
def _without_adapter(model: Any) -> Iterator[None]:
    """The base alone. PEFT takes the adapter's gradients away and gives them to all of it again."""
    learns = {weight: weight.requires_grad for weight in model.parameters()}
    try:
        with model.disable_adapter():
            yield
    finally:
        for weight, flag in learns.items():
            weight.requires_grad_(flag)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode, module by module: parts may have been frozen in their own mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str) and not getattr(tokenizer, "chat_template", None):
        return list(tokenizer(prompt).input_ids)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False).input_ids)
