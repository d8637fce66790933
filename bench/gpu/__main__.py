"""`python -m bench.gpu`: the memory of every machine file here, as the table of README.md."""

from __future__ import annotations

from pathlib import Path

from bench.gpu.memory import BASES, Engines, Plan, plan_memory
from bench.machine import Machine, read_machine

HERE = Path(__file__).parent
ENGINES = {
    # The shared one, and one for each tenant beside it.
    "multi_lora_or_standalone": Engines(1, n_bare=3),
    "adapters_on_slots": Engines(1),
    "chunked_prefill": Engines(1),
    # Ours, and vLLM alone beside it.
    "cold_load": Engines(2),
}
"""By scenario, in the order in which run.sh runs them."""
_NOTHING = Machine("", "", {}, (1,), 1, 1, 1)
_GB = 1e9


def machine_file(scenario: str) -> Path:
    """The scenario's file."""
    return HERE / f"{scenario}.yaml"


def plans() -> dict[str, Plan]:
    """By scenario.

    Raises:
        MachineInvalid: a file or its profile cannot be used.
        DoesNotFit: a file's engines do not fit the card.
    """
    found = {}
    for scenario, engines in ENGINES.items():
        machine = read_machine(machine_file(scenario), _NOTHING)
        profile = machine.engine_profile()
        found[scenario] = plan_memory(machine, profile, BASES[machine.base], engines)
    return found


def render_table() -> str:
    """The table of README.md, in GB of 10^9 bytes."""
    lines = [
        "| scenario | engines | GB each | weights | slots | KV cache | its tokens, needed | all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for scenario, plan in plans().items():
        engines = ENGINES[scenario]
        sizes = (plan.share, plan.weights, plan.slots, plan.kv)
        each = " | ".join(f"{size / _GB:.1f}" for size in sizes)
        tokens = f"{round(plan.kv_tokens, -3):,}, {plan.needed_tokens:,}"
        count = engines.n_with_adapters + engines.n_bare
        lines.append(f"| {scenario} | {count} | {each} | {tokens} | {plan.card / _GB:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render_table(), end="")
