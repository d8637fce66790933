"""Errors of the Kubernetes API, as a tree.

KubeError
├── KubeConfigInvalid            neither in a pod nor a usable kubeconfig, or TLS switched off
├── KubeUnreachable              no answer, a broken one, or the server's own trouble: try again
├── KubeTooMuch                  an answer larger than any that this program has a use for
└── KubeRefused                  the server answered, and said no
    ├── KubeNotFound             404
    ├── KubeAlreadyExists        409, a name that is taken
    ├── KubeConflict             409, somebody changed the object meanwhile: read it again
    ├── KubeForbidden            401 or 403: not allowed to this service account
    ├── KubeInvalid              400 or 422: the object does not have a form that is accepted
    ├── KubeExpired              410: the resource version is too old, so list again
    └── KubeThrottled            429: wait `retry_after_seconds`

Decided on status code and the body's `reason`, never on message text. `str(error)` is one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT_MAX = 1000
"""Arbitrary: enough for a validation's message, little enough for a status or a log line."""


class KubeError(Exception):
    """Base: something with the Kubernetes API did not work."""


class KubeConfigInvalid(KubeError):
    """There is no way to the API server that may be used."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class KubeUnreachable(KubeError):
    """No answer from the API server; whether it did what was asked is unknown."""

    def __init__(self, reason: str) -> None:
        self.reason = reason[:_TEXT_MAX]
        super().__init__(self.reason)


class KubeTooMuch(KubeError):
    """More than this program has a use for; nothing of it was used."""

    def __init__(self, *, what: str, limit: int) -> None:
        self.what, self.limit = what, limit
        super().__init__(f"more {what} than {limit}")


class KubeRefused(KubeError):
    """The API server's answer was no.

    `status`: the HTTP status code; `reason`: the machine-readable word of the Status object, empty
    where there is none; `message`: for people only.
    """

    def __init__(self, *, status: int, reason: str = "", message: str = "") -> None:
        self.status, self.reason, self.message = status, reason, message[:_TEXT_MAX]
        super().__init__(f"{status} {reason}: {self.message}")


class KubeNotFound(KubeRefused):
    """There is no such object, or no such kind."""


class KubeAlreadyExists(KubeRefused):
    """The name is taken."""


class KubeConflict(KubeRefused):
    """The object was changed meanwhile, or is not the one that was meant."""


class KubeForbidden(KubeRefused):
    """This service account is not known, or may not do that."""


class KubeInvalid(KubeRefused):
    """The object, or the request, does not have a form that is accepted."""


class KubeExpired(KubeRefused):
    """What the resource version stands for is no longer kept."""


class KubeThrottled(KubeRefused):
    """Too many requests; `retry_after_seconds` is the server's wish, or a second."""

    def __init__(
        self, *, status: int, reason: str = "", message: str = "", retry_after_seconds: float = 1.0
    ) -> None:
        super().__init__(status=status, reason=reason, message=message)
        self.retry_after_seconds = retry_after_seconds


_BY_STATUS: Mapping[int, type[KubeRefused]] = {
    400: KubeInvalid,
    401: KubeForbidden,
    403: KubeForbidden,
    404: KubeNotFound,
    409: KubeConflict,
    410: KubeExpired,
    422: KubeInvalid,
}
_TROUBLE = frozenset({500, 502, 503, 504})


def refusal(status: int, body: Mapping[str, Any], *, retry_after: str | None = None) -> KubeError:
    """The error that an answer means; `body`: its Status object, or `{}`."""
    reason, message = str(body.get("reason") or ""), str(body.get("message") or "")
    if status == 429:
        wait = _seconds(retry_after) or _seconds(_details(body).get("retryAfterSeconds")) or 1.0
        return KubeThrottled(
            status=status, reason=reason, message=message, retry_after_seconds=wait
        )
    if status in _TROUBLE:
        return KubeUnreachable(f"the API server is in trouble: {status} {reason}: {message}")
    kind = _BY_STATUS.get(status, KubeRefused)
    if status == 409 and reason == "AlreadyExists":
        kind = KubeAlreadyExists
    return kind(status=status, reason=reason, message=message)


def _details(body: Mapping[str, Any]) -> Mapping[str, Any]:
    details = body.get("details")
    return details if isinstance(details, Mapping) else {}


def _seconds(value: Any) -> float | None:
    try:
        return max(float(value), 0.0) or None
    except (TypeError, ValueError):
        # A date is allowed in this header; no API server sends one.
        return None
