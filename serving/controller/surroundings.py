"""The seam between a controller and what it runs in: who leads, and what runs beside the loop.

By default a controller is alone on a machine: it leads at once and for as long as it lives. What
runs several of it (Kubernetes: `serving.kube`) gives it other surroundings, and the controller
knows no more of them than this file says.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from adapters.parity.reference_client import ReferenceClient
from serving.controller.context import ControllerContext

Work = Callable[[int | None], Awaitable[None]]
"""What only the leader does, for a term; it returns early once it finds a later term begun."""


class Leadership(Protocol):
    """Decides which one of several controllers runs the steps."""

    @property
    def is_leading(self) -> bool:
        """Whether the work runs now."""
        ...

    async def lead(self, work: Work) -> None:
        """Run `work(term)` whenever and as long as this process leads, until cancelled.

        The work is cancelled when the lead is lost, and has ended before it is begun again. Terms
        only grow, over all processes; None: nobody else can lead.
        """
        ...


class Alone:
    """The leadership of a controller that has no other beside it."""

    def __init__(self) -> None:
        self.is_leading = False

    async def lead(self, work: Work) -> None:
        """Run it at once."""
        self.is_leading = True
        try:
            await work(None)
        finally:
            self.is_leading = False


@dataclass(frozen=True, slots=True)
class Companion:
    """Something that runs beside the loop, only while this process leads.

    `run` works until cancelled, and is begun again after a pause when it fails. What it writes to
    the registry is fenced like the loop's own writes: it must let `Deposed` through.
    """

    name: str
    """As `task` in `loraplane_background_failures_total`."""
    run: Callable[[ControllerContext], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What one controller process runs in."""

    leadership: Leadership = field(default_factory=Alone)
    reference: Callable[[ControllerContext], ReferenceClient] | None = None
    """Makes the gate's standalone side, at the begin of each lead; None: a process of our own."""
    companions: tuple[Companion, ...] = ()


OpenSurroundings = Callable[[ControllerContext], AbstractAsyncContextManager[Surroundings]]
"""Entered when the controller starts, left after all that ran in them has ended."""


@contextlib.asynccontextmanager
async def alone(context: ControllerContext) -> AsyncIterator[Surroundings]:
    """The surroundings of a controller on a machine of its own."""
    yield Surroundings()
