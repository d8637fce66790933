"""The catalogue of known-bad adapters against preflight."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.findings import KINDS, Severity
from adapters.limits import EngineLimits
from adapters.preflight import check_folder
from bench.fixtures.adapter_files import write_adapter
from bench.fixtures.defects import DEFECTS, GATE
from tests.builders.base_folders import SMOLLM2_135M, TINY, LlamaShape, card_of

SEEN_BY_FILES = sorted(name for name, defect in DEFECTS.items() if defect.code != GATE)
SEEN_BY_GATE = sorted(name for name, defect in DEFECTS.items() if defect.code == GATE)


@pytest.mark.parametrize("name", SEEN_BY_FILES)
def test_a_known_bad_adapter_is_named_by_its_finding(name: str, tmp_path: Path) -> None:
    card, defect = card_of(TINY), DEFECTS[name]
    folder = write_adapter(tmp_path / "adapter", card)
    defect.apply(folder, card)

    report = check_folder(folder, card, EngineLimits(dtype=defect.dtype))

    assert defect.code in {finding.code for finding in report.findings}
    assert report.is_blocked or KINDS[defect.code].severity is Severity.WARNING


@pytest.mark.parametrize("name", SEEN_BY_GATE)
def test_what_only_the_gate_can_see_passes_preflight(name: str, tmp_path: Path) -> None:
    card = card_of(TINY)
    folder = write_adapter(tmp_path / "adapter", card)
    before = check_folder(folder, card, EngineLimits())
    DEFECTS[name].apply(folder, card)

    after = check_folder(folder, card, EngineLimits())

    assert not after.is_blocked
    assert after.findings == before.findings


@pytest.mark.parametrize("shape", [TINY, SMOLLM2_135M], ids=lambda shape: shape.name)
def test_a_good_adapter_has_no_finding_but_the_missing_fingerprint(
    shape: LlamaShape, tmp_path: Path
) -> None:
    card = card_of(shape)
    folder = write_adapter(tmp_path / "adapter", card)

    report = check_folder(folder, card, EngineLimits())

    assert [finding.code for finding in report.findings] == ["fingerprint_absent"]
    assert report.n_modules == 7 * shape.n_layers


@pytest.mark.parametrize(
    "name", ["prefix_one_level_short", "layers_shifted_by_one", "transposed", "smaller_base"]
)
def test_defects_of_the_real_base_are_named_too(name: str, tmp_path: Path) -> None:
    card, defect = card_of(SMOLLM2_135M), DEFECTS[name]
    folder = write_adapter(tmp_path / "adapter", card)
    defect.apply(folder, card)

    report = check_folder(folder, card, EngineLimits())

    assert defect.code in {finding.code for finding in report.findings}
    assert report.is_blocked
