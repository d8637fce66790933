"""Ties the engine room together inside vLLM's API process: one object, made by `compat`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from serving.contract import EngineReport, FleetSnapshot, Role, TracePage
from serving.engine import resolution
from serving.engine.actions import Actions
from serving.engine.admission import Admission, AdmissionTimeout, Lease
from serving.engine.agent import Agent
from serving.engine.artifacts import LocalArtifacts
from serving.engine.clearance import Clearance, choose_probes
from serving.engine.credentials import Credentials
from serving.engine.departure import Departure, Stage
from serving.engine.journal import Hold, Journal
from serving.engine.link import Link, link_of
from serving.engine.metrics import EngineMetrics
from serving.engine.ports import EngineBusy, EnginePort, EngineUnavailable, LoadRefused
from serving.engine.refusals import require_allowed, require_answer, unavailable, unknown_model
from serving.engine.report import with_counts
from serving.engine.residency import Residency
from serving.engine.resolution import REFUSED_FIELDS, BaseModel, Resolved, Table
from serving.engine.scope import RequestRefused, RequestScope
from serving.engine.series import FinishedRequest
from serving.engine.tenancy import open_door
from serving.engine.tracing import Tracing
from serving.settings import EngineSettings


class EngineRuntime:
    """Agent, leases, tenancy and metrics of one engine. Implements `scope.Door`."""

    def __init__(
        self,
        settings: EngineSettings,
        port: EnginePort,
        *,
        registry: CollectorRegistry,
        link: Link | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`link` None: HTTP to the controller of the settings, if they name one.

        Raises:
            SecretMissing: the settings have no cluster secret.
        """
        self._settings, self._port = settings, port
        known = Credentials(settings.cluster_secret, settings.metrics_token)
        self.hash_key, self.fingerprint = known.hash_key, known.fingerprint
        self.is_metrics_token, self.is_engine_token = known.is_metrics_token, known.is_engine_token
        self._gate_key_hash = known.gate_key_hash
        self.tracing = Tracing.of(settings)
        self._description = port.describe()
        self.table: Table | None = None
        """The followed snapshot; None before the first."""
        self.is_open = False
        """Whether every key of `table` is let in. Known beforehand, as each request asks."""
        self._started_at = time.time()
        self._clock = clock
        self.departure = Departure(clock)
        self._clearance = Clearance(self._description.kind)
        self.metrics = EngineMetrics(
            gpu_slots=self._description.gpu_slots,
            clock=clock,
            max_adapters=settings.metrics_max_adapters,
        )
        self.metrics.register(registry)
        self._journal = Journal(self.tracing, self.metrics, clock)
        self.admission = self._make_admission()
        self._actions = Actions(
            port,
            self.admission,
            artifacts=LocalArtifacts(settings.engine_dir / "artifacts"),
            metrics=self.metrics,
            tracing=self.tracing,
            clock=clock,
            load_wait_seconds=settings.load_wait_seconds,
        )
        self.residency = Residency(
            port,
            self.admission,
            engine_id=settings.engine_id,
            metrics=self.metrics,
            clock=clock,
            is_usable=lambda name: name in self._actions.ledger.usable,
        )
        self.agent = self._make_agent(link or link_of(settings))

    def _make_admission(self) -> Admission:
        return Admission(
            self._port,
            cpu_slots=self._description.cpu_slots,
            path_of=self._path_of,
            importance_of=self._importance_of,
            on_read=lambda name: self._actions.ledger.reread(name),
            is_hot=lambda name: self.residency.is_hot(name),
            clock=self._clock,
        )

    def _make_agent(self, link: Link | None) -> Agent:
        settings = self._settings
        return Agent(
            self._actions,
            link,
            fleet=settings.fleet,
            snapshot_path=settings.engine_dir / "snapshot.json",
            poll_seconds=settings.poll_seconds,
            report_seconds=settings.report_seconds,
            follow=self._follow,
            make_report=self.report,
            is_draining=lambda: self.departure.is_draining,
            adapt=self._adapt,
            engine_id=settings.engine_id,
            probe_seconds=settings.probe_interval_seconds,
        )

    @property
    def gate_priority(self) -> int:
        """Scheduling class of the gate's requests; 0 where the engine knows no classes."""
        return self._description.last_priority

    async def start(self) -> None:
        """Take over the saved snapshot and start converging; returns at once."""
        self.agent.start()

    async def stop(self) -> None:
        """Turn new requests away and end what runs in the background."""
        self.drain()
        await self.agent.stop()
        await self.residency.stop()
        await self.admission.stop()
        self.tracing.close()

    def leave(self, seconds: float | None = None) -> None:
        """Stop being ready now, and letting requests in after `seconds` (None: the setting)."""
        self.is_open = False
        self.departure.leave(self._settings.leave_seconds if seconds is None else seconds)
        self.agent.hint()

    def drain(self) -> None:
        """Turn new requests away; those in flight go on."""
        self.leave(0.0)

    def hint(self) -> None:
        """The engine has something new to tell (a non-finite adapter): look now."""
        self.agent.hint()

    def try_admit(
        self, scope: RequestScope, model: str | None, fields: Mapping[str, object]
    ) -> bool:
        """As `admit` in the usual case: this key has asked for this model before, and it is there.

        False: nothing was done, and `admit` is to be called.
        """
        table = self.table
        if table is None or fields or not model or scope.answer is not None:
            return False
        found = table.found.get((scope.grant.key_hash, model))
        if found is None or found.entry.name not in self._actions.ledger.usable:
            return False
        lease = self.admission.lease_resident(found.entry.name)
        if lease is None:
            return False
        self._hold(scope, lease, self._clock())
        scope.asked_model, scope.answer = model, found
        return True

    async def admit(
        self, scope: RequestScope, model: str | None, fields: Mapping[str, object]
    ) -> None:
        """Resolve a request once and hold its version in memory until the response has ended.

        Called again for the same request (one route of vLLM calls another) it changes nothing.

        Raises:
            RequestRefused: the request must not be answered.
        """
        try:
            if scope.answer is not None:
                if model != scope.asked_model:
                    raise unknown_model(model or "")
                return
            if fields and not REFUSED_FIELDS.keys().isdisjoint(fields):
                require_allowed(fields)
            answer = self._resolve(scope, model)
            if isinstance(answer, Resolved):
                asked_at = self._clock()
                lease = self.admission.lease_resident(answer.entry.name)
                if lease is None:
                    lease = await self._bring_in(answer)
                self._hold(scope, lease, asked_at)
        except RequestRefused as exc:
            self.count_rejection(exc.code)
            scope.retry_after_seconds = exc.retry_after_seconds
            raise
        scope.asked_model, scope.answer = model, answer

    def _hold(self, scope: RequestScope, lease: Lease, asked_at: float) -> None:
        """Keep the version in memory until the response has ended, and write both down."""
        is_gate = scope.is_gate
        scope.hold = Hold(self._journal, lease, asked_at=asked_at, is_gate=is_gate)
        if not is_gate:
            self.residency.asked(lease.name)

    def _resolve(self, scope: RequestScope, model: str | None) -> Resolved | BaseModel:
        if self.table is None:
            raise unavailable("starting", "The engine has no snapshot yet.")
        usable = self._actions.ledger.usable
        return require_answer(resolution.resolve(self.table, scope.grant, model, proven=usable))

    async def _bring_in(self, answer: Resolved) -> Lease:
        name = answer.entry.name
        try:
            return await self.admission.lease(name, wait_seconds=self._settings.load_wait_seconds)
        except LoadRefused as exc:
            self._actions.refused_at_request(answer.entry, exc)
            self.hint()
            raise unavailable("adapter_not_ready", f"`{name}` could not be loaded.") from exc
        except (AdmissionTimeout, EngineBusy) as exc:
            raise unavailable(
                "adapters_busy", f"No room for `{name}` in time: too many adapters in use."
            ) from exc
        except EngineUnavailable as exc:
            raise unavailable("engine_unavailable", "The engine does not answer.") from exc

    def listing(self, scope: RequestScope) -> list[tuple[str, str | None]]:
        """(id, parent) of the models that this key may name."""
        return [] if self.table is None else resolution.listing(self.table, scope.grant)

    def record_finished(self, make: Callable[[], FinishedRequest]) -> None:
        """Count a request that the engine finished; `make` is called when it is counted."""
        self._journal.note(make)

    def unix_seconds(self) -> float:
        """Wall clock, for the expiry of keys."""
        return time.time()

    def readiness(self) -> str | None:
        """None when ready, else what is waited for."""
        if self.departure.stage is not Stage.SERVING:
            return "the engine is stopping"
        if self.table is None:
            return "the first snapshot"
        if not self.agent.is_settled:
            return "the proof of this engine's versions"
        if self.waits_for_gate:
            kind = self._clearance.kind
            return f"the gate of build {kind.build}, base {kind.base_revision[:12]}, {kind.dtype}"
        self._clearance.note_served()
        self.is_open = True
        return None

    @property
    def waits_for_gate(self) -> bool:
        """Whether tenants are turned away until the gate has measured on this engine."""
        return self._clearance.is_waiting(self.agent.snapshot)

    async def trace_page(self, after: int, limit: int) -> TracePage | None:
        """Events of the access trace; None where this engine keeps none."""
        return await self.tracing.page(after, limit)

    async def refresh_facts(self) -> None:
        """Read the worker's counts again."""
        self.metrics.facts = await self._port.observe()
        self._note_state()

    def count_rejection(self, reason: str) -> None:
        """Count a request that was turned away."""
        self.metrics.rejected(reason)

    def report(self) -> EngineReport:
        """What this engine observes now."""
        self._note_state()
        about, settings = self._description, self._settings
        report = EngineReport(
            engine_id=settings.engine_id,
            url=settings.advertise_url or f"http://{settings.host}:{settings.engine_port}",
            build=about.build,
            dtype=about.dtype,
            revision=self.agent.followed_revision,
            is_ready=self.readiness() is None,
            stopping=self.departure.stage is not Stage.SERVING,
            waits_for_gate=self._waits_for_nothing_else(),
            base_revision=about.base_revision,
            started_at=self._started_at,
            gpu_slots=about.gpu_slots,
            cpu_slots=about.cpu_slots,
            max_rank=about.max_rank,
            max_model_len=about.max_model_len,
            versions=self._actions.ledger.reports(self._actions.in_flight),
            unhooked=dict(about.unhooked),
        )
        return with_counts(report, self.metrics)

    def _waits_for_nothing_else(self) -> bool:
        is_serving = self.departure.stage is Stage.SERVING
        return is_serving and self.agent.is_settled and self.waits_for_gate

    def _note_state(self) -> None:
        self.metrics.pinned = self.residency.pinned(self.metrics.facts.active)
        self.metrics.n_trace_events = self.tracing.end

    def _adapt(self, snapshot: FleetSnapshot) -> FleetSnapshot:
        # From here on it says who may come in, and `table` does not follow it yet.
        self.is_open = False
        return choose_probes(snapshot, self._clearance.kind)

    def _follow(self, snapshot: FleetSnapshot) -> None:
        self.table = resolution.compile_table(snapshot, gate_key_hash=self._gate_key_hash)
        self.metrics.snapshot_revision = snapshot.revision
        self.is_open = self.departure.stage is Stage.SERVING and not self.waits_for_gate
        self.residency.follow(snapshot)

    def _path_of(self, name: str) -> str:
        return str(self._actions.artifacts.path(self._actions.ledger.digest_of(name)))

    def _importance_of(self, name: str) -> int:
        table = self.table
        entry = None if table is None else table.versions.get(name)
        if table is None or entry is None or entry.role is not Role.SERVING:
            return 0
        return 2 if name in table.alias_targets else 1


_runtime: EngineRuntime | None = None


def set_runtime(runtime: EngineRuntime | None) -> None:
    """Make this the process's runtime and let the middleware ask it."""
    global _runtime
    _runtime = runtime
    open_door(runtime)


def get_runtime() -> EngineRuntime | None:
    """The process's runtime; None before `compat` has made it."""
    return _runtime
