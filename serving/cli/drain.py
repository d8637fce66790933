"""`loraplane drain`: send the engine on this machine on its way out, and wait until it is empty.

Runs beside the engine with the engine's own environment, as Kubernetes' preStop does; so it knows
neither the controller nor an administrator's token.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Annotated, Any

from serving.cli import views
from serving.cli.errors import EngineSilent, StillInFlight, UsageError_
from serving.cli.options import AsJson, option

_PATH = "/loraplane/v1/drain"
_POLL_SECONDS = 0.25
_ANSWER_SECONDS = 10.0
_ORDER_SECONDS = 15.0
"""How long the order is given again while no answer to it comes; it may be given twice."""
_GONE_SECONDS = 3.0
"""An engine whose port refuses for so long has ended, or not begun; arbitrary."""


def drain(
    timeout: Annotated[
        float | None,
        option(
            "--timeout",
            help="Longest wait for requests in flight, in seconds, once no new ones are let in.",
            show_default=False,
            min=0,
        ),
    ] = None,
    leave_seconds: Annotated[
        float | None,
        option(
            "--leave-seconds",
            help="How long new requests are still let in, in seconds.",
            show_default=False,
            min=0,
            max=3600,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Drain the engine on this machine before it is stopped; 1: requests are left after all."""
    from serving.settings import EngineSettings

    settings = EngineSettings.from_environment(
        drain_timeout_seconds=timeout, leave_seconds=leave_seconds
    )
    engine = _Engine(settings)
    said, empty_by = "", None
    state = engine.order(settings.leave_seconds)
    # SIGTERM follows the end of this verb: one answer that is lost must not end it.
    until = time.monotonic() + settings.leave_seconds + settings.drain_timeout_seconds
    while not (state["state"] == "draining" and state["in_flight"] == 0):
        if state["state"] == "draining":
            empty_by = empty_by or time.monotonic() + settings.drain_timeout_seconds
            if time.monotonic() >= empty_by:
                _finish(state, as_json=as_json)
                raise StillInFlight(
                    n_left=int(state["in_flight"]), seconds=settings.drain_timeout_seconds
                )
        if not as_json and said != (said := _progress(state)):
            views.out.print(said, markup=False, highlight=False)
        time.sleep(_POLL_SECONDS)
        state = engine.look(until=until)
    _finish(state, as_json=as_json)


class _Engine:
    def __init__(self, settings: Any) -> None:
        from serving.contract import engine_token

        if not settings.cluster_secret:
            raise UsageError_(
                "LORAPLANE_CLUSTER_SECRET is not set.",
                fix="Run it with the engine's own environment.",
            )
        self.url = f"http://{_host(settings.host)}:{settings.engine_port}"
        self._headers = {"authorization": f"Bearer {engine_token(settings.cluster_secret)}"}

    def order(self, leave_seconds: float) -> dict[str, Any]:
        """Send it on its way; what it says of itself then."""
        until = time.monotonic() + _ORDER_SECONDS
        return self._ask("POST", {"leave_seconds": leave_seconds}, until=until)

    def look(self, *, until: float) -> dict[str, Any]:
        """What it says of itself; waits for an answer `until` then (monotonic seconds)."""
        return self._ask("GET", None, until=until)

    def _ask(self, method: str, body: dict[str, Any] | None, *, until: float) -> dict[str, Any]:
        refused_at: float | None = None
        while True:
            try:
                return self._call(method, body, seconds=until - time.monotonic())
            except _NoAnswer as exc:
                now = time.monotonic()
                refused_at = (refused_at or now) if exc.is_refused else None
                is_gone = refused_at is not None and now - refused_at >= _GONE_SECONDS
                if is_gone or now >= until:
                    raise EngineSilent(url=self.url, reason=exc.reason) from exc
            time.sleep(_POLL_SECONDS)

    def _call(self, method: str, body: dict[str, Any] | None, *, seconds: float) -> dict[str, Any]:
        import httpx

        try:
            response = httpx.request(
                method, self.url + _PATH, json=body, headers=self._headers,
                timeout=min(_ANSWER_SECONDS, max(1.0, seconds)), trust_env=False,
            )  # fmt: skip
        except httpx.TransportError as exc:
            is_refused = isinstance(exc, httpx.ConnectError)
            raise _NoAnswer(type(exc).__name__, is_refused=is_refused) from exc
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise UsageError_(
                f"The engine at {self.url} has another cluster secret.",
                fix="Run it with the engine's own environment.",
            )
        reason = f"HTTP {response.status_code}"
        if response.is_client_error:
            raise EngineSilent(url=self.url, reason=reason)
        if response.status_code != HTTPStatus.OK:
            raise _NoAnswer(reason, is_refused=False)
        return dict(response.json())


class _NoAnswer(Exception):
    def __init__(self, reason: str, *, is_refused: bool) -> None:
        self.reason, self.is_refused = reason, is_refused
        super().__init__(reason)


def _host(host: str) -> str:
    if host in {"0.0.0.0", ""}:  # noqa: S104 - only compared
        return "127.0.0.1"
    if host == "::":
        # Of the same family: a server on "::" need not take IPv4.
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _progress(state: dict[str, Any]) -> str:
    text = f"{state['state']}: {state['in_flight']} in flight"
    if state["state"] == "leaving":
        text += f"; new requests are let in for {state['admits_for_seconds']:.0f} s more"
    return text


def _finish(state: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        is_drained = state["state"] == "draining" and state["in_flight"] == 0
        views.print_json({**state, "drained": is_drained})
    elif state["in_flight"] == 0:
        views.out.print("drained: nothing is in flight", markup=False, highlight=False)
