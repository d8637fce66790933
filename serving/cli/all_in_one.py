"""`loraplane up`: which children there are, their environment, and when they are ready."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import httpx

from serving.cli.supervisor import Backoff, ChildSpec, Supervisor, wait_until
from serving.settings import ControllerSettings, EngineSettings, ensure_secret

_CONTROLLER_STOP_SECONDS = 20.0
_ENGINE_STOP_SECONDS = 90.0
"""Longer than the engine's own drain, so that SIGKILL is the exception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpPlan:
    """What to run."""

    controller: ControllerSettings
    n_engines: int = 1
    engine_port: int = 8500
    engine_environment: Mapping[str, str] = field(default_factory=dict)
    """The engine profile's options as `LORAPLANE_*`."""
    restart_seconds: float = 30.0
    """Longest pause before a dead child is started again."""

    @property
    def controller_url(self) -> str:
        """Where the controller will be."""
        return f"http://{_reachable(self.controller.host)}:{self.controller.controller_port}"

    @property
    def engine_urls(self) -> list[str]:
        """Where the engines will be, in order."""
        host = _reachable(self.controller.host)
        return [f"http://{host}:{self.engine_port + i}" for i in range(self.n_engines)]


def child_specs(plan: UpPlan) -> list[ChildSpec]:
    """The controller and the engines; makes missing secrets in the data folder."""
    data_dir = plan.controller.data_dir.absolute()
    secret = ensure_secret(data_dir / "cluster-secret", plan.controller.cluster_secret)
    token = ensure_secret(data_dir / "admin-token", plan.controller.admin_token)
    settings = replace(plan.controller, data_dir=data_dir, cluster_secret=secret, admin_token=token)
    controller = ChildSpec(
        name="controller",
        command=[sys.executable, "-m", "serving.controller"],
        environment=settings.to_environment(),
        stop_order=1,
        stop_seconds=_CONTROLLER_STOP_SECONDS,
    )
    # Engines first in stop order: they drain while the controller still hears their reports.
    return [controller, *(_engine(plan, settings, index) for index in range(plan.n_engines))]


def _engine(plan: UpPlan, controller: ControllerSettings, index: int) -> ChildSpec:
    name = f"engine-{index}"
    # Whatever else the environment says about engines holds for these too.
    settings = EngineSettings.from_environment(
        engine_dir=controller.data_dir / "engines" / name,
        engine_id=name,
        controller_url=plan.controller_url,
        cluster_secret=controller.cluster_secret,
        host=controller.host,
        engine_port=plan.engine_port + index,
        advertise_url=plan.engine_urls[index],
        fleet=controller.fleet,
        log_level=controller.log_level,
    )
    return ChildSpec(
        name=name,
        command=[sys.executable, "-m", "serving.cli", "engine"],
        environment={**settings.to_environment(), **plan.engine_environment},
        stop_seconds=_ENGINE_STOP_SECONDS,
    )


def run_all(plan: UpPlan) -> None:
    """Run until SIGINT or SIGTERM; prints `ready controller=URL engine=URL` when it is."""
    asyncio.run(_run(plan))


async def _run(plan: UpPlan) -> None:
    data_dir = plan.controller.data_dir.absolute()
    supervisor = Supervisor(
        specs=child_specs(plan),
        data_dir=data_dir,
        say=_say,
        backoff=Backoff(longest=plan.restart_seconds),
    )
    supervisor.stop_on_signals()
    _say(f"starting controller and {plan.n_engines} engine(s); logs in {data_dir / 'logs'}")

    async def announce() -> None:
        await wait_until_ready(plan)
        _say(f"ready controller={plan.controller_url} engine={','.join(plan.engine_urls)}")

    await supervisor.run(announce)
    _say("stopped")


async def wait_until_ready(plan: UpPlan) -> None:
    """Return once the controller's /readyz and every engine's /ready have answered 200."""
    urls = [f"{plan.controller_url}/readyz", *(f"{url}/ready" for url in plan.engine_urls)]
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:

        async def is_ready(url: str) -> bool:
            try:
                return (await client.get(url)).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        for url in urls:
            await wait_until(lambda url=url: is_ready(url))  # type: ignore[misc]


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104 - only compared


def _say(text: str) -> None:
    print(text, flush=True)
