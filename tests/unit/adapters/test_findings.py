"""Every finding code is made by a test, and told in docs/findings.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapters.base_model import BaseModelCard
from adapters.findings import KINDS, Finding, Severity
from adapters.limits import EngineLimits
from adapters.preflight import check_folder
from bench.fixtures.adapter_files import TENSORS, edit_config, edit_tensors, write_adapter
from bench.fixtures.defects import DEFECTS, GATE
from bench.fixtures.tensor_files import Array
from tests.builders.base_folders import TINY, card_of

Edit = Callable[[Path, BaseModelCard], None]


def _zero_one_b(old: dict[str, Array]) -> dict[str, Array]:
    key = next(key for key in old if ".lora_B." in key)
    return old | {key: np.zeros_like(old[key])}


def _shrink_a(old: dict[str, Array]) -> dict[str, Array]:
    return {
        key: value[:, :-1] if ".lora_A." in key else np.vstack([value, value])
        for key, value in old.items()
    }


def _drop_module(old: dict[str, Array]) -> dict[str, Array]:
    return {key: value for key, value in old.items() if ".layers.1.mlp.up_proj." not in key}


def _foreign_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _costly_targets(folder: Path, card: BaseModelCard) -> None:
    # Selects everything, but with more repetitions than are evaluated here.
    edit_config(folder, target_modules=r"(?:.*?(?:a|b).*?)?.*.*.*.*_proj")
    edit_tensors(folder, _drop_module)


# What the catalogue of defects does not make: harmless things, and rarer ones.
OTHERS: dict[str, Edit] = {
    "tensors_missing": lambda folder, card: (folder / TENSORS).unlink(),
    "file_ignored": lambda folder, card: (folder / "README.md").touch(),
    "tokenizer_ignored": lambda folder, card: _foreign_tokenizer(folder),
    "fingerprint_absent": lambda folder, card: None,
    "config_field_unknown_empty": lambda folder, card: edit_config(folder, use_quantum=None),
    "target_pattern_unchecked": _costly_targets,
    "layers_uneven": _costly_targets,
    "base_name_missing": lambda folder, card: edit_config(folder, base_model_name_or_path=None),
    "shape_differs": lambda folder, card: edit_tensors(folder, _shrink_a),
    "module_inert": lambda folder, card: edit_tensors(folder, _zero_one_b),
    "value_underflows": lambda folder, card: edit_tensors(
        folder, lambda old: {key: value * np.float32(1e-43) for key, value in old.items()}
    ),
}


@pytest.mark.parametrize("code", sorted(OTHERS))
def test_the_finding_is_made(code: str, tmp_path: Path) -> None:
    card = card_of(TINY)
    folder = write_adapter(tmp_path / "adapter", card)
    OTHERS[code](folder, card)

    report = check_folder(folder, card, EngineLimits(dtype="float16"))

    assert code in {finding.code for finding in report.findings}


def test_every_code_is_made_by_some_test() -> None:
    made = {defect.code for defect in DEFECTS.values()} - {GATE} | set(OTHERS)

    assert made == set(KINDS)


def test_every_code_is_told_in_the_docs_as_it_is() -> None:
    text = Path("docs/findings.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)

    told = {code: (severity, meaning, fix) for code, severity, meaning, fix in rows}

    assert told == {
        kind.code: (kind.severity.value, kind.meaning, kind.fix) for kind in KINDS.values()
    }
    assert len(rows) == len(told)


def test_a_finding_of_an_unknown_code_cannot_be_made() -> None:
    with pytest.raises(KeyError):
        Finding("no_such_code")


def test_a_finding_tells_code_severity_place_and_cure() -> None:
    told = Finding("rank_above_limit", "r", 64, 16).to_json()

    assert told["severity"] == Severity.BLOCKING
    assert (told["where"], told["found"], told["allowed"]) == ("r", 64, 16)
    assert told["meaning"]
    assert told["fix"]
