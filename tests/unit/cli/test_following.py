"""The bars of `--wait`: one a stage, with counts and what is left."""

from __future__ import annotations

from typing import Any

from serving.cli.following import StageBars, progress_bars

STAGES = [{"name": "fetch", "weight": 1}, {"name": "candidate", "weight": 9}]


def gate(stage: str, done: int, index: int | None) -> dict[str, Any]:
    at = {"stage": stage, "done": done, "total": 100, "stages": STAGES, "index": index}
    return {"state": "evaluating", "progress": at}


def shown(*looks: tuple[float, dict[str, Any]]) -> list[tuple[str, str]]:
    progress = progress_bars(hidden=True)
    bars = StageBars(progress)
    for at, version in looks:
        bars.show(version, at_seconds=at)
    return [(task.description, task.fields["note"]) for task in progress.tasks]


def test_a_stage_shows_its_place_its_counts_and_the_time_left() -> None:
    bars = shown((0, gate("candidate", 0, 1)), (10, gate("candidate", 50, 1)))

    assert bars == [("gate 2/2: candidate", "50/100, about 10 s left")]


def test_without_weights_only_this_stage_is_estimated() -> None:
    bars = shown((0, gate("verify", 0, None)), (10, gate("verify", 50, None)))

    assert bars == [("gate: verify", "50/100, about 10 s left in this stage")]


def test_what_is_unknown_is_not_said() -> None:
    assert shown((0, gate("candidate", 1, 1))) == [("gate 2/2: candidate", "1/100")]


def test_each_stage_has_its_bar_and_the_former_is_done() -> None:
    checks = {"state": "validating", "progress": {"stage": "checks"}}

    bars = shown((0, checks), (1, gate("fetch", 0, 0)), (2, gate("candidate", 3, 1)))

    assert bars == [
        ("checks", "done"), ("gate 1/2: fetch", "done"), ("gate 2/2: candidate", "3/100")
    ]  # fmt: skip


def test_staging_says_what_it_waits_for() -> None:
    error = {"code": "engine_refused", "detail": "engine-1 has no free slot"}

    bars = shown((0, {"state": "staging", "progress": None, "error": error}))

    assert bars == [("staging on every ready engine", "engine_refused: engine-1 has no free slot")]
