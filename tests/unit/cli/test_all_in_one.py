"""`loraplane up` hands its children what flags and environment say."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.cli.all_in_one import UpPlan, child_specs
from serving.settings import ControllerSettings


def engine_environment(plan: UpPlan) -> dict[str, str]:
    (engine,) = [spec for spec in child_specs(plan) if spec.name == "engine-0"]
    return dict(engine.environment)


def test_an_engine_setting_in_the_environment_reaches_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPLANE_WITHOUT_HOOKS", "kv_zeroing")
    monkeypatch.setenv("LORAPLANE_LOAD_WAIT_SECONDS", "7")

    environment = engine_environment(UpPlan(controller=ControllerSettings(data_dir=tmp_path)))

    assert environment["LORAPLANE_WITHOUT_HOOKS"] == "kv_zeroing"
    assert environment["LORAPLANE_LOAD_WAIT_SECONDS"] == "7.0"


def test_a_profile_flag_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPLANE_GPU_SLOTS", "2")
    plan = UpPlan(
        controller=ControllerSettings(data_dir=tmp_path),
        engine_environment={"LORAPLANE_GPU_SLOTS": "5"},
    )

    assert engine_environment(plan)["LORAPLANE_GPU_SLOTS"] == "5"


def test_each_engine_has_its_own_name_folder_and_port(tmp_path: Path) -> None:
    plan = UpPlan(controller=ControllerSettings(data_dir=tmp_path), n_engines=2, engine_port=9000)

    engines = [spec.environment for spec in child_specs(plan) if spec.name != "controller"]

    for name in ("ENGINE_ID", "ENGINE_DIR", "ENGINE_PORT"):
        assert len({engine[f"LORAPLANE_{name}"] for engine in engines}) == 2
