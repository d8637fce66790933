"""Reads bench/results: each file that can be read, and what is wrong with the others."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from bench.report.catalogue import SCENARIOS
from bench.report.older import read_older
from bench.result import RESULTS, BadResult, Result, is_result_format, read_result


@dataclass(frozen=True)
class Loaded:
    """Results by file name without ending; `problems` has a sentence for each file that is none."""

    results: dict[str, Result] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

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
    problems = []
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            found = (
                read_result(path) if is_result_format(document) else read_older(path.stem, document)
            )
        except (BadResult, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            problems.append(
                str(error) if isinstance(error, BadResult) else f"{path.name}: {error!r}"
            )
            continue
        if found:
            results[path.stem] = found
    return Loaded(results, tuple(problems))
