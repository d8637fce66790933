"""What is known about the request that is being answered, and what the middleware needs to know it.

The middleware makes a `RequestScope` per request and puts it into a context variable; the hooks in
vLLM's handlers find it there. One request is resolved once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from http import HTTPStatus
from typing import Protocol

from serving.contract import KeyGrant, TracePage
from serving.engine.departure import Departure
from serving.engine.journal import Hold
from serving.engine.resolution import SCOPE_GATE, BaseModel, Resolved, Table


class RequestRefused(Exception):
    """The request is not answered; the fields are those of an OpenAI error."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        self.status, self.code, self.message = status, code, message
        self.kind, self.param = kind, param
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class RequestScope:
    """One authenticated request; mutable, because it is resolved after it is made."""

    __slots__ = (
        "answer",
        "asked_model",
        "grant",
        "hold",
        "is_gate",
        "n_tenants_in_flight",
        "retry_after_seconds",
    )

    def __init__(self, grant: KeyGrant) -> None:
        self.grant = grant
        self.is_gate = SCOPE_GATE in grant.scopes
        """Whether the controller's gate asks."""
        self.asked_model: str | None = None
        self.answer: Resolved | BaseModel | None = None
        """What answers; None until admitted."""
        self.hold: Hold | None = None
        """On the answering version; None for the base model."""
        self.retry_after_seconds: int | None = None
        self.n_tenants_in_flight: int | None = None
        """For the gate's answer."""

    def release(self) -> None:
        """The response has ended, and with it what it held; may be called more than once."""
        if self.hold is not None:
            self.hold.release()

    def answering_name(self) -> str | None:
        """Name of the answering version, None for the base model.

        Raises:
            RequestRefused: the request was not admitted; nothing may answer it.
        """
        if isinstance(self.answer, Resolved):
            return self.answer.entry.name
        if isinstance(self.answer, BaseModel):
            return None
        raise RequestRefused(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "not_admitted",
            "The request was not admitted.",
            kind="server_error",
        )


class Door(Protocol):
    """What the middleware asks; `EngineRuntime` is it."""

    @property
    def table(self) -> Table | None:
        """The followed snapshot; None before the first."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether every key of `table` is let in: False while draining or waiting for the gate."""
        ...

    @property
    def departure(self) -> Departure:
        """Where the engine is on its way out."""
        ...

    def leave(self, seconds: float | None = None) -> None:
        """Stop being ready now, and letting requests in after `seconds` (None: the setting)."""
        ...

    @property
    def waits_for_gate(self) -> bool:
        """Whether tenants are turned away until the gate has measured on this engine."""
        ...

    @property
    def gate_priority(self) -> int:
        """Scheduling class of the gate's requests; tenants' is 0, a higher one waits longer."""
        ...

    def hash_key(self, key: str) -> str:
        """As `serving.contract.hash_key`, with this cluster's secret."""
        ...

    def fingerprint(self, credential: bytes) -> bytes:
        """Of a header that names a key; another one in each process."""
        ...

    def unix_seconds(self) -> float:
        """Wall clock, for the expiry of keys."""
        ...

    def readiness(self) -> str | None:
        """None when ready, else what is waited for."""
        ...

    def is_metrics_token(self, token: str) -> bool:
        """Whether this bearer may read the metrics."""
        ...

    async def refresh_facts(self) -> None:
        """Read the worker's counts again before they are scraped."""
        ...

    def is_engine_token(self, token: str) -> bool:
        """Whether this bearer is the controller: `contract.engine_token`."""
        ...

    async def trace_page(self, after: int, limit: int) -> TracePage | None:
        """Events of the access trace; None where this engine keeps none."""
        ...

    def count_rejection(self, reason: str) -> None:
        """Count a request that was turned away."""
        ...


_scope: ContextVar[RequestScope] = ContextVar("loraplane_request_scope")


def current_scope() -> RequestScope:
    """The scope of the request that this task answers.

    Raises:
        RequestRefused: there is none: the call did not come through the middleware.
    """
    scope = _scope.get(None)
    if scope is None:
        raise RequestRefused(
            HTTPStatus.UNAUTHORIZED, "no_scope", "The request did not come through the front door."
        )
    return scope


def find_scope() -> RequestScope | None:
    """As `current_scope`; None for what is no client's request (a probe)."""
    return _scope.get(None)


enter: Callable[[RequestScope], Token[RequestScope]] = _scope.set
"""Make this the current scope until `leave` is called with what this returns."""
leave: Callable[[Token[RequestScope]], None] = _scope.reset
"""What was the current scope before is it again."""
