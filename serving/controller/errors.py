"""Errors of the controller, as a tree.

ControllerError
├── AccessError
│   ├── Unauthenticated          no token, or one that nobody holds
│   └── Forbidden                a known token without the needed scope
├── NotFound                     absent, or not this caller's: the two look the same
├── Conflict
│   ├── AlreadyExists            a name that is or was in use
│   ├── IllegalTransition        an event that the version's state does not allow
│   ├── OverrideNeeded           promotion of a version without PASS needs a reason
│   ├── NothingToRollBack        the alias has no previous target that could serve
│   └── IdempotencyConflict      one Idempotency-Key, two different requests
├── RequestInvalid               a request that does not have the documented form
├── LimitExceeded                a count over a stated limit
├── TraceUnavailable             an engine did not hand out its access trace
├── UploadError
│   ├── UploadMalformed          not the multipart form that the API documents
│   └── UploadsBusy              more uploads at once than allowed; try again
└── RegistryError
    ├── Deposed                  a leader's write after another controller has taken over
    ├── RegistryUnavailable      the database did not answer, or stayed busy
    └── RegistryIncompatible     the database has a schema that this version cannot use

Classes carry data; `code` is a stable public slug, `title` a constant sentence. No HTTP word here:
`problems` holds the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ControllerError(Exception):
    """Base of the controller's own errors; `fields` holds the data, JSON-ready."""

    code: ClassVar[str] = "controller_error"
    title: ClassVar[str] = "The controller refused the request."

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(self.detail())

    def detail(self) -> str:
        """One sentence with the data in it."""
        data = ", ".join(f"{key}={value!r}" for key, value in self.fields.items())
        return f"{self.title} ({data})" if data else self.title

    def __str__(self) -> str:
        return self.detail()


class AccessError(ControllerError):
    """The caller may not do this."""

    code = "access_error"


class Unauthenticated(AccessError):
    """No token, or one that nobody holds (unknown, revoked and expired look the same)."""

    code = "unauthenticated"
    title = "A valid bearer token is needed."


class Forbidden(AccessError):
    """A known token without the needed scope."""

    code = "forbidden"
    title = "This token may not do that."

    def __init__(self, *, needed: str) -> None:
        super().__init__(needed=needed)


class NotFound(ControllerError):
    """Absent, or not this caller's: the two look the same."""

    code = "not_found"
    title = "There is no such thing here."

    def __init__(self, *, kind: str, name: str) -> None:
        super().__init__(kind=kind, name=name)


class Conflict(ControllerError):
    """The request is well-formed, but the present state does not allow it."""

    code = "conflict"


class AlreadyExists(Conflict):
    """A name that is or was in use; names are never used again."""

    code = "already_exists"
    title = "The name is taken; names are never used again, even after deletion."

    def __init__(self, *, kind: str, name: str) -> None:
        super().__init__(kind=kind, name=name)


class IllegalTransition(Conflict):
    """An event that the version's state does not allow."""

    code = "illegal_transition"
    title = "The version's state does not allow this."

    def __init__(self, *, state: str, event: str, allowed: Sequence[str]) -> None:
        super().__init__(state=state, event=event, allowed=list(allowed))


class OverrideNeeded(Conflict):
    """Promotion of a version without PASS needs a reason."""

    code = "override_needed"
    title = "The gate has not passed this version; to promote it anyway, give override_reason."

    def __init__(self, *, version: str, verdict: str | None) -> None:
        super().__init__(version=version, verdict=verdict)


class NothingToRollBack(Conflict):
    """The alias has no previous target that could serve."""

    code = "nothing_to_roll_back"
    title = "There is no previous version to roll back to."

    def __init__(self, *, adapter: str) -> None:
        super().__init__(adapter=adapter)


class IdempotencyConflict(Conflict):
    """One Idempotency-Key, two different requests."""

    code = "idempotency_conflict"
    title = "This Idempotency-Key was used for another request."

    def __init__(self, *, key: str, first: str) -> None:
        super().__init__(key=key, first=first)


class RequestInvalid(ControllerError):
    """A request that does not have the documented form; `errors` names each place."""

    code = "request_invalid"
    title = "The request does not have the documented form."

    def __init__(self, *, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(errors=[dict(error) for error in errors])


class LimitExceeded(ControllerError):
    """A count over a stated limit."""

    code = "limit_exceeded"
    title = "A limit is reached."

    def __init__(self, *, what: str, limit: int) -> None:
        super().__init__(what=what, limit=limit)


class TraceUnavailable(ControllerError):
    """An engine did not hand out its access trace; it may be unreachable. Nothing is concluded."""

    code = "trace_unavailable"
    title = "The engine's access trace cannot be had now."

    def __init__(self, *, engine: str, reason: str) -> None:
        super().__init__(engine=engine, reason=reason)


class UploadError(ControllerError):
    """An upload that could not be taken."""

    code = "upload_error"


class UploadMalformed(UploadError):
    """Not the multipart form that the API documents, or one that ended early."""

    code = "upload_malformed"
    title = "The upload is not the documented multipart form."

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason=reason)


class UploadsBusy(UploadError):
    """More uploads at once than allowed; try again after `retry_after_seconds`."""

    code = "uploads_busy"
    title = "As many uploads as allowed are running; try again."

    def __init__(self, *, limit: int, retry_after_seconds: int) -> None:
        super().__init__(limit=limit, retry_after_seconds=retry_after_seconds)


class RegistryError(ControllerError):
    """The registry's database."""

    code = "registry_error"


class RegistryUnavailable(RegistryError):
    """The database did not answer, or stayed busy; nothing was written."""

    code = "registry_unavailable"
    title = "The registry cannot be reached; nothing was changed."

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason=reason)


class Deposed(RegistryError):
    """A leader's write after another controller has taken over; nothing was written."""

    code = "deposed"
    title = "Another controller leads by now; nothing was changed."

    def __init__(self, *, term: int, present: int) -> None:
        super().__init__(term=term, present=present)


class RegistryIncompatible(RegistryError):
    """The database has a schema that this version cannot use."""

    code = "registry_incompatible"
    title = "The registry's schema does not fit this version of loraplane."

    def __init__(self, *, found: str, wanted: str) -> None:
        super().__init__(found=found, wanted=wanted)
