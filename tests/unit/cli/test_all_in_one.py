"""What `loraplane up` starts, without starting it."""

from __future__ import annotations

from pathlib import Path

from serving.cli.all_in_one import UpPlan, child_specs
from serving.settings import ControllerSettings, EngineSettings


def plan(data_dir: Path, *, n_engines: int = 2) -> UpPlan:
    return UpPlan(
        controller=ControllerSettings(data_dir=data_dir, controller_port=9400, model="/models/m"),
        n_engines=n_engines,
        engine_port=9500,
        engine_environment={"LORAPLANE_MODEL": "/models/m", "LORAPLANE_GPU_SLOTS": "3"},
    )


def test_engines_and_controller_share_one_secret_that_is_kept(tmp_path: Path) -> None:
    controller, *engines = child_specs(plan(tmp_path))

    secret = controller.environment["LORAPLANE_CLUSTER_SECRET"]
    assert [engine.environment["LORAPLANE_CLUSTER_SECRET"] for engine in engines] == [secret] * 2
    assert (tmp_path / "cluster-secret").read_text().strip() == secret
    assert (tmp_path / "admin-token").stat().st_mode & 0o777 == 0o600
    again, *_ = child_specs(plan(tmp_path))
    assert again.environment == controller.environment


def test_each_engine_has_its_own_name_folder_and_port(tmp_path: Path) -> None:
    _, first, second = (
        EngineSettings.from_environment(dict(spec.environment))
        if spec.name != "controller"
        else None
        for spec in child_specs(plan(tmp_path))
    )

    assert first is not None
    assert second is not None
    assert (first.engine_id, first.engine_port) == ("engine-0", 9500)
    assert (second.engine_id, second.engine_port) == ("engine-1", 9501)
    assert first.engine_dir != second.engine_dir
    assert second.advertise_url == "http://127.0.0.1:9501"
    assert (first.gpu_slots, first.model) == (3, "/models/m")


def test_engines_are_over_before_the_controller_is_asked_to_stop(tmp_path: Path) -> None:
    controller, *engines = child_specs(plan(tmp_path))

    assert all(engine.stop_order < controller.stop_order for engine in engines)


def test_an_engine_that_listens_everywhere_is_told_as_a_reachable_address(tmp_path: Path) -> None:
    everywhere = ControllerSettings(data_dir=tmp_path, host="0.0.0.0", model="/models/m")  # noqa: S104

    assert UpPlan(controller=everywhere).engine_urls == ["http://127.0.0.1:8500"]
    assert UpPlan(controller=everywhere).controller_url == "http://127.0.0.1:8400"
