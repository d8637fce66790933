"""Preflight as a whole: good adapters of every form pass, and the report says what people need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.base_model import read_base_model
from adapters.errors import ArtifactRefused
from adapters.limits import EngineLimits
from adapters.peft_config import parse_lora_config
from adapters.preflight import PreflightReport, check_folder, preflight
from adapters.tensor_index import read_tensor_index
from bench.fixtures.adapter_files import (
    CONFIG,
    TENSORS,
    edit_config,
    edit_tensors,
    lora_tensors,
    peft_config,
    write_adapter,
)
from bench.fixtures.tensor_files import Array, to_bfloat16
from tests.builders.base_folders import TINY, LlamaShape, card_of, write_base_folder

CARD = card_of(TINY)
Tensors = dict[str, Array]


def check(folder: Path, **limits: Any) -> PreflightReport:
    return check_folder(folder, CARD, EngineLimits(**limits))


def codes(report: PreflightReport) -> set[str]:
    return {finding.code for finding in report.findings} - {"fingerprint_absent"}


def _rank(module: str) -> int:
    return 4 if module.endswith("q_proj") else 8


def _of_layer_one(old: Tensors) -> Tensors:
    return {key: value for key, value in old.items() if ".layers.1." in key}


GOOD: dict[str, tuple[dict[str, Any], Tensors]] = {
    "two projections": (
        peft_config(targets=["q_proj", "v_proj"]),
        lora_tensors(CARD, targets=("q_proj", "v_proj")),
    ),
    "rank pattern": (
        peft_config(rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 8}),
        lora_tensors(CARD, rank=_rank),
    ),
    "rank stabilised": (peft_config(use_rslora=True), lora_tensors(CARD)),
    "targets by pattern": (
        peft_config(targets=r".*\.(q|k|v|o|gate|up|down)_proj"),
        lora_tensors(CARD),
    ),
    "some layers": (
        peft_config(layers_to_transform=[1], layers_pattern="layers"),
        _of_layer_one(lora_tensors(CARD)),
    ),
    "bfloat16": (
        peft_config(),
        {name: to_bfloat16(array) for name, array in lora_tensors(CARD).items()},
    ),
    "float16": (
        peft_config(),
        {name: array.astype(np.float16) for name, array in lora_tensors(CARD).items()},
    ),
    "rank one": (peft_config(rank=1), lora_tensors(CARD, rank=1)),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_good_adapter_of_any_form_passes(name: str, dtype: str, tmp_path: Path) -> None:
    config, tensors = GOOD[name]
    folder = write_adapter(tmp_path / "adapter", CARD, config=config, tensors=tensors)

    assert codes(check(folder, dtype=dtype)) == set()


def test_an_adapter_of_a_base_folder_passes_on_that_base(tmp_path: Path) -> None:
    base = read_base_model(write_base_folder(tmp_path / "base"))
    folder = write_adapter(tmp_path / "adapter", base)

    report = check_folder(folder, base, EngineLimits())

    assert codes(report) == set()


def test_an_adapter_of_another_size_is_refused_on_every_base(tmp_path: Path) -> None:
    other = card_of(LlamaShape(hidden=96, inner=200, head_dim=24))
    folder = write_adapter(tmp_path / "adapter", other)

    assert "base_larger" in codes(check(folder))


def test_tensors_need_a_base_with_as_many_layers(tmp_path: Path) -> None:
    deeper = card_of(LlamaShape(n_layers=4))
    folder = write_adapter(tmp_path / "adapter", deeper)

    assert codes(check(folder)) == {"layer_beyond_base"}


def test_scaling_that_overflows_b_in_the_engines_type_is_found(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    edit_config(folder, lora_alpha=160)
    edit_tensors(folder, lambda old: {k: np.full_like(v, 5e3) for k, v in old.items()})

    assert "value_overflows" in codes(check(folder, dtype="float16"))
    assert "value_overflows" not in codes(check(folder, dtype="bfloat16"))


def test_a_base_is_recognised_by_the_last_part_of_its_name(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    edit_config(folder, base_model_name_or_path="/models/org/Tiny-Llama/")

    assert codes(check(folder)) == set()


def test_a_wider_engine_takes_what_a_narrower_one_refuses(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)

    assert codes(check(folder, max_rank=4)) == {"rank_above_limit"}
    assert codes(check(folder, target_modules=("q_proj",))) == {"target_outside_engine"}


def test_without_values_nothing_is_said_about_them(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    edit_tensors(folder, lambda old: {k: np.zeros_like(v) for k, v in old.items()})
    spec = parse_lora_config((folder / CONFIG).read_bytes())

    found = preflight(spec, read_tensor_index(folder / TENSORS), CARD, EngineLimits())

    assert found == ()
    assert "adapter_inert" in codes(check(folder))


def test_a_square_module_alone_is_told_as_swapped(tmp_path: Path) -> None:
    folder = write_adapter(
        tmp_path / "adapter",
        CARD,
        config=peft_config(targets=["q_proj"]),
        tensors={k: v.T for k, v in lora_tensors(CARD, targets=("q_proj",)).items()},
    )

    assert codes(check(folder)) == {"ab_swapped"}


def test_one_transposed_half_is_enough(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    edit_tensors(
        folder,
        lambda old: {k: v.T if "down_proj.lora_A" in k else v for k, v in old.items()},
    )

    assert codes(check(folder)) == {"tensor_transposed"}


def test_a_pair_of_an_unknown_module_is_still_looked_at(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    edit_tensors(
        folder,
        lambda old: {
            k.replace("q_proj", "query"): v[:-1] if "q_proj.lora_A" in k else v
            for k, v in old.items()
        },
    )

    assert {"module_unknown", "ranks_disagree"} <= codes(check(folder))


def test_the_report_is_json_and_counts_by_severity(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    edit_config(folder, use_dora=True, base_model_name_or_path="other")

    told = json.loads(json.dumps(check(folder).to_json()))

    assert told["blocked"] is True
    assert told["counts"] == {"blocking": 1, "warning": 1, "info": 1}
    assert [finding["code"] for finding in told["findings"]] == [
        "dora_unsupported", "base_name_differs", "fingerprint_absent",
    ]  # fmt: skip
    assert (told["rank"], told["alpha"], told["n_modules"]) == (8, 16.0, 14)


def test_a_blocked_report_can_be_raised_with_its_findings(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    check(folder).raise_if_blocked()
    edit_config(folder, use_dora=True)

    with pytest.raises(ArtifactRefused) as refused:
        check(folder).raise_if_blocked()

    assert refused.value.fields["findings"][0]["code"] == "dora_unsupported"


def test_an_empty_folder_is_told_as_such(tmp_path: Path) -> None:
    report = check(tmp_path)

    assert codes(report) == {"config_missing", "tensors_missing"}
    assert report.to_json()["rank"] is None


def test_config_findings_are_told_although_the_tensors_cannot_be_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    edit_config(folder, use_dora=True, r=512)
    (folder / TENSORS).write_bytes(b"")

    assert {"dora_unsupported", "rank_above_limit", "tensors_unreadable"} <= codes(check(folder))


def test_a_pickle_beside_good_weights_is_only_left_out(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", CARD)
    (folder / "training_args.bin").touch()

    report = check(folder)

    assert not report.is_blocked
    assert codes(report) == {"file_ignored"}


def test_limits_of_an_unknown_number_type_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="auto"):
        EngineLimits(dtype="auto")
