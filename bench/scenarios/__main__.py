"""`python -m bench.scenarios`: which scenarios there are, and the short set of all of them.

`--list`, or nothing: each scenario's question and command. `--quick`: every scenario that has a
short run, in turn, with a line that says what runs and a table of how each ended; the end is 1
where one failed. Names after the option choose among them. No result file is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.scenario_list import Listed, list_scenarios
from bench.short_set import Ended, quick_command, run_scenario

LOGS = Path(__file__).resolve().parents[2] / ".bench" / "short_set"
_LIMIT_SECONDS = 240.0
"""Of one scenario. Chosen so that an engine's start, 50 s here, fits twice on a busy machine."""
_SHOWN_CHARACTERS = 70


def run_short_set(scenarios: Sequence[Listed], *, limit_seconds: float) -> list[Ended]:
    """Each in turn, with a line on the terminal that says how far it is."""
    console = Console()
    ended = []
    for number, scenario in enumerate(scenarios, start=1):
        title = f"{number}/{len(scenarios)} {scenario.name}"
        with console.status(title) as line:

            def look(seconds: float, said: str, title: str = title) -> None:
                line.update(f"{title}  {seconds:.0f} s  [dim]{escape(said[:_SHOWN_CHARACTERS])}")

            one = run_scenario(
                scenario.name, quick_command(scenario.name), log=LOGS / f"{scenario.name}.log",
                limit_seconds=limit_seconds, on_look=look,
            )  # fmt: skip
        ended.append(one)
        console.print(f"{title}: {one.outcome}, {one.seconds:.0f} s", highlight=False)
        if not one.is_passed:
            console.print(f"[dim]{escape(one.tail())}[/dim]", highlight=False)
    return ended


def show_ended(ended: Sequence[Ended]) -> None:
    """The table of the short set."""
    table = Table(title="the short set", title_justify="left")
    for column in ("scenario", "has", "seconds", "log"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for one in ended:
        colour = "green" if one.is_passed else "red"
        outcome = f"[{colour}]{one.outcome}[/{colour}]"
        table.add_row(one.name, outcome, f"{one.seconds:.0f}", str(one.log.relative_to(LOGS)))
    table.add_row("all", "", f"{sum(one.seconds for one in ended):.0f}", str(LOGS.parent.name))
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """0: listed, or all of the short set passed; 1: one did not; 2: no such scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--list", action="store_true", help="questions and commands")
    parser.add_argument("--quick", action="store_true", help="run the short set")
    parser.add_argument("--limit", type=float, default=_LIMIT_SECONDS, help="seconds of each")
    given = parser.parse_args(arguments)
    scenarios = list_scenarios()
    if unknown := set(given.names) - {each.name for each in scenarios}:
        print(f"no scenario {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [each for each in scenarios if each.name in given.names or not given.names]
    if not given.quick:
        for each in chosen:
            print(f"{each.command}{' [--quick]' * each.has_quick}\n    {each.question}")
        return 0
    ended = run_short_set([each for each in chosen if each.has_quick], limit_seconds=given.limit)
    show_ended(ended)
    return int(not all(one.is_passed for one in ended))


if __name__ == "__main__":
    sys.exit(main())
