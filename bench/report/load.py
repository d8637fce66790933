"""Reads bench/results: each file that can be read, and what is wrong with the others."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from bench.report.catalogue import SCENARIOS, Scenario
from bench.report.older import read_older
from bench.report.words import title_of
from bench.result import RESULTS, BadResult, Result, is_result_format, read_result


@dataclass(frozen=True)
class Loaded:
    """Results by file name without ending; `problems` has a sentence for each file that is none.

    `older`: those that are of an older format, and have sections written by hand in the docs.
    """

    results: dict[str, Result] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    older: frozenset[str] = frozenset()

    def scenarios(self) -> list[Scenario]:
        """The catalogue's, and then those of results in the format that it does not know."""
        known = {each.name for each in SCENARIOS}
        others = {
            scenario_of(stem, result)
            for stem, result in self.results.items()
            if stem not in self.older
        } - known
        return [*SCENARIOS, *(Scenario(name, title_of(name)) for name in sorted(others))]

    def of(self, scenario: str) -> list[tuple[str, Result]]:
        """(stem, result) of a scenario and its variants, that without a variant first."""
        found = [
            (stem, result)
            for stem, result in self.results.items()
            if scenario_of(stem, result) == scenario
        ]
        return sorted(found, key=lambda item: (item[0] != scenario, item[0]))


def scenario_of(stem: str, result: Result) -> str:
    """Whose result it is; an older file of a variant says so in its name alone."""
    if result.scenario != stem:
        return result.scenario
    longest = [each.name for each in SCENARIOS if stem.startswith(f"{each.name}_")]
    return max(longest, key=len, default=result.scenario)


def load_results(folder: Path = RESULTS) -> Loaded:
    """All of them. A broken file is told, not raised: the others can still be reported."""
    results: dict[str, Result] = {}
    problems, older = [], set()
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            is_older = not is_result_format(document)
            found = read_older(path.stem, document) if is_older else read_result(path)
        except (BadResult, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            problems.append(
                str(error) if isinstance(error, BadResult) else f"{path.name}: {error!r}"
            )
            continue
        if found:
            results[path.stem] = found
            older |= {path.stem} if is_older else set()
    return Loaded(results, tuple(problems), frozenset(older))
