"""Result files: what is written is read back, and what nobody could read is refused."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.result import BadResult, Figure, Goal, Result, read_result, to_text, write_result

TTFT = Figure("ttft_p99", "ms", (3.0, 1.0, 2.0), better="lower", group="40 adapters")
GOAL = Goal("p99 of short requests", wanted="at most 5 ms", found="2 ms (1 to 3)", is_met=True)


def written(folder: Path, **changed: Any) -> Path:
    parts: dict[str, Any] = {
        "question": "What does it cost?", "parameters": {"runs": 3}, "figures": [TTFT], "raw": [],
        "goals": [GOAL],
    }  # fmt: skip
    return write_result("tenancy_overhead", **{**parts, **changed}, folder=folder)


def test_a_result_is_read_as_it_was_written_with_the_machine_it_is_from(tmp_path: Path) -> None:
    path = written(tmp_path, variant="h100")

    result = read_result(path)

    assert path.name == "tenancy_overhead_h100.json"
    assert (result.figures, result.goals) == ((TTFT,), (GOAL,))
    assert result.parameters == {"runs": 3}
    assert result.n_runs == 3
    assert {"processor", "n_cores", "packages"} <= result.environment.keys()
    assert list(tmp_path.iterdir()) == [path]


def test_a_figure_says_median_and_spread_of_the_runs_that_have_it(tmp_path: Path) -> None:
    gaps = Figure("gap", "ms", (5.0, math.nan, 1.0))
    path = written(tmp_path, figures=[gaps, Figure("never", "ms", (math.nan,))])

    first, never = json.loads(path.read_text())["figures"]

    assert (first["median"], first["low"], first["high"]) == (3.0, 1.0, 5.0)
    assert first["values"] == [5.0, None, 1.0]
    assert never["median"] is None
    assert read_result(path).figure("gap").defined == (5.0, 1.0)


def test_raw_samples_may_be_numpy_values_dataclasses_and_paths(tmp_path: Path) -> None:
    raw = {"a": np.array([1.0, math.nan]), "b": np.int64(3), "c": TTFT, "d": Path("x"), 4: (0.1,)}

    found = read_result(written(tmp_path, raw=raw)).raw

    assert found["a"] == [1.0, None]
    assert (found["b"], found["d"], found["4"]) == (3, "x", [0.1])
    assert found["c"]["name"] == "ttft_p99"


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=9))
def test_what_is_read_is_within_a_millionth_of_what_was_measured(values: list[float]) -> None:
    text = to_text(Result("a", "why?", {}, (Figure("f", "s", tuple(values)),)))
    (row,) = json.loads(text)["figures"]

    assert row["values"] == pytest.approx(values, rel=1e-5)
    # Of two in the middle the mean is rounded once more.
    assert row["median"] == pytest.approx(statistics.median(row["values"]), rel=1e-5, abs=1e-300)
    assert row["low"] == min(row["values"])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"figures": []}, "without a figure"),
        ({"figures": [TTFT, TTFT]}, "twice"),
        ({"question": " "}, "without the question"),
        ({"variant": "H 100"}, "variant 'H 100'"),
    ],
)
def test_a_result_that_nobody_could_read_is_not_written(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadResult, match=told):
        written(tmp_path, **changed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (("", "ms", (1.0,)), "a name"),
        (("f", "ms", ()), "no value"),
        (("f", "ms", (math.inf,)), "infinite"),
        (("f", "ms", (1.0,), "less"), "not lower, higher"),
    ],
)
def test_a_figure_that_says_nothing_is_refused(parts: Any, told: str) -> None:
    with pytest.raises(BadResult, match=told):
        Figure(*parts)


def test_a_goal_says_what_was_wanted_and_found() -> None:
    with pytest.raises(BadResult, match="found is ''"):
        Goal("throughput", "at least 0.95", "", is_met=False)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda text: text[:-20], "delimiter|Expecting|Unterminated"),
        (lambda text: text.replace('"median": 2.0', '"median": 1.0'), "was edited"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "format 1"),
        (lambda text: text.replace('"unit"', '"units"'), "no field 'unit'"),
        (lambda text: text.replace("tenancy_overhead", "another"), "says that it is another"),
    ],
)
def test_a_file_that_was_changed_by_hand_is_refused_by_name(
    tmp_path: Path, broken: Any, told: str
) -> None:
    path = written(tmp_path)
    path.write_text(broken(path.read_text()))

    with pytest.raises(BadResult, match=told) as refused:
        read_result(path)

    assert "tenancy_overhead.json" in str(refused.value)
