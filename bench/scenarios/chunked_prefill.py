"""What do short requests pay for long prompts, and what does throughput pay for sparing them?

The curve over max_num_batched_tokens: a real engine for each setting, chunked prefill off and then
on with ever smaller budgets, under the long-prefill mix (every tenth prompt has 1,500 tokens): gaps
between the tokens of short requests, their time to the first token, and the engine's pace with all
requests due at once. Rounds of one number ask every setting for the same requests. Settings are
measured in two passes, the second in reverse order, so that no end of the curve has the machine's
better hour to itself. `--from FILE` takes the rounds of an earlier result, of this scenario or of
`tuned_profile`, and measures only what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.figure_table import Say, print_figures, progress_line
from bench.machine import Machine, add_machine_option, machine_of
from bench.result import write_result
from bench.trade_curve import (
    curve_figures,
    curve_settings,
    missing,
    on_curve,
    rounds_in,
    to_json,
)
from serving.tuning.engine_rounds import EngineRounds
from serving.tuning.race import Round
from serving.tuning.shapes import BUILT_IN, Shape
from serving.tuning.space import Setting

QUESTION = "What do short requests pay for long prompts, and what does sparing them cost?"
SHAPE = "long-prefill"
LARGEST = 4096
_OCTAVES = (0, 2, 3, 4, 5, 6)
"""Budgets: the largest one halved so often."""
_QUICK_OCTAVES = (5,)
_KIND = "short"
CPU = Machine(
    name="two x86-64 cores",
    base="smol",
    profile={
        "dtype": "bfloat16", "gpu_slots": 2, "cpu_slots": 8, "max_rank": 8, "max_model_len": 2048,
        "max_num_batched_tokens": LARGEST, "enforce_eager": True, "kv_cache_gib": 2,
        "extra_arguments": ["--no-enable-prefix-caching"],
    },
    adapters=(1,),
    concurrency=1,
    n_prompt=20,
    n_output=24,
    ranks=(8,),
)  # fmt: skip


def settings_of(machine: Machine, *, is_quick: bool) -> tuple[Setting, ...]:
    """The curve on this machine: octaves below its profile's budget."""
    profile = machine.engine_profile()
    largest = profile.max_num_batched_tokens or LARGEST
    longest = profile.max_model_len or largest
    octaves = _QUICK_OCTAVES if is_quick else _OCTAVES
    return curve_settings(
        Setting.of(profile),
        budgets=[largest >> octave for octave in octaves],
        off_budget=max(largest, longest),
    )


def draw(number: int, *, requests: int | None = None) -> Shape:
    """The requests of a round, as `loraplane tune` draws them with its seed 0."""
    spec = BUILT_IN[SHAPE]
    return (spec if requests is None else dataclasses.replace(spec, requests=requests)).draw(number)


def in_two_passes(
    gaps: Sequence[tuple[Setting, list[int]]],
) -> Iterator[tuple[Setting, list[int]]]:
    """The first half of each setting's numbers in order, then the others from the last setting."""
    for setting, numbers in gaps:
        yield setting, numbers[: (len(numbers) + 1) // 2]
    for setting, numbers in reversed(gaps):
        if rest := numbers[(len(numbers) + 1) // 2 :]:
            yield setting, rest


def _measure(
    rounds: EngineRounds, setting: Setting, numbers: Sequence[int], say: Say
) -> Iterator[Round]:
    def tell(text: str, share: float) -> None:
        say.now(f"{setting.name}: {text} {100 * share:.0f} %")

    with rounds.warm_engine(setting, tell) as engine:
        for number in numbers:
            started = time.monotonic()
            values = engine.measure(number, tell)
            say.step(setting.name)
            yield Round(setting, number, values, time.monotonic() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="rounds of each setting")
    parser.add_argument("--quick", action="store_true", help="one short round of two settings")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    parser.add_argument("--from", dest="source", type=Path, help="a result whose rounds count too")
    add_machine_option(parser)
    return parser.parse_args()


def main() -> None:
    """Measure what is missing, print the curve, and write the result with `--write`."""
    options = _options()
    machine = machine_of(options, CPU)
    runs, requests = (1, 12) if options.quick else (options.runs, None)
    wanted = settings_of(machine, is_quick=options.quick)
    known = [] if options.source is None else rounds_in(json.loads(options.source.read_text()))
    rounds = on_curve(known, wanted)
    gaps = missing(rounds, wanted, runs=runs)
    n_steps = sum(len(numbers) for _, numbers in gaps)
    with tempfile.TemporaryDirectory() as text, progress_line("starting", n_steps=n_steps) as say:
        engines = EngineRounds(
            machine.engine_profile(), lambda number: draw(number, requests=requests),
            machine.adapters[0], _KIND, Path(text), rank=machine.ranks[0],
        )  # fmt: skip
        for setting, numbers in in_two_passes(gaps):
            rounds += _measure(engines, setting, numbers, say)
    figures = curve_figures(rounds, wanted)
    print_figures(QUESTION, figures)
    if options.write:
        parameters: dict[str, Any] = {
            "machine": machine, "runs": runs, "shape": SHAPE, "measured_here": n_steps,
            "requests": len(draw(0, requests=requests).arrivals),
            "from": None if options.source is None else options.source.name,
        }  # fmt: skip
        write_result(
            "chunked_prefill", question=QUESTION, parameters=parameters, figures=figures,
            raw=to_json(rounds), variant=machine.variant,
        )  # fmt: skip


if __name__ == "__main__":
    main()
