"""A fake of the engine: the same promises as vLLM with our plugin, kept by a tiny model on CPU.

It converges to snapshots, reports, and answers the completions route by really running the model.
It earns trust only by passing tests/contract/test_engine_contract.py, as the real one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

import httpx
import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from adapters.base_model import read_base_model
from adapters.errors import NameError_
from adapters.identity import parse_model_name
from serving.contract import (
    EngineKind,
    EngineReport,
    FleetSnapshot,
    KeyGrant,
    Probe,
    Role,
    TraceEvent,
    TraceKind,
    TracePage,
    VersionEntry,
    VersionReport,
    VersionState,
    engine_token,
    hash_key,
)
from serving.engine.clearance import Clearance, choose_probes
from tests.fakes.tiny_model import LoadRefused, TinyModel


class Link(Protocol):
    """How an engine meets its controller; HTTP or in process."""

    async def pull(self, *, engine_id: str, after: int, wait: float) -> FleetSnapshot | None:
        """The snapshot when newer than `after`, else None."""

    async def report(self, report: EngineReport) -> None:
        """Record what was observed."""


@dataclass
class Faults:
    """What a test can break."""

    is_down: bool = False
    """Connections are dropped with 503 and nothing is reported."""
    answers_with_base: bool = False
    """The known disaster: an adapter that is listed but not applied."""
    refuses: dict[str, str] = field(default_factory=dict)
    """Version name -> reason with which loading fails."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Version or base name -> error status of its answers."""
    logprob: float | None = None
    """Stands in every answer for the real ones."""
    before_answer: Callable[[str], Awaitable[None]] | None = None

    def check(self, name: str) -> None:
        if name in self.refuses:
            raise LoadRefused(self.refuses[name], "a test wants it so")


class FakeEngine:
    def __init__(
        self,
        *,
        model: TinyModel,
        link: Link,
        cluster_secret: str,
        engine_id: str = "engine-0",
        fleet: str = "base",
    ) -> None:
        self.model, self.link, self.faults = model, link, Faults()
        self.engine_id, self.fleet, self.url = engine_id, fleet, "http://unserved"
        self.is_ready = True
        self.dtype = "float32"
        self.build = "fake engine 1"
        self.base_revision = read_base_model(model.base).revision
        self._clearance: Clearance | None = None
        self.snapshot: FleetSnapshot | None = None
        self.seen: set[str] = set()
        """Every version name that any snapshot ever showed to this engine."""
        self.asked: list[str] = []
        """Model names of answered requests, in order: the world's state, seen from the engine."""
        self._secret = cluster_secret
        self._reports: dict[str, VersionReport] = {}
        self._in_flight: dict[str, int] = {}
        self.trace: list[TraceEvent] = []
        """What the real engine keeps in its ring; nothing is ever lost here."""
        self._last_report: EngineReport | None = None
        self._silent_turns = 0
        self._started_at = time.time()
        self.app = self._build_app()

    async def converge(self, *, wait: float = 0.0) -> None:
        """Pull once, load and prove what is new, unload what is gone, report."""
        if self.faults.is_down:
            return
        after = self.snapshot.revision if self.snapshot else -1
        snapshot = await self.link.pull(engine_id=self.engine_id, after=after, wait=wait)
        if self.faults.is_down:
            return
        if snapshot is not None:
            self.seen |= {entry.name for entry in snapshot.versions}
            await self._apply(snapshot)
            self.snapshot = snapshot
        report = self.report()
        if report.is_ready:
            self._own_clearance().note_served()
        self._silent_turns += 1
        if report != self._last_report or self._silent_turns >= 5:
            await self.link.report(report)
            self._last_report, self._silent_turns = report, 0

    async def run(self) -> None:
        """Converge until cancelled, whatever becomes of a turn's calls to the controller."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await self.converge(wait=0.2)
            await asyncio.sleep(0.04)

    def report(self) -> EngineReport:
        versions = [
            VersionReport(
                name=item.name,
                digest=item.digest,
                state=item.state,
                reason=item.reason,
                detail=item.detail,
                in_flight=self._in_flight.get(item.name, 0),
                attempt=item.attempt,
            )
            for item in self._reports.values()
        ]
        is_settled = self.is_ready and self.snapshot is not None
        return EngineReport(
            engine_id=self.engine_id,
            url=self.url,
            build=self.build,
            dtype=self.dtype,
            revision=self.snapshot.revision if self.snapshot else -1,
            is_ready=is_settled and not self.waits_for_gate,
            waits_for_gate=is_settled and self.waits_for_gate,
            base_revision=self.base_revision,
            started_at=self._started_at,
            gpu_slots=8,
            cpu_slots=64,
            max_rank=16,
            max_model_len=2048,
            versions=versions,
            active=self._proven(),
            cached=self._proven(),
            pinned=[name for name in self._wishes() if name in self._proven()],
            trace_position=len(self.trace),
        )

    @property
    def kind(self) -> EngineKind:
        return EngineKind(self.build, self.base_revision, self.dtype)

    @property
    def waits_for_gate(self) -> bool:
        return self._own_clearance().is_waiting(self.snapshot)

    def _own_clearance(self) -> Clearance:
        """A new one when a test makes this another kind of engine, as a restart would."""
        if self._clearance is None or self._clearance.kind != self.kind:
            self._clearance = Clearance(self.kind)
        return self._clearance

    def _proven(self) -> list[str]:
        """All of them hold a slot: the fake never has too many."""
        return [n for n, item in self._reports.items() if item.state is VersionState.PROVEN]

    def _wishes(self) -> list[str]:
        """What to keep hot, as the snapshot says for this engine."""
        residency = self.snapshot.residency if self.snapshot else []
        return [n for wishes in residency if wishes.engine == self.engine_id for n in wishes.hot]

    async def _apply(self, snapshot: FleetSnapshot) -> None:
        wanted = {entry.name: entry for entry in snapshot.versions}
        for name in [name for name in self._reports if name not in wanted]:
            if not self._in_flight.get(name):
                gone = self._reports.pop(name)
                await asyncio.to_thread(self.model.unload, _key(gone.digest))
        for entry in choose_probes(snapshot, self.kind).versions:
            known = self._reports.get(entry.name)
            if known and known.attempt >= entry.attempt and known.state is VersionState.FAILED:
                continue
            self._reports[entry.name] = await self._prove(entry, snapshot.store_url)

    async def _prove(self, entry: VersionEntry, store_url: str) -> VersionReport:
        state, reason, detail = VersionState.PROVEN, None, None
        try:
            self.faults.check(entry.name)
            folder = artifact_folder(store_url, entry.digest)
            _verify(folder, entry)
            await asyncio.to_thread(self.model.load, folder, _key(entry.digest))
            if entry.role is Role.SERVING and entry.probe:
                await asyncio.to_thread(self._run_probe, entry.probe, _key(entry.digest))
        except LoadRefused as exc:
            state, reason, detail = VersionState.FAILED, exc.reason, exc.detail
        return VersionReport(
            name=entry.name,
            digest=entry.digest,
            state=state,
            reason=reason,
            detail=detail,
            attempt=entry.attempt,
        )

    def _run_probe(self, probe: Probe, key: str) -> None:
        for case in probe.cases:
            answer = self.model.generate(
                case.prompt_token_ids, max_tokens=len(case.expected_token_ids), key=key
            )
            if answer.token_ids != case.expected_token_ids:
                raise LoadRefused("probe_mismatch", "other tokens than the gate recorded")

    def _build_app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/completions")
        async def complete(request: Request) -> JSONResponse:
            return await self._complete(request)

        @app.get("/loraplane/v1/trace")
        async def trace(request: Request, after: int = 0, limit: int = 1000) -> Response:
            return self._trace_page(request.headers.get("authorization", ""), after, limit)

        return app

    async def _complete(self, request: Request) -> JSONResponse:
        if self.faults.is_down:
            return _error(503, "The engine is down.")
        grant = self._grant(request.headers.get("authorization", ""))
        if grant is None:
            return _error(401, "The API key is not valid.")
        if self.waits_for_gate and "gate" not in grant.scopes:
            return _error(503, "The adapters are not proven yet on this build of the engine.")
        body = await request.json()
        name = body["model"]
        entry = self._resolve(grant, name)
        if entry is None and not (name == self.fleet and {"base", "gate"} & set(grant.scopes)):
            return _error(404, f"The model `{name}` does not exist.")
        resolved = entry.name if entry else self.fleet
        if entry and self._reports[entry.name].state is not VersionState.PROVEN:
            return _error(503, "The adapter is not ready.")
        if entry is None:
            return await self._answer(body, resolved, entry)
        is_gate = "gate" in grant.scopes
        position = self._note(entry.name, is_gate=is_gate)
        took: dict[str, int] = {}
        try:
            return await self._answer(body, resolved, entry, took=took)
        finally:
            self._note(entry.name, is_gate=is_gate, request=position, **took)

    async def _answer(
        self,
        body: dict[str, Any],
        resolved: str,
        entry: VersionEntry | None,
        *,
        took: dict[str, int] | None = None,
    ) -> JSONResponse:
        self._in_flight[resolved] = self._in_flight.get(resolved, 0) + 1
        try:
            if self.faults.before_answer:
                await self.faults.before_answer(resolved)
            answer = await asyncio.to_thread(
                self.model.generate,
                body["prompt"],
                max_tokens=body.get("max_tokens", 16),
                key=_key(entry.digest) if entry and not self.faults.answers_with_base else None,
            )
        finally:
            self._in_flight[resolved] -= 1
        self.asked.append(resolved)
        usage = {
            "prompt_tokens": len(body["prompt"]),
            "completion_tokens": len(answer.token_ids),
        }
        if took is not None:
            took.update(usage)
        if resolved in self.faults.statuses:
            return _error(self.faults.statuses[resolved], "a test wants it so")
        lie = self.faults.logprob
        choice = {
            "index": 0,
            "text": "",
            "finish_reason": "stop" if answer.ended else "length",
            "token_ids": answer.token_ids,
            "logprobs": {
                "token_logprobs": answer.logprobs if lie is None else [lie] * len(answer.logprobs)
            },
        }
        return JSONResponse(
            {
                "object": "text_completion",
                "model": resolved,
                "choices": [choice],
                "usage": {**usage, "total_tokens": sum(usage.values())},
            }
        )

    def _trace_page(self, authorization: str, after: int, limit: int) -> Response:
        if authorization != f"Bearer {engine_token(self._secret)}":
            return _error(401, "The API key is not valid.")
        events = self.trace[after : after + limit]
        first = min(after, len(self.trace))
        page = TracePage(self.engine_id, first, first + len(events), len(self.trace), events)
        return Response(msgspec.json.encode(page), media_type="application/json")

    def _note(self, name: str, *, is_gate: bool, request: int | None = None, **took: Any) -> int:
        position = len(self.trace)
        kind = TraceKind.ADMITTED if request is None else TraceKind.FINISHED
        asked = position if request is None else request
        self.trace.append(
            TraceEvent(position, time.time(), kind, name, asked, is_gate=is_gate, **took)
        )
        return position

    def _grant(self, authorization: str) -> KeyGrant | None:
        digest = hash_key(authorization.removeprefix("Bearer "), cluster_secret=self._secret)
        keys = self.snapshot.keys if self.snapshot else []
        return next((key for key in keys if key.key_hash == digest), None)

    def _resolve(self, grant: KeyGrant, name: str) -> VersionEntry | None:
        try:
            asked = parse_model_name(name)
        except NameError_:
            return None
        snapshot = self.snapshot
        tenant = asked.tenant or grant.tenant
        is_gate = "gate" in grant.scopes
        if snapshot is None or (tenant != grant.tenant and not is_gate):
            return None
        number = asked.number
        if number is None:
            aliases = {(alias.tenant, alias.adapter): alias.number for alias in snapshot.aliases}
            number = aliases.get((tenant, asked.adapter))
        for entry in snapshot.versions:
            if (entry.tenant, entry.adapter, entry.number) == (tenant, asked.adapter, number):
                return entry if is_gate or entry.role is Role.SERVING else None
        return None


def artifact_folder(store_url: str, digest: str) -> Path:
    """Where a local store keeps an artifact."""
    hexadecimal = digest.removeprefix("sha256:")
    return Path(urlparse(store_url).path) / "sha256" / hexadecimal[:2] / hexadecimal


def _key(digest: str) -> str:
    return "d" + digest.removeprefix("sha256:")[:24]


def _verify(folder: Path, entry: VersionEntry) -> None:
    for file in entry.files:
        path = folder / file.name
        if not path.is_file():
            raise LoadRefused("artifact_not_found", file.name)
        if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            raise LoadRefused("digest_mismatch", file.name)


def _error(status: int, message: str) -> JSONResponse:
    error = {"message": message, "type": "Error", "param": "model", "code": status}
    return JSONResponse({"error": error}, status_code=status)
