"""What do short requests pay for long prompts, and what does throughput pay for sparing them?

The curve over max_num_batched_tokens: a real engine for each setting, chunked prefill off and then
on with ever smaller budgets, under the long-prefill mix (every tenth prompt has 1,500 tokens): gaps
between the tokens of short requests, their time to the first token, and the engine's pace with all
requests due at once. Rounds of one number ask every setting for the same requests. Settings are
measured in two passes, the second in reverse order, so that no end of the curve has the machine's
better hour to itself. Machine, base and mix are `tuned_profile`'s: `--from FILE` takes the rounds
of its grid, or of an earlier result of this one, and measures at their load what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figure_table import Say, print_figures, progress_line
from bench.machine import Machine, add_machine_option, machine_of
from bench.result import write_result
from bench.scenarios.tuned_profile import CPU, SHAPE
from bench.trade_curve import (
    beside,
    curve_figures,
    curve_settings,
    missing,
    rounds_in,
    to_json,
)
from serving.tuning.engine_rounds import EngineRounds
from serving.tuning.race import Round
from serving.tuning.shapes import BUILT_IN, Shape
from serving.tuning.space import Load, Setting, reference_of

QUESTION = "What do short requests pay for long prompts, and what does sparing them cost?"
_LARGEST, _OCTAVES, _QUICK_BUDGET = 1024, 5, 64
_REQUESTS, _QUICK_REQUESTS, _RATE = 50, 12, 1.5
_KIND = "short"


@dataclass(frozen=True, slots=True)
class Offered:
    """The load: so many requests of the long-prefill mix, at so many a second."""

    requests: int
    rate: float

    def draw(self, number: int) -> Shape:
        """The requests of one round, as `tuned_profile` draws them."""
        spec = dataclasses.replace(BUILT_IN[SHAPE], requests=self.requests)
        return spec.with_rate(self.rate).draw(number)


def offered_of(document: Any, options: argparse.Namespace) -> Offered:
    """The load of the result that is gone on from; else the options'.

    Raises:
        SystemExit: another rate is asked for than the rounds in the result were measured at.
    """
    if document is None:
        rate = _RATE if options.rate is None else options.rate
        return Offered(_QUICK_REQUESTS if options.quick else _REQUESTS, rate)
    parameters = document["parameters"]
    rate = float(parameters["requests_per_second"])
    if options.rate not in (None, rate):
        raise SystemExit(f"--rate {options.rate:g}: the rounds in {options.source} had {rate:g}")
    return Offered(int(parameters["requests"]), rate)


def settings_of(machine: Machine, *, is_quick: bool) -> tuple[Setting, ...]:
    """The curve on this machine: budgets by octaves, below the profile's own where it has one."""
    profile = machine.engine_profile()
    start = Setting.of(profile)
    largest = (start.max_num_batched_tokens or 2 * _LARGEST) // 2
    budgets = [_QUICK_BUDGET] if is_quick else [largest >> octave for octave in range(_OCTAVES)]
    longest = Load(longest_prompt=0, n_adapters=1, n_requests=1, longest_request=largest)
    curve = curve_settings(start, reference_of(start, profile, longest), budgets)
    return (curve[0], curve[-1]) if is_quick else curve


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
    parser.add_argument(
        "--quick", action="store_true", help="one short round of two settings, the tiny base"
    )
    parser.add_argument("--write", action="store_true", help="write bench/results")
    parser.add_argument("--rate", type=float, help=f"requests a second (default: {_RATE:g})")
    parser.add_argument("--from", dest="source", type=Path, help="a result whose rounds count too")
    add_machine_option(parser)
    return parser.parse_args()


def main() -> None:
    """Measure what is missing, print the curve, and write the result with `--write`."""
    options = _options()
    machine, runs = machine_of(options, CPU), options.runs
    if options.quick:
        machine, runs = dataclasses.replace(machine, base="tiny"), 1
    document = None if options.source is None else json.loads(options.source.read_text())
    offered = offered_of(document, options)
    wanted = settings_of(machine, is_quick=options.quick)
    known = rounds_in(document)
    shown = (*wanted, *beside(known, wanted))
    rounds = [one for one in known if one.setting in shown]
    gaps = missing(rounds, wanted, runs=runs)
    n_steps = sum(len(numbers) for _, numbers in gaps)
    with tempfile.TemporaryDirectory() as text, progress_line("starting", n_steps=n_steps) as say:
        engines = EngineRounds(
            machine.engine_profile(), offered.draw, machine.adapters[0], _KIND, Path(text),
            rank=machine.ranks[0],
        )  # fmt: skip
        for setting, numbers in in_two_passes(gaps):
            rounds += _measure(engines, setting, numbers, say)
    figures = curve_figures(rounds, shown)
    print_figures(QUESTION, figures)
    if options.write:
        parameters: dict[str, Any] = {
            "machine": machine, "runs": runs, "shape": SHAPE, "measured_here": n_steps,
            "requests": offered.requests, "requests_per_second": offered.rate,
            "from": None if options.source is None else options.source.name,
        }  # fmt: skip
        write_result(
            "chunked_prefill", question=QUESTION, parameters=parameters, figures=figures,
            raw=to_json(rounds), variant=machine.variant,
        )  # fmt: skip


if __name__ == "__main__":
    main()
