"""What steps need of the controller around them, with the standalone side of the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from adapters.base_model import BaseModelCard
from adapters.limits import EngineLimits
from adapters.parity.reference_client import ReferenceClient
from adapters.store import ArtifactStore
from serving.controller.context import ControllerContext
from serving.controller.judge_client import JudgeEndpoint
from serving.controller.registry.repository import Repository
from serving.controller.steps.metrics import StepMetrics
from serving.controller.steps.number_type import NumberTypeTurns
from serving.settings import ControllerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """The controller's open resources, as steps see them."""

    settings: ControllerSettings
    repository: Repository
    store: ArtifactStore
    card: BaseModelCard | None
    gate_key: str
    clock: Callable[[], float]
    metrics: StepMetrics
    reference: ReferenceClient
    judges: tuple[JudgeEndpoint, ...] = ()
    number_types: NumberTypeTurns = field(default_factory=NumberTypeTurns)

    @classmethod
    def of(
        cls,
        context: ControllerContext,
        *,
        reference: ReferenceClient,
        metrics: StepMetrics | None = None,
    ) -> Self:
        """The steps' part of a controller's context; without `metrics`, registers them with it."""
        return cls(
            settings=context.settings,
            repository=context.repository,
            store=context.store,
            card=context.card,
            gate_key=context.gate_key,
            clock=context.clock,
            metrics=metrics or StepMetrics(context.metrics.registry),
            reference=reference,
            judges=context.judges,
        )

    @property
    def artifacts_dir(self) -> Path:
        """Folder of verified local copies; may be emptied at any time between two steps."""
        return self.settings.data_dir / "work" / "artifacts"

    @property
    def dtype(self) -> str:
        """Number type of base and adapters on both sides; `auto` is the base's own."""
        dtype = self.settings.dtype
        return self.card.dtype if dtype == "auto" and self.card is not None else dtype

    def limits(self, card: BaseModelCard) -> EngineLimits:
        """What the fleet's engines can hold."""
        return EngineLimits(
            max_rank=self.settings.max_rank, dtype=self.dtype, target_modules=card.target_modules
        )
