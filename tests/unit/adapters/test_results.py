"""Kept results: found by what they depend on, and never trusted when they cannot be read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.blobs import LocalBlobs
from adapters.parity.numeric import CandidateAnswer
from adapters.parity.protocol import VerifyRow
from adapters.results import ResultStore, result_key

ANSWER = CandidateAnswer("c1", 0, (1, 2), (3, 4), (-0.25, -1e-7), "text")


@pytest.fixture
def results(tmp_path: Path) -> ResultStore:
    return ResultStore(LocalBlobs(tmp_path))


def test_a_result_is_found_again_as_it_was(results: ResultStore) -> None:
    key = result_key("candidate", {"version": "acme/support@1"})

    async def act() -> tuple[CandidateAnswer, ...] | None:
        await results.keep(key, (ANSWER,))
        return await results.find(key, tuple[CandidateAnswer, ...])

    assert asyncio.run(act()) == (ANSWER,)


def test_floats_keep_every_bit(results: ResultStore) -> None:
    row = VerifyRow("c", True, (1,), (-0.1 - 2**-54,), (-1 / 3,), None)

    async def act() -> list[VerifyRow] | None:
        await results.keep("sha256:ab", [row])
        return await results.find("sha256:ab", list[VerifyRow])

    assert asyncio.run(act()) == [row]


def test_what_was_never_kept_is_none(results: ResultStore) -> None:
    assert asyncio.run(results.find("sha256:00", list[int])) is None


def test_a_forgotten_result_is_none_and_forgetting_twice_is_fine(results: ResultStore) -> None:
    async def act() -> list[int] | None:
        await results.keep("sha256:ab", [1])
        await results.forget("sha256:ab")
        await results.forget("sha256:ab")
        return await results.find("sha256:ab", list[int])

    assert asyncio.run(act()) is None


@dataclass(frozen=True, slots=True)
class _Other:
    name: str
    n: int


@pytest.mark.parametrize("content", [b"", b"no zlib at all", b"x\x9cspoilt"])
def test_a_spoilt_result_is_computed_again(tmp_path: Path, content: bytes) -> None:
    blobs = LocalBlobs(tmp_path)
    results = ResultStore(blobs)

    async def act() -> list[int] | None:
        await blobs.put_bytes("results/ab/abcd", content)
        return await results.find("sha256:abcd", list[int])

    assert asyncio.run(act()) is None


def test_a_result_of_another_shape_is_computed_again(results: ResultStore) -> None:
    async def act() -> _Other | None:
        await results.keep("sha256:ab", {"name": "x", "n": "many"})
        return await results.find("sha256:ab", _Other)

    assert asyncio.run(act()) is None


def test_the_key_knows_every_part_and_no_order() -> None:
    key = result_key("verify", {"a": 1, "b": "x"})

    assert key == result_key("verify", {"b": "x", "a": 1})
    assert len({key, result_key("alone", {"a": 1, "b": "x"}), result_key("verify", {"a": 1})}) == 3
