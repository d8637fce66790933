"""Whether a machine file fits its card: weights, slots and KV cache, by the project's own sizing.

Pure. `python -m bench.gpu` prints it as the table of README.md; a test holds both together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.machine import Machine
from serving.capacity.sizing import kv_bytes_per_token, slot_bytes
from serving.engine.profile import EngineProfile

CARD_BYTES = 79 * 1024**3
"""What a card sold with 80 GB has for programs, at least: 79.6 GiB on an H100, 79.3 on an A100."""
OUTSIDE_BYTES = int(0.9 * 1024**3)
"""Of each engine, beside its share: CUDA context and libraries. An estimate, not measured here."""
WORKING_BYTES = int(1.5 * 1024**3)
"""Of each engine, in its share: activations of a step of 2,048 tokens, their logits and CUDA
graphs. An estimate, not measured here: vLLM measures it when it starts."""
_DTYPE_BYTES = 2
_SHARE = "--gpu-memory-utilization="
_ROWS_BESIDE = 4
"""Norms and biases of a layer, in rows of the hidden size: two and less than two."""


class DoesNotFit(ValueError):
    """A machine file whose engines do not fit the card; the text says by how much."""


@dataclass(frozen=True, slots=True)
class Base:
    """The sizes in a base model's config.json that decide about its memory."""

    hidden: int
    intermediate: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    vocabulary: int
    is_tied: bool = False

    def shapes(self) -> dict[str, tuple[int, int]]:
        """(in, out) of its linear modules by full name."""
        wide, narrow = self.n_heads * self.head_size, self.n_kv_heads * self.head_size
        kinds = {
            "self_attn.q_proj": (self.hidden, wide),
            "self_attn.k_proj": (self.hidden, narrow),
            "self_attn.v_proj": (self.hidden, narrow),
            "self_attn.o_proj": (wide, self.hidden),
            "mlp.gate_proj": (self.hidden, self.intermediate),
            "mlp.up_proj": (self.hidden, self.intermediate),
            "mlp.down_proj": (self.intermediate, self.hidden),
        }
        return {
            f"model.layers.{layer}.{kind}": shape
            for layer in range(self.n_layers)
            for kind, shape in kinds.items()
        }

    @property
    def weight_bytes(self) -> int:
        """In 16 bits."""
        matrices = sum(n_in * n_out for n_in, n_out in self.shapes().values())
        tables = (1 if self.is_tied else 2) * self.vocabulary * self.hidden
        return _DTYPE_BYTES * (matrices + tables + self.n_layers * _ROWS_BESIDE * self.hidden)


BASES: Mapping[str, Base] = {
    "Qwen/Qwen2.5-7B-Instruct": Base(
        hidden=3584, intermediate=18944, n_layers=28, n_heads=28, n_kv_heads=4, head_size=128,
        vocabulary=152064,
    ),
}  # fmt: skip
"""By hub id, from their config.json."""


@dataclass(frozen=True, slots=True)
class Engines:
    """How many engines a scenario has at once on the card, and of which kind."""

    n_with_adapters: int
    n_bare: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Bytes of one engine, and of all of them together."""

    share: int
    weights: int
    slots: int
    kv: int
    kv_tokens: int
    needed_tokens: int
    card: int
    host: int
    """Of the adapters in CPU memory."""


def share_of(profile: EngineProfile) -> float:
    """The part of the card that one engine may take.

    Raises:
        DoesNotFit: the profile does not say.
    """
    for argument in profile.extra_arguments:
        if argument.startswith(_SHARE):
            return float(argument.removeprefix(_SHARE))
    raise DoesNotFit(f"the profile has no {_SHARE.rstrip('=')}: engines would share by chance")


def plan_memory(
    machine: Machine,
    profile: EngineProfile,
    base: Base,
    engines: Engines,
    *,
    card_bytes: int = CARD_BYTES,
) -> Plan:
    """The budget of an engine with adapters, with the largest load that the scenario sends it.

    Raises:
        DoesNotFit: the engines take more than the card has, or their KV cache is too small for all
            requests in flight at their full length.
    """
    count = engines.n_with_adapters + engines.n_bare
    shapes = base.shapes()
    of_slot = slot_bytes(shapes, max_rank=profile.max_rank, dtype_bytes=_DTYPE_BYTES)
    of_token = kv_bytes_per_token(shapes, dtype_bytes=_DTYPE_BYTES) or 0
    share = int(share_of(profile) * card_bytes)
    slots = profile.gpu_slots * of_slot
    kv = share - base.weight_bytes - slots - WORKING_BYTES
    needed = machine.concurrency * (machine.n_prompt + machine.n_output)
    whole = count * (share + OUTSIDE_BYTES)
    if whole > card_bytes:
        raise DoesNotFit(f"{count} engines take {whole:,} bytes of {card_bytes:,}")
    if kv < needed * of_token:
        raise DoesNotFit(f"the KV cache has {kv:,} bytes; {needed:,} tokens need more")
    host = profile.cpu_slots * of_slot
    return Plan(share, base.weight_bytes, slots, kv, kv // of_token, needed, whole, host)
