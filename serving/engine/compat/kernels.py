"""LoRA matrix products for vLLM's CPU backend: right for base rows, and grouped by adapter.

vLLM 0.32's CPU ops index the slots with -1 for base-model rows, which in Python is the last slot:
in a mixed batch the base model answers with that adapter (lora/ops/torch_ops/lora_ops.py). They
also copy the adapter's weights once per token. Here a step's rows are grouped by slot once
(`grouping.plan_groups`, pure), and every layer of that step reuses the plan; the neighbour
`slot_storage` lays a layer's slots out so that few operations serve many of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from serving.engine.compat.grouping import GroupPlan, plan_groups
from serving.engine.compat.slot_storage import SlotStorage, SlotStorages


def _index(rows: Sequence[int]) -> slice | torch.Tensor:
    if rows[-1] - rows[0] + 1 == len(rows):
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, dtype=torch.long)


class GroupedPunicaWrapper(PunicaWrapperCPU):  # type: ignore[misc]  # vllm is untyped here
    """vLLM's CPU wrapper with the linear product replaced; the plan is made once a step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._storages = SlotStorages()
        self._plan = GroupPlan()
        self._singles: list[tuple[int, slice | torch.Tensor]] = []
        self._rows: slice | torch.Tensor = slice(0, 0)
        self._foreign = torch.empty(0)

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
        self._plan = plan = plan_groups(
            [slot_of[lora] if lora > 0 else -1 for lora in mapping.index_mapping]
        )
        self._singles = [(slot, _index(rows)) for slot, rows in plan.singles]
        if plan.shared_rows:
            self._rows = _index(plan.shared_rows)
            run = torch.arange(plan.first_slot, plan.first_slot + plan.n_slots)
            self._foreign = (torch.tensor(plan.shared_slots).unsqueeze(1) != run).unsqueeze(2)

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
        slots = self._storages.of(lora_a_stacked, lora_b_stacked)
        for slot, rows in self._singles:
            hidden = torch.mm(x[rows].to(slots.dtype), slots.down_of(slot, 1).t())
            for target, up, part in slots.parts_of(y, hidden):
                _add_product(target, rows, part, up[slot], scale)
        if self._plan.shared_rows:
            self._add_shared(y, x, slots, scale)

    def _add_shared(
        self, y: torch.Tensor, x: torch.Tensor, slots: SlotStorage, scale: float
    ) -> None:
        """The rows of a run of slots: one product with A of all, and one per part with B of all.

        What a foreign slot's A made of a row is replaced by zeros between the two, whatever it is.
        B is finite in every slot (`strict.check_loaded_adapter`), so zero times it is zero.
        """
        plan = self._plan
        weights = slots.down_of(plan.first_slot, plan.n_slots)
        hidden = torch.mm(x[self._rows].to(slots.dtype), weights.t())
        hidden = hidden.view(len(plan.shared_rows), plan.n_slots, -1)
        hidden.masked_fill_(self._foreign, 0)
        run = slice(plan.first_slot, plan.first_slot + plan.n_slots)
        for target, up, part in slots.parts_of(y, hidden):
            own = part.reshape(part.shape[0], -1)
            _add_product(target, self._rows, own, up[run].view(own.shape[1], -1), scale)


def _add_product(
    target: torch.Tensor,
    rows: slice | torch.Tensor,
    hidden: torch.Tensor,
    weights: torch.Tensor,
    scale: float,
) -> None:
    if isinstance(rows, slice) and target.dtype == weights.dtype:
        target[rows].addmm_(hidden, weights, alpha=scale)
        return
    delta = torch.mm(hidden, weights)
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
