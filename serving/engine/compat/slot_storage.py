"""How a layer's adapter slots lie in memory: one block for A, one for each part of B.

vLLM 0.32 keeps a tensor of slots for each part of a packed layer (q, k and v), B with the rank as
its innermost axis. Here the same tensors become views of blocks in which a run of slots is one
matrix: A of all parts and slots is (slots x parts x rank, in), a part of B is (slots x rank, out).
vLLM goes on writing adapters through its tensors, and sees no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class SlotStorage:
    """One layer's slots. `down`: (slots, parts, rank, in); `ups`: (slots, rank, out) per part."""

    down: torch.Tensor
    ups: tuple[torch.Tensor, ...]
    owners: tuple[torch.Tensor, ...]
    """vLLM's own A tensors, kept so that their identity stays theirs."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.down.dtype

    def down_of(self, first: int, n_slots: int) -> torch.Tensor:
        """A of a run of slots as one matrix, (slots x parts x rank, in)."""
        return self.down[first : first + n_slots].view(-1, self.down.shape[-1])

    def parts_of(
        self, y: torch.Tensor, hidden: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """(columns of y, B, columns of hidden) per part; hidden: (..., parts x rank)."""
        offset, rank = 0, self.down.shape[2]
        for number, up in enumerate(self.ups):
            part = hidden[..., number * rank : (number + 1) * rank]
            yield y[:, offset : offset + up.shape[-1]], up, part
            offset += up.shape[-1]


class SlotStorages:
    """The storage of each layer, made when the layer is first met."""

    def __init__(self) -> None:
        self._by_owner: dict[int, SlotStorage] = {}

    def of(self, a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> SlotStorage:
        """The storage of a layer; a: (slots, 1, rank, in), b: (slots, 1, out, rank) per part."""
        found = self._by_owner.get(id(a[0]))
        if found is None:
            found = self._by_owner[id(a[0])] = lay_out(a, b)
        return found


def lay_out(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> SlotStorage:
    """Copy a layer's slots into blocks, and make the given tensors views of them, in place."""
    down = torch.cat(list(a), dim=1)
    for part, tensor in enumerate(a):
        tensor.set_(down[:, part : part + 1])
    ups = tuple(tensor[:, 0].transpose(1, 2).contiguous() for tensor in b)
    for tensor, up in zip(b, ups, strict=True):
        tensor.set_(up.transpose(1, 2).unsqueeze(1))
    return SlotStorage(down, ups, tuple(a))
