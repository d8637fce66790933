"""The registry's front door: one object per resource over one database."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.controller.registry.audit import Audit
from serving.controller.registry.capacity import Capacity
from serving.controller.registry.capacity_samples import CapacitySamples
from serving.controller.registry.clearances import Clearances
from serving.controller.registry.fleet import Fleet
from serving.controller.registry.leadership import Leadership
from serving.controller.registry.managed import Managed
from serving.controller.registry.policies import Policies
from serving.controller.registry.rechecks import Rechecks
from serving.controller.registry.report_writer import ReportWriter
from serving.controller.registry.residency import Residency
from serving.controller.registry.tenants import Tenants
from serving.controller.registry.transactions import Sessions
from serving.controller.registry.versions import Versions
from serving.controller.registry.work import Work


class Repository:
    """Everything that the controller remembers.

    Rows come back detached: read them anywhere, change them only through these methods.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.time,
        sessions: Sessions | None = None,
        reports: ReportWriter | None = None,
    ) -> None:
        """`sessions`, `reports`: those of a registry that is open already, at the same URL."""
        self.sessions = sessions or Sessions(url, clock=clock)
        self.tenants = Tenants(self.sessions)
        self.versions = Versions(self.sessions)
        self.work = Work(self.sessions)
        self.managed = Managed(self.sessions)
        self.fleet = Fleet(self.sessions, reports=reports)
        self.audit = Audit(self.sessions)
        self.policies = Policies(self.sessions)
        self.rechecks = Rechecks(self.sessions)
        self.clearances = Clearances(self.sessions)
        self.capacity = Capacity(self.sessions)
        self.samples = CapacitySamples(self.sessions)
        self.residency = Residency(self.sessions)
        self.leadership = Leadership(self.sessions)

    def under(self, term: int | None) -> Repository:
        """This registry for the leader of a term: every write raises Deposed once it is over.

        It shares the connections and is not closed. None: a controller that is alone, no fence.
        """
        if term is None:
            return self
        return Repository(
            self.sessions.url, sessions=self.sessions.under(term), reports=self.fleet.reports
        )

    async def prepare(self) -> None:
        """Bring the schema up to date, alone among replicas; needed once before use.

        Raises:
            RegistryUnavailable: the database did not answer.
            RegistryIncompatible: a newer loraplane has changed the schema.
        """
        from serving.controller.registry.migrations import migrate

        await migrate(self.sessions)

    async def close(self) -> None:
        """Close all connections."""
        await self.sessions.close()
