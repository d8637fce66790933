"""Errors of the command line, as a tree; each knows its exit code and how to fix it.

CliError
├── Refused (1)
│   ├── RequestRefused       the controller said no; carries its problem+json
│   ├── VerdictRefused       a version that was rejected, or that the gate did not pass
│   └── StillInFlight        an engine that was not empty when the stated time was over
├── UsageError_ (2)          something on the command line cannot be meant
└── Unavailable (3)
    ├── Unreachable          no answer from the address
    ├── EngineSilent         no usable answer from the engine on this machine
    ├── LoadUnanswered       no request of a load got any answer
    ├── ServerFailed         an answer, but of a server in trouble
    └── TookTooLong          still going on when the stated time was over
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class CliError(Exception):
    """Base; `exit_code` is what the process ends with, `fix` what a person can do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.fix = fix
        super().__init__(message)


class Refused(CliError):
    """A definite no."""

    exit_code = 1


class RequestRefused(Refused):
    """The controller said no."""

    def __init__(self, *, status: int, problem: Mapping[str, Any], fix: str = "") -> None:
        self.status = status
        self.problem = dict(problem)
        title = str(problem.get("title") or f"HTTP {status}")
        detail = str(problem.get("detail") or "")
        super().__init__(
            detail if detail.startswith(title) else f"{title} {detail}".strip(), fix=fix
        )

    @property
    def code(self) -> str:
        """The problem's stable slug."""
        return str(self.problem.get("code", ""))

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """Preflight findings that came with the refusal."""
        found = self.problem.get("findings") or self.problem.get("errors") or ()
        return [item for item in found if isinstance(item, dict)]


class VerdictRefused(Refused):
    """A version that will not take traffic; carries the version as the controller shows it."""

    def __init__(self, version: Mapping[str, Any]) -> None:
        self.version = dict(version)
        super().__init__(f"{version.get('name', 'the version')} is {version.get('state')}.")


class StillInFlight(Refused):
    """The engine turns new requests away and still answers old ones."""

    def __init__(self, *, n_left: int, seconds: float) -> None:
        self.n_left = n_left
        super().__init__(
            f"{n_left} requests were still in flight after {seconds:.0f} seconds.",
            fix="Wait longer with --timeout; on SIGTERM the engine waits for them once more, as "
            "long as its profile's shutdown_timeout_seconds.",
        )


class UsageError_(CliError):  # noqa: N801 - click has a `UsageError`
    """Something on the command line cannot be meant."""

    exit_code = 2


class Unavailable(CliError):
    """No definite answer; trying again may help."""

    exit_code = 3


class Unreachable(Unavailable):
    """No answer from the address."""

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(
            f"The controller at {url} does not answer ({reason}).",
            fix="Start one with `loraplane up`, or set LORAPLANE_URL (or --url) to where it is.",
        )


class EngineSilent(Unavailable):
    """No usable answer from the engine on this machine."""

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(
            f"The engine at {url} does not answer ({reason}).",
            fix="Is it running here, with this LORAPLANE_ENGINE_PORT? One that still loads its "
            "model has nothing to drain.",
        )


class LoadUnanswered(Unavailable):
    """No request of a load got any answer."""

    def __init__(self, *, url: str, reason: str) -> None:
        super().__init__(
            f"No request to {url} was answered ({reason}).",
            fix="Is it the server's address, without /v1?",
        )


class ServerFailed(Unavailable):
    """An answer, but of a server in trouble."""

    def __init__(self, *, url: str, status: int, detail: str) -> None:
        super().__init__(
            f"The controller at {url} answered {status}: {detail}",
            fix="Try again; if it stays, look at the controller's log and /readyz.",
        )


class TookTooLong(Unavailable):
    """Still going on when the stated time was over."""

    def __init__(self, *, what: str, seconds: float) -> None:
        super().__init__(
            f"{what} was not over after {seconds:.0f} seconds.",
            fix="It goes on by itself: look with `loraplane show`, or wait longer with --timeout.",
        )
