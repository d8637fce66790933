"""The process's own metrics, in a registry that `steps.metrics` adds to. Names are public."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from serving.controller.capacity_metrics import CapacityCollector, CapacityGauges

BACKGROUND_TASKS = ("capacity", "residency")


class ControllerMetrics:
    """Counters are raised where things happen; gauges are set from the registry at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.upload_bytes = Counter(
            "loraplane_upload_bytes",
            "Bytes of upload requests, refused ones included.",
            registry=self.registry,
        )
        self._versions = Gauge(
            "loraplane_versions", "Versions in each state.", ["state"], registry=self.registry
        )
        self._engines = Gauge(
            "loraplane_engines",
            "Engines that are ready, starting (reporting, not ready), waiting_for_gate, stopping "
            "or unreachable.",
            ["state"],
            registry=self.registry,
        )
        self._lag = Gauge(
            "loraplane_snapshot_lag_revisions",
            "Revisions that an engine's aliases are behind; of reachable engines.",
            ["engine"],
            registry=self.registry,
        )

        self._outages = Gauge(
            "loraplane_versions_out_of_service",
            "Versions that an engine reports failed or quarantined; of reachable engines.",
            ["engine"],
            registry=self.registry,
        )

        self._ages = Gauge(
            "loraplane_version_state_seconds",
            "Age of the oldest version that is in a state which ends by itself; 0: there is none.",
            ["state"],
            registry=self.registry,
        )
        self._leader = Gauge(
            "loraplane_leader",
            "1 while this process leads: runs the steps; 0 while it stands by.",
            registry=self.registry,
        )
        self._leads = Counter(
            "loraplane_leader_transitions",
            "Times that this process began to lead.",
            registry=self.registry,
        )
        self._capacity = CapacityCollector()
        self.registry.register(self._capacity)
        self.background_failures = Counter(
            "loraplane_background_failures",
            "Turns of the controller's background work that ended in an error nobody expected.",
            ["task"],
            registry=self.registry,
        )
        for task in BACKGROUND_TASKS:
            self.background_failures.labels(task)

    def begin_lead(self) -> None:
        """This process runs the steps from now on."""
        self._leader.set(1)
        self._leads.inc()

    def end_lead(self) -> None:
        """It runs none any more."""
        self._leader.set(0)

    def show_versions(
        self, count_by_state: Mapping[str, int], *, age_seconds: Mapping[str, float]
    ) -> None:
        """Set `versions{state}`, and the age of the oldest version in each of these states."""
        for state, count in count_by_state.items():
            self._versions.labels(state).set(count)
        for state, age in age_seconds.items():
            self._ages.labels(state).set(age)

    def show_capacity(self, gauges: CapacityGauges) -> None:
        """Set the gauges of capacity; what is left out disappears."""
        self._capacity.gauges = gauges

    def show_engines(
        self,
        count_by_state: Mapping[str, int],
        *,
        lags: Mapping[str, int],
        outages: Mapping[str, int],
    ) -> None:
        """Set the engines' gauges: how many in each state, and by engine lag and outages.

        Engines that are left out disappear.
        """
        for state, count in count_by_state.items():
            self._engines.labels(state).set(count)
        self._lag.clear()
        for engine, lag in lags.items():
            self._lag.labels(engine).set(lag)
        self._outages.clear()
        for engine, count in outages.items():
            self._outages.labels(engine).set(count)

    def expose(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)
