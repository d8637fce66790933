"""LoRA matrix products for vLLM's CPU backend: right for base rows, and grouped by adapter.

vLLM 0.32's CPU ops index the slots with -1 for base-model rows, which in Python is the last slot:
in a mixed batch the base model answers with that adapter (lora/ops/torch_ops/lora_ops.py). They
also copy the adapter's weights once per token. Here a step's rows are grouped by slot once
(`grouping.plan_groups`, pure), and every layer of that step reuses the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from serving.engine.compat.grouping import plan_groups


def _index(rows: Sequence[int]) -> slice | torch.Tensor:
    if rows[-1] - rows[0] + 1 == len(rows):
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, dtype=torch.long)


class GroupedPunicaWrapper(PunicaWrapperCPU):  # type: ignore[misc]  # vllm is untyped here
    """vLLM's CPU wrapper with the linear product replaced; the plan is made once a step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._singles: list[tuple[int, slice | torch.Tensor]] = []
        self._cells: torch.Tensor | None = None
        self._rows: torch.Tensor | None = None
        self._width = 0
        self._n_slots = 0

    def update_metadata(
        self,
        mapping: Any,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **kwargs: Any,
    ) -> None:
        """Take a step's row-to-adapter mapping; `max_loras` is slots + 1 (vLLM's call)."""
        super().update_metadata(mapping, lora_index_to_id, max_loras, vocab_size, **kwargs)
        slot_of = {lora: slot for slot, lora in enumerate(lora_index_to_id) if lora is not None}
        slots = [slot_of[lora] if lora > 0 else -1 for lora in mapping.index_mapping]
        plan = plan_groups(slots, n_slots=len(lora_index_to_id))
        self._singles = [(slot, _index(rows)) for slot, rows in plan.singles]
        self._width, self._n_slots = plan.batched_width, len(lora_index_to_id)
        self._rows = torch.tensor(plan.batched_rows) if plan.batched_rows else None
        self._cells = torch.tensor(plan.batched_cells) if plan.batched_rows else None

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """`y[row, slice] += scale * (x[row] @ A[slot].T) @ B[slot].T` for adapter rows only.

        Shapes: x (rows, in); y (rows, sum of slices); A (slots, 1, rank, in);
        B (slots, 1, out, rank).
        """
        if self.no_lora:
            return
        y = y.view(-1, y.shape[-1])
        x = x.view(-1, x.shape[-1])
        offset = 0
        packed = self._pack(x) if self._rows is not None else None
        for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            target = y[:, offset : offset + size]
            offset += size
            for slot, rows in self._singles:
                hidden = torch.mm(x[rows].to(a.dtype), a[slot, 0].t())
                delta = torch.mm(hidden, b[slot, 0].t())
                _add_rows(target, rows, delta, scale)
            if packed is not None:
                hidden = torch.bmm(packed.to(a.dtype), a[:, 0].transpose(1, 2))
                delta = torch.bmm(hidden, b[:, 0].transpose(1, 2)).flatten(0, 1)[self._cells]
                _add_rows(target, self._rows, delta, scale)

    def _pack(self, x: torch.Tensor) -> torch.Tensor:
        packed = x.new_zeros(self._n_slots * self._width, x.shape[-1])
        packed[self._cells] = x[self._rows]
        return packed.view(self._n_slots, self._width, x.shape[-1])


def _add_rows(
    target: torch.Tensor, rows: slice | torch.Tensor | None, delta: torch.Tensor, scale: float
) -> None:
    if scale != 1.0:
        delta = delta * scale
    delta = delta.to(target.dtype)
    if isinstance(rows, slice):
        target[rows] += delta
    else:
        target.index_add_(0, rows, delta)


def _masked_shrink(upstream: Any) -> Any:
    def shrink(
        inputs: torch.Tensor,
        weights: torch.Tensor,
        output: torch.Tensor,
        indices: torch.Tensor,
        scaling: float = 1.0,
    ) -> None:
        rows = torch.nonzero(indices[: inputs.shape[0]] >= 0).squeeze(1)
        output.zero_()
        if rows.numel():
            part = output[rows]
            upstream(inputs[rows], weights, part, indices[rows], scaling)
            output[rows] = part

    return shrink


def _masked_expand(upstream: Any) -> Any:
    def expand(
        inputs: torch.Tensor,
        weights: torch.Tensor,
        output: torch.Tensor,
        indices: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        rows = torch.nonzero(indices[: inputs.shape[0]] >= 0).squeeze(1)
        if rows.numel():
            part = output[rows]
            upstream(inputs[rows], weights, part, indices[rows], *args, **kwargs)
            output[rows] = part

    return expand


def mask_upstream_ops() -> None:
    """Keep base rows out of the ops that the grouped product does not replace.

    Those are the embedding, logits and fully sharded paths; the functions are looked up by name in
    two modules, so both get the masked ones.
    """
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for name, mask in (
        ("bgmv_shrink", _masked_shrink),
        ("bgmv_expand", _masked_expand),
        ("bgmv_expand_slice", _masked_expand),
    ):
        masked = mask(getattr(lora_ops, name))
        setattr(lora_ops, name, masked)
        setattr(punica_cpu, name, masked)
