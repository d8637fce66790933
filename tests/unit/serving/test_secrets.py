"""Secrets are made once, whole or not at all, and shown nowhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.settings import ControllerSettings, EngineSettings, ensure_secret


def test_a_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"

    first, second = ensure_secret(path, None), ensure_secret(path, None)

    assert first == second
    assert len(first) >= 43
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["secret"]


def test_a_given_secret_wins_and_is_not_stored(tmp_path: Path) -> None:
    assert ensure_secret(tmp_path / "secret", "given") == "given"
    assert not (tmp_path / "secret").exists()


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ensure_secret(tmp_path / "secret", None), range(32)))

    assert len(set(found)) == 1
    assert found[0]


def test_settings_do_not_show_secrets() -> None:
    shown = repr(ControllerSettings(admin_token="aaa-secret", cluster_secret="bbb-secret"))
    shown += repr(EngineSettings(cluster_secret="ccc-secret"))

    assert "secret'" not in shown
    assert "aaa" not in shown
