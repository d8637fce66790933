"""Who calls, and what that caller may do. Deny by default: every route names its access rule here.

Another tenant's thing and a thing that does not exist look the same: `NotFound`.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Annotated, cast

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serving.contract import derive_secret, engine_token, hash_key
from serving.controller.context import ControllerContext
from serving.controller.errors import Forbidden, NotFound, Unauthenticated

KEY_PREFIX = "lp_"
SHOWN_CHARACTERS = 11
"""How much of a key is kept readable, so that people recognise it."""
TAG_CHARACTERS = 10
"""Hex, 40 bits: any two of 10,000 tenants share a tag with a chance of 5e-5, and then an engine."""


class Scope(StrEnum):
    """What a tenant's key may do."""

    INFERENCE = "inference"
    """Use this tenant's adapters on the engines."""
    BASE = "base"
    """Use the base model on the engines."""
    READ = "read"
    """See this tenant's adapters, versions, reports and events."""
    PUSH = "push"
    """Upload versions and suites, ask for a new evaluation."""
    PROMOTE = "promote"
    """Promote, roll back, retire."""


DEFAULT_SCOPES = (Scope.INFERENCE, Scope.READ, Scope.PUSH)


class CallerKind(StrEnum):
    """Three kinds of token."""

    ADMIN = "admin"
    TENANT = "tenant"
    ENGINE = "engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller; `actor` is how the audit names it."""

    kind: CallerKind
    actor: str
    tenant_id: str | None = None
    scopes: frozenset[str] = frozenset()


def make_key(tenant_id: str, *, cluster_secret: str) -> str:
    """A new API key: 256 random bits, a dot, and its tenant's tag.

    The tag is no secret and grants nothing: a load balancer, which knows no keys, hashes it so that
    all keys of a tenant meet the same engine. It does not tell the tenant's name to who lacks the
    cluster's secret.
    """
    return f"{KEY_PREFIX}{secrets.token_urlsafe(32)}.{tenant_tag(tenant_id, cluster_secret)}"


def tenant_tag(tenant_id: str, cluster_secret: str) -> str:
    """The same for each key of a tenant, whenever it is made."""
    return derive_secret(cluster_secret, f"tenant tag {tenant_id}")[:TAG_CHARACTERS]


async def identify(context: ControllerContext, token: str) -> Caller:
    """Whose token this is.

    Raises:
        Unauthenticated: nobody's (or revoked, or expired).
    """
    given = token.encode()
    if hmac.compare_digest(given, context.admin_token.encode()):
        return Caller(kind=CallerKind.ADMIN, actor="admin")
    if hmac.compare_digest(given, engine_token(context.cluster_secret).encode()):
        return Caller(kind=CallerKind.ENGINE, actor="engine")
    if not token.startswith(KEY_PREFIX):
        raise Unauthenticated
    row = await context.repository.tenants.find_key(
        hash_key(token, cluster_secret=context.cluster_secret)
    )
    if row is None:
        raise Unauthenticated
    return Caller(
        kind=CallerKind.TENANT,
        actor=f"key:{row.prefix}",
        tenant_id=row.tenant_id,
        scopes=frozenset(row.scopes),
    )


def context_of(request: Request) -> ControllerContext:
    """The context of the app that answers this request."""
    return cast("ControllerContext", request.app.state.context)


async def _context(request: Request) -> ControllerContext:
    # Not `context_of` itself: what is no coroutine is called in a thread, at every request.
    return context_of(request)


_bearer = HTTPBearer(auto_error=False, description="Admin token or a tenant's API key.")


async def authenticated(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Any known caller.

    Raises:
        Unauthenticated: no token, or nobody's.
    """
    if credentials is None:
        raise Unauthenticated
    return await identify(context_of(request), credentials.credentials)


Endpoint = Callable[[Request], Awaitable[Response]]


def for_engines(endpoint: Endpoint) -> Endpoint:
    """The endpoint of a plain route, `engine_only`; `access_rule` of it says so.

    It raises Unauthenticated and Forbidden as the rule does, before it reads anything else.
    """

    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        await engine_only(await authenticated(request, await _bearer(request)))
        return await endpoint(request)

    guarded.access_rule = engine_only  # type: ignore[attr-defined]
    return guarded


AnyCaller = Annotated[Caller, Depends(authenticated)]


async def admin_only(caller: AnyCaller) -> Caller:
    """The administrator alone.

    Raises:
        Forbidden: any other known caller.
    """
    if caller.kind is not CallerKind.ADMIN:
        raise Forbidden(needed="the admin token")
    return caller


async def engine_only(caller: AnyCaller) -> Caller:
    """Engines alone.

    Raises:
        Forbidden: any other known caller.
    """
    if caller.kind is not CallerKind.ENGINE:
        raise Forbidden(needed="the engine token")
    return caller


def may(caller: Caller, tenant: str, scope: Scope) -> None:
    """Check a caller against one tenant's things.

    Raises:
        NotFound: another tenant's key; the same as for a tenant that does not exist.
        Forbidden: this tenant's key, without the scope.
    """
    if caller.kind is CallerKind.ADMIN:
        return
    if caller.kind is not CallerKind.TENANT or caller.tenant_id != tenant:
        raise NotFound(kind="tenant", name=tenant)
    if scope not in caller.scopes:
        raise Forbidden(needed=f"scope {scope.value}")


def _tenant_access(scope: Scope) -> Callable[[str, Caller], Awaitable[Caller]]:
    async def check(tenant: str, caller: AnyCaller) -> Caller:
        may(caller, tenant, scope)
        return caller

    return check


Context = Annotated[ControllerContext, Depends(_context)]
Admin = Annotated[Caller, Depends(admin_only)]
Reader = Annotated[Caller, Depends(_tenant_access(Scope.READ))]
Pusher = Annotated[Caller, Depends(_tenant_access(Scope.PUSH))]
Promoter = Annotated[Caller, Depends(_tenant_access(Scope.PROMOTE))]
