"""What the standalone process says of a request that it could not answer, as this side's errors."""

from __future__ import annotations

from adapters.errors import (
    AdapterError,
    ArtifactNotFound,
    DigestMismatch,
    ReferenceFailed,
    ReferenceUnavailable,
    StoreUnavailable,
    StrictLoadFailed,
    SuiteInvalid,
)
from adapters.parity.protocol import Failure

_ERRORS: dict[str, type[AdapterError]] = {
    kind.code: kind
    for kind in (
        StrictLoadFailed,
        SuiteInvalid,
        ReferenceUnavailable,
        # A process elsewhere fetches the artifact itself.
        ArtifactNotFound,
        DigestMismatch,
        StoreUnavailable,
    )
}


def error_of(failure: Failure) -> AdapterError:
    """The error that the process met; `ReferenceFailed` for any that has no meaning of its own."""
    kind = _ERRORS.get(failure.code)
    if kind is not None:
        return kind(**failure.fields)
    reason = str(failure.fields.get("reason", failure.code))
    return ReferenceFailed(reason=reason, log_tail=str(failure.fields.get("log_tail") or ""))


def is_unheard(error: AdapterError) -> bool:
    """Whether the process's own log may say more than the error does."""
    return isinstance(error, ReferenceFailed) and not error.fields["log_tail"]
