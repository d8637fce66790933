"""Validation against a real registry and store: rejected with findings, or on to the gate."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.findings import KINDS, Severity
from adapters.parity.fingerprint_file import FILE_NAME, read_module_facts
from adapters.peft_config import parse_lora_config
from bench.fixtures.adapter_files import TENSORS, edit_config, edit_tensors, write_adapter
from bench.fixtures.defects import DEFECTS, GATE
from serving.controller.lifecycle import State
from tests.builders.base_folders import TINY, card_of
from tests.builders.steps_world import StepsWorld, steps_world

CARD = card_of(TINY)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[StepsWorld]:
    async with steps_world(tmp_path / "data", CARD) as made:
        yield made


def record_fingerprint(folder: Path) -> None:
    """What the end of training writes, from the files as they are now."""
    spec = parse_lora_config((folder / "adapter_config.json").read_bytes())
    modules = {
        fact.module: {
            "scaling": fact.scaling,
            "a": {"shape": fact.a_shape, "dtype": "float32", "sha256": fact.a_sha256},
            "b": {"shape": fact.b_shape, "dtype": "float32", "sha256": fact.b_sha256},
        }
        for fact in read_module_facts(spec, folder / TENSORS)
    }
    base = {"name": None, "revision": None, "dtype": "float32"}
    (folder / FILE_NAME).write_text(json.dumps({"base": base, "modules": modules}))


async def test_a_good_adapter_goes_on_to_the_gate_with_its_rank(
    world: StepsWorld, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "good", CARD)
    record_fingerprint(folder)
    version = await world.upload(folder)

    assert await world.turn("validate")

    row = await world.row(version)
    assert (row.state, row.rank) == (State.EVALUATING, 8)
    assert row.findings == []
    assert (await world.snapshot()).versions == []


async def test_a_blocking_finding_rejects_the_version_by_name(
    world: StepsWorld, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "bad", CARD)
    edit_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if "lora_B" not in k})
    version = await world.upload(folder)

    await world.turn("validate")

    row = await world.row(version)
    assert row.state == State.REJECTED
    assert row.findings is not None
    assert "pair_incomplete" in {item["code"] for item in row.findings}
    (audit, *_) = await world.repository.audit.latest(subject=version)
    assert audit.to_state == State.REJECTED
    assert "pair_incomplete" in (audit.reason or "")


async def test_alpha_changed_after_training_is_rejected_through_the_fingerprint(
    world: StepsWorld, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "alpha", CARD)
    record_fingerprint(folder)
    edit_config(folder, lora_alpha=32)
    version = await world.upload(folder)

    await world.turn("validate")

    row = await world.row(version)
    assert row.state == State.REJECTED
    assert row.findings is not None
    assert [f["code"] for f in row.findings if f["severity"] == "blocking"] == [
        "export_alpha_changed"
    ]


_MADE_BY_TRAINING = sorted(
    name for name, defect in DEFECTS.items() if defect.code == GATE and name != "huge_but_finite"
)
_BLOCKING = sorted(
    name
    for name, defect in DEFECTS.items()
    if defect.code != GATE
    and KINDS[defect.code].severity is Severity.BLOCKING
    and defect.dtype == "float32"
    and defect.code not in {"config_missing", "tensors_missing", "pickled_weights"}
)


@pytest.mark.parametrize("name", _MADE_BY_TRAINING)
async def test_what_only_training_can_know_is_rejected_by_the_fingerprint(
    world: StepsWorld, tmp_path: Path, name: str
) -> None:
    folder = write_adapter(tmp_path / name, CARD)
    record_fingerprint(folder)
    DEFECTS[name].apply(folder, CARD)
    version = await world.upload(folder)

    await world.turn("validate")

    row = await world.row(version)
    assert row.state == State.REJECTED
    assert row.findings is not None
    assert any(finding["code"].startswith("export_") for finding in row.findings)


async def test_every_blocking_defect_is_rejected_by_its_name(
    world: StepsWorld, tmp_path: Path
) -> None:
    for name in _BLOCKING:
        folder = write_adapter(tmp_path / name, CARD)
        DEFECTS[name].apply(folder, CARD)
        version = await world.upload(folder, adapter=name.replace("_", "-"))

        await world.turn("validate")

        row = await world.row(version)
        assert row.state == State.REJECTED, name
        assert row.findings is not None
        assert DEFECTS[name].code in {finding["code"] for finding in row.findings}, name


async def test_a_fingerprint_that_cannot_be_read_is_rejected(
    world: StepsWorld, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "odd", CARD)
    (folder / FILE_NAME).write_text("{}")
    version = await world.upload(folder)

    await world.turn("validate")

    row = await world.row(version)
    assert row.state == State.REJECTED
    assert row.findings is not None
    assert row.findings[-1]["code"] == "fingerprint_invalid"


async def test_without_a_base_model_versions_wait(tmp_path: Path) -> None:
    async with steps_world(tmp_path / "data", None) as world:
        version = await world.upload(write_adapter(tmp_path / "good", CARD))

        await world.turn("validate")

        row = await world.row(version)
        assert row.state == State.VALIDATING
        assert row.error is not None
        assert row.error["code"] == "base_model_unset"


async def test_a_store_that_lost_the_bytes_is_told_and_decides_nothing(
    world: StepsWorld, tmp_path: Path
) -> None:
    version = await world.upload(write_adapter(tmp_path / "good", CARD))
    hexadecimal = (await world.row(version)).digest.removeprefix("sha256:")
    shutil.rmtree(tmp_path / "data/artifacts/sha256" / hexadecimal[:2])

    await world.turn("validate")

    row = await world.row(version)
    assert row.state == State.VALIDATING
    assert row.error is not None
    assert (row.error["code"], row.error["terminal"]) == ("artifact_not_found", True)
    assert not await world.turn("validate")


async def test_damaged_bytes_in_the_store_are_never_judged(
    world: StepsWorld, tmp_path: Path
) -> None:
    version = await world.upload(write_adapter(tmp_path / "good", CARD))
    stored = next((tmp_path / "data/artifacts/sha256").glob(f"*/*/{TENSORS}"))
    stored.chmod(0o644)
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(bytes(data))
    assert hashlib.sha256(data).hexdigest() not in json.dumps((await world.row(version)).files)

    await world.turn("validate")

    row = await world.row(version)
    assert row.state == State.VALIDATING
    assert row.error is not None
    assert row.error["code"] == "digest_mismatch"
