"""What every route and step of one controller process shares, and where its data is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from adapters.base_model import BaseModelCard
from adapters.store import ArtifactStore
from serving.contract import gate_key
from serving.controller.judge_client import JudgeEndpoint
from serving.controller.metrics import ControllerMetrics
from serving.controller.notifier import Notifier
from serving.controller.registry.repository import Repository
from serving.settings import ControllerSettings, ensure_secret


def _nobody() -> None:
    """Nobody is there to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerContext:
    """One controller's world, built once by `app.build_context`."""

    settings: ControllerSettings
    repository: Repository
    store: ArtifactStore
    card: BaseModelCard | None
    """None: no model is set, so nothing can be validated or evaluated."""
    cluster_secret: str = field(repr=False)
    admin_token: str = field(repr=False)
    notifier: Notifier
    metrics: ControllerMetrics
    clock: Callable[[], float]
    judges: tuple[JudgeEndpoint, ...] = ()
    hint: Callable[[], None] = _nobody
    """Tells the loop that something is due."""

    @property
    def gate_key(self) -> str:
        """The gate's API key on engines."""
        return gate_key(self.cluster_secret)

    @property
    def uploads_dir(self) -> Path:
        """Folder of uploads under way."""
        return self.settings.data_dir / "uploads"


def database_url(settings: ControllerSettings) -> str:
    """The registry's URL; by default a file in the data folder."""
    path = settings.data_dir.resolve() / "registry.sqlite"
    return settings.database_url or f"sqlite+aiosqlite:///{path}"


def store_url(settings: ControllerSettings) -> str:
    """The artifact store's URL, as engines get it; by default a folder in the data folder."""
    return settings.store_url or (settings.data_dir.resolve() / "artifacts").as_uri()


def secrets_of(settings: ControllerSettings) -> tuple[str, str]:
    """(cluster secret, admin token), made at first start."""
    folder: Path = settings.data_dir
    return (
        ensure_secret(folder / "cluster-secret", settings.cluster_secret),
        ensure_secret(folder / "admin-token", settings.admin_token),
    )
