"""One engine against many: who is asked, what is modelled, and what a merged model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.closed_loop import Ask
from bench.merged_base import MergeFailed, write_merged
from bench.scenarios.multi_lora_or_standalone import (
    ALONE,
    SHARED,
    Side,
    asks_of,
    cores_of,
    idle_figures,
    load_figures,
    model,
)
from bench.server import processor_seconds


def row(side: str, load: str, run: int, value: float) -> dict[str, Any]:
    keys = ("tokens_per_second", "ttft_p50_ms", "ttft_p99_ms", "e2e_p50_ms", "e2e_p99_ms")
    return {"side": side, "load": load, "run": run, **dict.fromkeys(keys, value)}


def test_requests_go_to_the_tenants_in_turn_or_all_to_the_first() -> None:
    side = Side(ALONE, tuple(Ask(f"http://{n}", "m", None, n) for n in range(3)), (), ())

    assert [ask.adapter for ask in asks_of(side, "all tenants", n=7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [ask.adapter for ask in asks_of(side, "one tenant", n=3)] == [0, 0, 0]


def test_ratios_are_of_one_engine_to_the_standalone_ones_in_the_same_run() -> None:
    rows = [
        row(side, load, run, value)
        for load in ("all tenants", "one tenant")
        for run, side, value in ((1, ALONE, 4), (0, SHARED, 10), (1, SHARED, 2), (0, ALONE, 5))
    ]

    (ratio,) = (
        f for f in load_figures(rows)
        if (f.name, f.unit, f.group.partition(":")[0]) == ("throughput", "x", "one tenant")
    )  # fmt: skip

    assert ratio.values == (2, 0.5)


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.integers(1, 8), st.integers(0, 56))
def test_the_model_is_linear_and_is_what_was_measured_for_the_real_ones(
    shared: float, alone: float, n_real: int, more: int
) -> None:
    one, many = model([shared], [alone], n_real=n_real, n=n_real + more, per_adapter=0.5)

    assert one[0] == pytest.approx(shared + 0.5 * more)
    assert many[0] == pytest.approx(alone + more * alone / n_real)


def test_what_is_modelled_says_so() -> None:
    idle = [
        {"side": side, "load": "idle", "run": 0, "gib": 3.0, "processor_seconds_per_minute": 1.0}
        for side in (SHARED, ALONE)
    ]

    groups = {f.group for f in idle_figures(idle, n_real=2, adapter_gib=0.01)}

    assert {"2 tenants, measured", "64 tenants, modelled"} <= groups
    assert not any("modelled" in group and group.startswith("2 ") for group in groups)


@pytest.mark.parametrize(
    ("n", "n_cores", "shares"),
    [(2, 2, ["0-0", "1-1"]), (2, 8, ["0-3", "4-7"]), (3, 2, ["0-0", "1-1", "0-0"])],
)
def test_standalone_engines_get_equal_shares_of_the_cores(
    n: int, n_cores: int, shares: list[str]
) -> None:
    assert [cores_of(number, n, n_cores) for number in range(n)] == shares


def write_stat(proc: Path, pid: int, group: int, user: int, system: int) -> None:
    (proc / str(pid)).mkdir(parents=True)
    fields = ["S", "1", str(group), *["0"] * 8, str(user), str(system)]
    (proc / str(pid) / "stat").write_text(f"{pid} (a) name) {' '.join(fields)} 0")


def test_processor_time_is_that_of_the_whole_group_and_of_no_other(tmp_path: Path) -> None:
    write_stat(tmp_path, 10, 10, 100, 50)
    write_stat(tmp_path, 11, 10, 30, 20)
    write_stat(tmp_path, 12, 12, 999, 999)

    ticks = processor_seconds(10, proc=tmp_path) / processor_seconds(12, proc=tmp_path)

    assert ticks == pytest.approx(200 / 1998)


def test_a_merged_model_is_base_plus_scaled_product_and_a_foreign_adapter_is_refused(
    tmp_path: Path,
) -> None:
    torch = pytest.importorskip("torch", reason="the engine extra (torch, vLLM) is not installed")
    from safetensors.torch import load_file, save_file

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    weights = {"layers.0.q.weight": torch.ones(3, 2), "embed.weight": torch.zeros(2, 2)}
    save_file(weights, str(base / "model.safetensors"))
    (base / "config.json").write_text("{}")
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 1, "lora_alpha": 2}))
    pair = {"lora_A": torch.tensor([[1.0, 2.0]]), "lora_B": torch.tensor([[1.0], [0.0], [3.0]])}
    tensors = {f"base_model.model.layers.0.q.{key}.weight": value for key, value in pair.items()}
    save_file(tensors, str(adapter / "adapter_model.safetensors"))

    merged = write_merged(base, adapter, tmp_path / "merged", dtype="float32")

    found = load_file(str(merged / "model.safetensors"))
    assert found["layers.0.q.weight"].tolist() == [[3, 5], [1, 1], [7, 13]]
    assert found["embed.weight"].tolist() == [[0, 0], [0, 0]]
    assert (merged / "config.json").exists()
    save_file({"other.weight": torch.ones(1)}, str(base / "model.safetensors"))
    with pytest.raises(MergeFailed, match=r"layers\.0\.q"):
        write_merged(base, adapter, tmp_path / "again", dtype="float32")
