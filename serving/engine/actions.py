"""Carries out the actions of a plan and writes in the ledger what came of each."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from adapters.errors import ArtifactNotFound, DigestMismatch, StoreUnavailable
from serving.contract import FleetSnapshot, VersionEntry, VersionState
from serving.engine.admission import Admission, AdmissionTimeout
from serving.engine.artifacts import LocalArtifacts
from serving.engine.converge import (
    Abort,
    Action,
    Fetch,
    ForgetArtifact,
    Load,
    Probe,
    Remove,
    Reprobe,
    Stage,
)
from serving.engine.ledger import TRANSIENT, Ledger
from serving.engine.metrics import EngineMetrics
from serving.engine.ports import EngineBusy, EnginePort, EngineUnavailable, LoadRefused
from serving.engine.prober import confirm_probe, run_probe
from serving.engine.tracing import Tracing

_log = structlog.get_logger(__name__)


class Actions:
    """The hands of the agent. What is known of a version afterwards is in the ledger."""

    def __init__(
        self,
        port: EnginePort,
        admission: Admission,
        *,
        artifacts: LocalArtifacts,
        metrics: EngineMetrics,
        tracing: Tracing,
        clock: Callable[[], float],
        load_wait_seconds: float,
    ) -> None:
        self.ledger = Ledger()
        self.artifacts, self.now = artifacts, clock
        self._port, self._admission, self._metrics = port, admission, metrics
        self._tracing, self._load_wait_seconds = tracing, load_wait_seconds

    @property
    def resident(self) -> tuple[str, ...]:
        """Names in CPU memory."""
        return self._admission.resident

    def in_flight(self, name: str) -> int:
        """Requests of this version, whether the engine or only we know of them."""
        return max(self._admission.claims(name), self._port.in_flight(name))

    async def run(self, action: Action, snapshot: FleetSnapshot) -> None:
        """Carry out one action of a plan for this snapshot.

        Raises:
            EngineUnavailable: the engine did not answer an abort or a removal; nothing was noted.
        """
        entries = {entry.name: entry for entry in snapshot.versions}
        match action:
            case Fetch(name=name):
                await self._fetch(entries[name], snapshot.store_url)
            case Load(name=name):
                await self._load(entries[name])
            case Probe(name=name):
                await self._probe(entries[name])
            case Reprobe(name=name):
                await self._reprobe(entries[name])
            case Abort(name=name):
                n_aborted = await self._port.abort(name)
                _log.warning("requests of a quarantined adapter aborted", name=name, n=n_aborted)
            case Remove(name=name, is_forgotten=is_forgotten):
                await self._remove(name, is_forgotten=is_forgotten)
            case ForgetArtifact(digest=digest):
                await self.artifacts.forget(digest)

    async def observe(self) -> list[str]:
        """Read the worker's facts; quarantines what made NaN and returns what is newly so."""
        self._metrics.facts = facts = await self._port.observe()
        detail = "the engine met NaN or Inf in this adapter's logits"
        return [name for name in sorted(facts.non_finite) if self.ledger.quarantine(name, detail)]

    def refused_at_request(self, entry: VersionEntry, refused: LoadRefused) -> None:
        """A proven version could not be loaded again: its bytes are read anew, and soon."""
        self.artifacts.distrust(entry.digest)
        self._metrics.load_failed(refused.reason)
        self.ledger.fail(entry, refused.reason, refused.detail, now=self.now(), backoff=TRANSIENT)

    async def _fetch(self, entry: VersionEntry, store_url: str) -> None:
        self.ledger.begin(entry, VersionState.FETCHING)
        try:
            await self.artifacts.fetch(entry.digest, store_url)
        except (StoreUnavailable, OSError) as exc:
            reason = exc.code if isinstance(exc, StoreUnavailable) else "local_disk"
            self._metrics.load_failed(reason)
            self.ledger.hold(entry, reason, str(exc), now=self.now())
        except (ArtifactNotFound, DigestMismatch) as exc:
            self._fail_load(entry, exc.code, str(exc))
        finally:
            self.ledger.end(entry)

    async def _load(self, entry: VersionEntry) -> None:
        self.ledger.begin(entry, VersionState.LOADING)
        try:
            lease = await self._admission.lease(entry.name, wait_seconds=self._load_wait_seconds)
            lease.release()
            self.ledger.reached(entry, Stage.LOADED)
        except LoadRefused as exc:
            self._fail_load(entry, exc.reason, exc.detail)
        except (AdmissionTimeout, EngineBusy, EngineUnavailable) as exc:
            self._hold(entry, exc)
        finally:
            self.ledger.end(entry)

    async def _probe(self, entry: VersionEntry) -> None:
        self.ledger.begin(entry, VersionState.LOADING)
        try:
            lease = await self._admission.lease(entry.name, wait_seconds=self._load_wait_seconds)
            # A probe takes a slot as the gate's requests do.
            try:
                with self._tracing.span(entry.name, is_gate=True):
                    failure = await run_probe(self._port, entry.name, entry.probe)
            finally:
                lease.release()
            self.ledger.probed(entry.name, now=self.now())
            if failure is None:
                self._metrics.probed("passed")
                self.ledger.reached(entry, Stage.PROVEN)
            else:
                self._metrics.probe_failed(entry.name)
                self.ledger.fail(entry, failure.reason, failure.detail, now=self.now())
        except LoadRefused as exc:
            self._fail_load(entry, exc.reason, exc.detail)
        except (AdmissionTimeout, EngineBusy, EngineUnavailable) as exc:
            self._hold(entry, exc)
        finally:
            self.ledger.end(entry)

    async def _reprobe(self, entry: VersionEntry) -> None:
        lease = self._admission.lease_quietly(entry.name)
        if lease is None:
            return
        try:
            with self._tracing.span(entry.name, is_gate=True):
                failure = await confirm_probe(self._port, entry.name, entry.probe)
        except EngineUnavailable as exc:
            # Says nothing about the version, which goes on answering.
            self._metrics.probed("unanswered")
            self.ledger.probed(entry.name, now=self.now())
            _log.warning("a scheduled probe was not answered", name=entry.name, reason=str(exc))
            return
        finally:
            lease.release()
        self.ledger.probed(entry.name, now=self.now())
        if failure is None:
            self._metrics.probed("passed")
            return
        self._metrics.probe_failed(entry.name)
        self.ledger.quarantine(entry.name, failure.detail, reason=failure.reason)
        _log.error(
            "adapter no longer answers as proven and is quarantined",
            name=entry.name, reason=failure.reason, detail=failure.detail,
        )  # fmt: skip

    async def _remove(self, name: str, *, is_forgotten: bool) -> None:
        # Looked at again here, with no await before the removal: a request may have come since.
        if self.in_flight(name):
            return
        await self._admission.remove(name, is_forgotten=is_forgotten)
        self.ledger.removed(name, is_forgotten=is_forgotten)
        if is_forgotten:
            self._metrics.forget(name)

    def _fail_load(self, entry: VersionEntry, reason: str, detail: str) -> None:
        self._metrics.load_failed(reason)
        self.ledger.fail(entry, reason, detail, now=self.now())

    def _hold(self, entry: VersionEntry, exc: Exception) -> None:
        reason = {AdmissionTimeout: "no_room", EngineBusy: "no_room"}.get(
            type(exc), "engine_unavailable"
        )
        self._metrics.load_failed(reason)
        self.ledger.hold(entry, reason, str(exc), now=self.now())
