"""The child of a comparison: its answer, its errors, its death, its time and its queue."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.errors import ContaminationFailed, TrainingSetInvalid
from adapters.parity.contamination import ContaminationRules
from adapters.parity.policy import ContaminationPolicy, GatePolicy
from serving.controller.contamination_check import ContaminationCheck, rules_of
from serving.controller.errors import UploadsBusy
from tests.builders.near_texts import a_contaminated_world

RULES = ContaminationRules()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    suite, training, _leaked = a_contaminated_world(100, 3)
    (tmp_path / "suite").write_bytes(suite)
    (tmp_path / "training").write_bytes(training)
    return tmp_path / "suite", tmp_path / "training"


def a_check(timeout_seconds: float = 300.0) -> ContaminationCheck:
    return ContaminationCheck(timeout_seconds=timeout_seconds)


async def test_the_child_tells_the_report_and_it_keeps_the_training_sets_digest(
    files: tuple[Path, Path],
) -> None:
    report = await a_check().compare(*files, rules=RULES, digest="sha256:x")

    assert (len(report.leaks), report.n_cases, report.n_documents) == (3, 100, 300)
    assert report.training_digest == "sha256:x"


async def test_an_error_of_the_child_is_the_same_error_here(files: tuple[Path, Path]) -> None:
    files[1].write_text("nonsense")

    with pytest.raises(TrainingSetInvalid) as caught:
        await a_check().compare(*files, rules=RULES, digest="x")

    assert caught.value.fields["line"] == 1


async def test_a_child_that_dies_without_a_word_is_a_failure(files: tuple[Path, Path]) -> None:
    files[1].unlink()

    with pytest.raises(ContaminationFailed):
        await a_check().compare(*files, rules=RULES, digest="x")


def children() -> set[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(pid) for pid in path.read_text().split()}


@pytest.fixture
def endless(files: tuple[Path, Path]) -> tuple[Path, Path]:
    """Files whose training set never ends: a pipe that nobody writes to."""
    files[1].unlink()
    os.mkfifo(files[1])
    return files


@contextlib.asynccontextmanager
async def a_reading_child(pipe: Path) -> AsyncIterator[set[int]]:
    """While a child reads the pipe, which neither fills nor ends; yields all children."""
    # A pipe opens for writing when its reader is there.
    writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    try:
        yield children()
    finally:
        os.close(writer)


async def test_a_comparison_that_takes_too_long_is_ended(endless: tuple[Path, Path]) -> None:
    before = children()

    with pytest.raises(ContaminationFailed) as caught:
        await a_check(timeout_seconds=0.1).compare(*endless, rules=RULES, digest="x")

    assert "0.1 seconds" in caught.value.fields["reason"]
    assert children() <= before


async def test_whoever_gives_up_takes_the_child_along_and_the_next_gets_its_turn(
    endless: tuple[Path, Path],
) -> None:
    check, before = a_check(), children()
    waiting = asyncio.create_task(check.compare(*endless, rules=RULES, digest="x"))

    async with a_reading_child(endless[1]):
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    assert children() <= before
    endless[1].unlink()
    endless[1].write_text('{"text": "a"}')
    assert (await check.compare(*endless, rules=RULES, digest="x")).n_documents == 1


async def test_too_many_that_wait_are_asked_to_come_again(endless: tuple[Path, Path]) -> None:
    check, before = a_check(), children()
    tasks = [
        asyncio.create_task(check.compare(*endless, rules=RULES, digest="x")) for _ in range(3)
    ]

    async with a_reading_child(endless[1]) as running:
        with pytest.raises(UploadsBusy) as caught:
            await check.compare(*endless, rules=RULES, digest="x")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert caught.value.fields["limit"] == 3
    assert len(running - before) == 1
    assert children() <= before


async def test_a_killed_child_is_a_failure_and_not_a_hang(endless: tuple[Path, Path]) -> None:
    before = children()
    task = asyncio.create_task(a_check().compare(*endless, rules=RULES, digest="x"))

    async with a_reading_child(endless[1]) as running:
        os.kill((running - before).pop(), signal.SIGKILL)
        with pytest.raises(ContaminationFailed):
            await task


def test_a_policys_rules_are_the_comparisons() -> None:
    own = ContaminationPolicy(jaccard=0.8, shingle=6, num_perm=128, max_fraction=0.01)

    assert rules_of(GatePolicy(contamination=own)) == ContaminationRules(
        jaccard=0.8, shingle=6, num_perm=128, max_fraction=0.01
    )
    assert rules_of(GatePolicy()) == ContaminationRules()
