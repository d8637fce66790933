from __future__ import annotations

from serving.controller.capacity_metrics import CapacityGauges
from serving.controller.metrics import ControllerMetrics


def test_what_is_not_known_has_no_series() -> None:
    text = ControllerMetrics().expose().decode()

    assert "# TYPE loraplane_recommended_engines gauge" in text
    assert "\nloraplane_recommended_engines " not in text
    assert "loraplane_slot_miss_ratio{" not in text


def test_series_end_with_what_they_are_about() -> None:
    metrics = ControllerMetrics()
    metrics.show_capacity(
        CapacityGauges(miss_ratio={8: 0.25}, lag_events={"engine-0": 3, "engine-1": 0})
    )
    first = metrics.expose().decode()
    metrics.show_capacity(CapacityGauges(lag_events={"engine-1": 0}, recommended_engines=2))
    second = metrics.expose().decode()

    assert 'loraplane_slot_miss_ratio{slots="8"} 0.25' in first
    assert 'loraplane_capacity_observer_lag_events{engine="engine-0"} 3.0' in first
    assert "engine-0" not in second
    assert "\nloraplane_recommended_engines 2.0" in second
