"""Settings as a child process reads what its parent wrote."""

from __future__ import annotations

from serving.settings import EngineSettings


def test_a_child_reads_the_settings_that_its_parent_wrote_also_where_they_are_none() -> None:
    for settings in (
        EngineSettings(cluster_secret="s"),
        EngineSettings(controller_url=None, gpu_slots=3, probe_interval_seconds=0.0),
    ):
        assert EngineSettings.from_environment(settings.to_environment()) == settings


def test_an_empty_variable_is_as_good_as_none_at_all() -> None:
    assert EngineSettings.from_environment({"LORAPLANE_CONTROLLER_URL": ""}) == EngineSettings()
